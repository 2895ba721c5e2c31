"""`funnel export` and `funnel republish`: a range of the journal, to a file or to a topic."""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import orjson
import typer

from funnel import servers
from funnel.cli.instants import instant
from funnel.cli.output import audited_output
from funnel.cli.progress import progress_of
from funnel.cli.quiet import quiet_logs
from funnel.settings import Settings, load_settings

if TYPE_CHECKING:
    from audit.export import Manifest, Report
    from audit.ranges import Range

app = typer.Typer()

Since = Annotated[
    datetime | None, typer.Option("--since", parser=instant, help="Settled then or later.")
]
Until = Annotated[
    datetime | None, typer.Option("--until", parser=instant, help="Settled before then.")
]
Lane = Annotated[int | None, typer.Option("--lane", min=0, help="Of this lane only.")]
First = Annotated[
    int | None, typer.Option("--from-sequence", min=1, help="From this result of the lane.")
]
Last = Annotated[
    int | None, typer.Option("--to-sequence", min=1, help="Up to this result of the lane.")
]
Organization = Annotated[UUID | None, typer.Option("--organization", help="Of this one only.")]
Candidate = Annotated[
    UUID | None, typer.Option("--candidate", help="Of this candidate of the organization only.")
]
Operation = Annotated[UUID | None, typer.Option("--operation", help="Of this bulk operation only.")]
Json = Annotated[bool, typer.Option("--json", help="The summary as one JSON object.")]


class Events(StrEnum):
    """Which events are republished."""

    CHANGES = "changes"
    RESULTS = "results"
    ALL = "all"


@app.command()
def export(
    path: Annotated[Path, typer.Argument(metavar="FILE")],
    since: Since = None,
    until: Until = None,
    lane: Lane = None,
    from_sequence: First = None,
    to_sequence: Last = None,
    organization: Organization = None,
    candidate: Candidate = None,
    operation: Operation = None,
    commands: Annotated[
        bool, typer.Option("--commands", help="Add each command as received, from its topic.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the same export, cut short before.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a range of the journal to FILE as JSON Lines (zstd), its manifest beside it.

    Holds personal data. `funnel verify --export FILE` checks it with no server at hand.
    """
    settings = load_settings()
    quiet_logs(settings)
    asked = _range(
        since, until, lane, from_sequence, to_sequence, organization, candidate, operation
    )
    with servers.reaching_database(), progress_of("export") as report:
        manifest = asyncio.run(
            _export(settings, asked, path, resume=resume, commands=commands, report=report)
        )
    if json:
        told = {"rows": manifest.rows, "counts": manifest.counts, "digest": manifest.digest()}
        typer.echo(orjson.dumps(told))
        return
    kinds = ", ".join(f"{total:,} {kind}" for kind, total in manifest.counts.items())
    typer.echo(f"{manifest.rows:,} journal rows ({kinds or 'nothing'}), {manifest.digest()}")


@app.command()
def republish(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Never one of our own.")],
    events: Annotated[Events, typer.Option("--events", help="Which.")] = Events.CHANGES,
    since: Since = None,
    until: Until = None,
    lane: Lane = None,
    from_sequence: First = None,
    to_sequence: Last = None,
    organization: Organization = None,
    candidate: Candidate = None,
    operation: Operation = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=1, help="Events a second, at most.")
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the topic if it is not there.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on behind the last event that TOPIC has.")
    ] = False,
    json: Json = False,
) -> None:
    """Write events of a range of the journal to TOPIC once more, byte for byte.

    TOPIC has as many partitions as there are lanes. An interrupted run goes on with --resume and
    the same options: no event is repeated, none is left out. Where data was erased, the event is
    a tombstone. A range in months that were dropped is refused with exit code 65.
    """
    from audit.republish import republish as run

    settings = load_settings()
    quiet_logs(settings)
    asked = _range(
        since, until, lane, from_sequence, to_sequence, organization, candidate, operation
    )
    names = settings.topics
    of = {
        Events.CHANGES: {names.changes},
        Events.RESULTS: {names.results},
        Events.ALL: {names.changes, names.results},
    }[events]
    with servers.reaching_database(), progress_of("republish") as report:
        sent = asyncio.run(
            run(
                servers.database_url(settings),
                audited_output(settings),
                asked,
                topic,
                of=frozenset(of),
                report=report,
                rate=rate,
                create=create,
                resume=resume,
            )
        )
    if json:
        typer.echo(orjson.dumps({"events": sent}))
    elif sent:
        typer.echo(f"{sent:,} events to {topic}")
    else:
        typer.echo(f"no events to {topic}: the range has none that it does not hold")


async def _export(
    settings: Settings,
    asked: "Range",
    path: Path,
    *,
    resume: bool,
    commands: bool,
    report: "Report",
) -> "Manifest":
    from audit.command_records import command_records
    from audit.export import export as run

    async with AsyncExitStack() as opened:
        records = None
        if commands:
            reader = command_records(servers.kafka_options(settings), settings.topics.commands)
            records = (await opened.enter_async_context(reader)).of
        return await run(
            servers.database_url(settings),
            asked,
            path,
            report=report,
            resume=resume,
            commands=records,
        )


def _range(
    since: datetime | None,
    until: datetime | None,
    lane: int | None,
    first: int | None,
    last: int | None,
    organization: UUID | None,
    candidate: UUID | None,
    operation: UUID | None,
) -> "Range":
    from audit.ranges import Range

    return Range(
        lane=lane,
        first=first,
        last=last,
        since=since,
        until=until,
        organization_id=organization,
        candidate_id=candidate,
        operation_id=operation,
    )
