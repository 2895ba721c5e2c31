"""`funnel dead-letters list|show|redrive`: the queue of what no result could answer.

Exit codes: 0; 65 there is no such letter, or too much of what was redriven died again; 75 some of
it is not settled yet.
"""

import asyncio
import getpass
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import orjson
import typer

from contract.dead_letters import DeadLetterId
from funnel import servers
from funnel.cli.progress import progress
from funnel.cli.quiet import quiet_logs
from funnel.exits import BAD_DATA, TRY_AGAIN
from funnel.settings import load_settings

if TYPE_CHECKING:
    from audit.dead_letters import Filter, Letter
    from audit.operators import Operators
    from audit.redrive_campaign import Pace, Summary

app = typer.Typer()
dead_letters = typer.Typer(
    help="What no result could answer: look at it, send it again.", no_args_is_help=True
)
app.add_typer(dead_letters, name="dead-letters")

TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"]

Code = Annotated[list[str] | None, typer.Option("--code", help="Error code; repeatable.")]
Since = Annotated[
    datetime | None, typer.Option(formats=TIMES, metavar="TIME", help="Died at or after; UTC.")
]
Until = Annotated[
    datetime | None, typer.Option(formats=TIMES, metavar="TIME", help="Died before; UTC.")
]
Organization = Annotated[UUID | None, typer.Option("--organization", help="As far as known.")]
Lane = Annotated[int | None, typer.Option("--lane", min=0)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@dead_letters.command("list")
def list_letters(
    code: Code = None,
    since: Since = None,
    until: Until = None,
    organization: Organization = None,
    lane: Lane = None,
    redriven: Annotated[
        bool | None, typer.Option("--redriven/--not-redriven", help="By default both.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200)] = 50,
    after: Annotated[str | None, typer.Option("--after", help="Behind this id.")] = None,
    json: Json = False,
) -> None:
    """List dead letters, oldest first; the last line tells how to see more."""
    wanted = _filter(code, since, until, organization, lane, redriven)
    behind = None if after is None else _letter_id(after)

    async def read() -> "list[Letter]":
        from audit.dead_letters import Place, read_letter, read_page

        async with _operators() as operators:
            place = None
            if behind is not None:
                found = await read_letter(operators, behind)
                place = Place(found.recorded_at, *behind)
            return await read_page(operators, wanted, after=place, letters_max=limit)

    letters = asyncio.run(read())
    for letter in letters:
        typer.echo(orjson.dumps(_listed(letter)) if json else _line(letter))
    if len(letters) == limit:
        typer.echo(f"more: --after {letters[-1].id}", err=True)


@dead_letters.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="<lane>-<sequence>")],
    show_values: Annotated[
        bool, typer.Option("--show-values", help="All that the record holds: personal data.")
    ] = False,
    as_hex: Annotated[
        bool, typer.Option("--hex", help="The value as hex digits; needs --show-values.")
    ] = False,
    json: Json = False,
) -> None:
    """Show one dead letter: its record, how this version reads it, and its redrives."""
    from audit.dead_letters import read_letter
    from audit.letter_text import described

    letter_id = _letter_id(letter)

    async def read() -> dict[str, Any]:
        async with _operators() as operators:
            found = await read_letter(operators, letter_id)
        return described(found, show_values=show_values, as_hex=as_hex)

    told = asyncio.run(read())
    if json:
        typer.echo(orjson.dumps(told, default=str))
        return
    for name, value in told.items():
        shown = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
        typer.echo(f"{name:16} {shown}")


@dead_letters.command()
def redrive(
    letters: Annotated[list[str] | None, typer.Argument(metavar="[ID]...")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that the filters leave, oldest first.")
    ] = False,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    organization: Organization = None,
    lane: Lane = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also what was redriven before, or died of it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be sent, send nothing.")
    ] = False,
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=1000, help="A second.")] = 50,
    failures_max: Annotated[
        float, typer.Option("--failures-max", min=0, max=1, help="Share that stops it.")
    ] = 0.1,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds for each wave.")] = 60,
    json: Json = False,
) -> None:
    """Send dead letters to the commands topic again: first 1, then 10, then 100 at a time.

    Each wave's outcomes are awaited; it stops when too many die again. One line in the audit
    trail for each (`show` prints them). A letter that was redriven is not sent again without
    --again.
    """
    from audit.redrive_campaign import Pace

    if bool(letters) == everything:
        raise typer.BadParameter("either ids or --all")
    wanted = _filter(code, since, until, organization, lane, None if again else False)
    if letters:
        if (code, since, until, organization, lane) != (None,) * 5:
            raise typer.BadParameter("filters go with --all")
        wanted = replace(wanted, redriven=None, ids=tuple(map(_letter_id, letters)))
    pace = Pace(per_second=rate, failures_share_max=failures_max, wait=timedelta(seconds=wait))
    if dry_run:
        asyncio.run(_tell_plan(wanted, json=json))
        return
    summary = asyncio.run(_redrive(wanted, again=again, pace=pace))
    _tell_summary(summary, json=json)
    if summary.stopped or (letters and summary.sent < len(set(letters))):
        raise typer.Exit(BAD_DATA)
    if summary.outcomes["pending"]:
        raise typer.Exit(TRY_AGAIN)


async def _redrive(wanted: "Filter", *, again: bool, pace: "Pace") -> "Summary":
    from audit.redrive import Redrives
    from audit.redrive_campaign import planned, queued, redrive_all
    from funnel.redriving import redrive_sender

    async with _operators() as operators, redrive_sender(load_settings()) as sender:
        total = (await planned(queued(operators, wanted))).letters
        redrives = Redrives(operators, sender, requested_by=_who())
        await redrives.finish_open()
        with progress("redrive", total) as report:
            summary = await redrive_all(
                redrives, queued(operators, wanted), again=again, pace=pace, report=report
            )
    if wanted.ids is not None and (unknown := len(set(wanted.ids)) - total):
        summary.skipped["unknown"] += unknown
    return summary


async def _tell_plan(wanted: "Filter", *, json: bool) -> None:
    from audit.redrive_campaign import planned, queued

    async with _operators() as operators:
        plan = await planned(queued(operators, wanted))
    if json:
        typer.echo(orjson.dumps(asdict(plan)))
        return
    typer.echo(f"{plan.letters:,} letters, {plan.record_bytes:,} bytes would be sent")
    for name, total in sorted(plan.codes.items()):
        typer.echo(f"  {name:16} {total:,}")
    if plan.redriven_before:
        typer.echo(f"{plan.redriven_before:,} of them only with --again: redriven before")


def _tell_summary(summary: "Summary", *, json: bool) -> None:
    if json:
        failures = [
            {"id": str(each.letter_id), "outcome": each.outcome, "reason": each.reason,
             "ended": None if each.ended is None else str(each.ended)}
            for each in summary.failures
        ]  # fmt: skip
        typer.echo(orjson.dumps({
            "sent": summary.sent, "outcomes": summary.outcomes, "skipped": summary.skipped,
            "failures": failures, "stopped": summary.stopped,
        }))  # fmt: skip
        return
    for each in summary.failures:
        end = f", again as {each.ended}" if each.ended and each.outcome == "dead_lettered" else ""
        typer.echo(f"{each.letter_id}: {each.outcome} {each.reason or ''}{end}".rstrip())
    outcomes = ", ".join(f"{total:,} {name}" for name, total in summary.outcomes.items() if total)
    typer.echo(f"{summary.sent:,} sent{': ' if outcomes else ''}{outcomes}")
    for why, total in summary.skipped.items():
        hint = " (--again sends them once more)" if why == "redriven_before" else ""
        typer.echo(f"{total:,} not sent: {why}{hint}")
    if summary.stopped:
        typer.echo(f"funnel: stopped: {summary.stopped}", err=True)


@asynccontextmanager
async def _operators() -> "AsyncIterator[Operators]":
    from audit.operators import open_operators

    settings = load_settings()
    quiet_logs(settings)
    with servers.reaching_database():
        async with open_operators(servers.database_url(settings)) as operators:
            yield operators


def _filter(
    code: list[str] | None,
    since: datetime | None,
    until: datetime | None,
    organization: UUID | None,
    lane: int | None,
    redriven: bool | None,
) -> "Filter":
    from audit.dead_letters import Filter

    return Filter(
        codes=tuple(code) if code else None,
        since=_utc(since),
        until=_utc(until),
        organization_id=None if organization is None else str(organization),
        lane=lane,
        redriven=redriven,
    )


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)


def _letter_id(text: str) -> DeadLetterId:
    try:
        return DeadLetterId.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _listed(letter: "Letter") -> dict[str, Any]:
    return letter._asdict() | {"id": str(letter.id)}


def _line(letter: "Letter") -> str:
    state = "-"
    if letter.redriven_at is not None:
        state = f"redriven {letter.outcome or 'under way'}"
    if letter.redrive_of is not None:
        state += f", died after redrive of {letter.redrive_of}"
    return (
        f"{letter.id!s:14} {letter.recorded_at:%Y-%m-%d %H:%M:%S} {letter.error_code:16}"
        f" {letter.organization_id or '-':36} {letter.record_bytes:>9,} B  {state}"
    )
