"""`funnel replay-diff`: exit 0 when this build settles a window as it was settled, else 65."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from funnel import servers
from funnel.cli.progress import progress_of
from funnel.cli.quiet import quiet_logs
from funnel.cli.replay import First, Lane, Last, Since, Until
from funnel.cli.verify import tell_differences, tell_differences_json
from funnel.exits import BAD_DATA
from funnel.settings import Settings, load_settings

if TYPE_CHECKING:
    from audit.findings import Findings, Report
    from audit.ranges import Range

app = typer.Typer()


@app.command("replay-diff")
def replay_diff(
    since: Since = None,
    until: Until = None,
    lane: Lane = None,
    from_sequence: First = None,
    to_sequence: Last = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="The commands of this export, made with --commands."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: differences, then a summary.")
    ] = False,
) -> None:
    """Settle a window of commands again with this build, and tell each outcome that differs.

    Emits nothing and writes nothing: the commands are settled in temporary tables. Commands that
    control or erase are left out, and so are those about candidates erased since, those whose
    record is gone, and what bulk operations did in the background: the summary says how many.
    """
    from audit.ranges import Range
    from consumer.tolerant import tolerate_hostile_batches

    settings = load_settings()
    quiet_logs(settings)
    tolerate_hostile_batches()
    asked = Range(since=since, until=until, lane=lane, first=from_sequence, last=to_sequence)
    with servers.reaching_database(), progress_of("replay-diff") as report:
        findings = asyncio.run(_replay(settings, asked, export, report))
    (tell_differences_json if json else tell_differences)(findings)
    if json:
        told = {"differences": findings.total, "seen": dict(findings.rows)}
        typer.echo(orjson.dumps({"summary": told}))
    else:
        seen = ", ".join(f"{total:,} {what}" for what, total in findings.rows.items())
        typer.echo(f"{findings.total or 'no'} differences in {seen or 'nothing'}")
    if findings.total:
        raise typer.Exit(BAD_DATA)


async def _replay(
    settings: Settings, asked: "Range", export: Path | None, report: "Report"
) -> "Findings":
    from audit.command_records import command_records
    from audit.database import open_audit
    from audit.export_file import exported_pages, exported_total
    from audit.findings import Findings, Meter
    from audit.ranges import pages, spans_of
    from audit.sequences import read_lanes
    from domain.commands import CommandParser
    from funnel.replaying import Replay, Rules, open_replay, replay_export

    url, findings = servers.database_url(settings), Findings()
    async with AsyncExitStack() as opened:
        connection = await opened.enter_async_context(open_audit(url, name="funnel replay-diff"))
        rules = Rules(
            topics=settings.topics,
            parser=CommandParser(phone_region=settings.phone_region),
            deduplication=timedelta(days=settings.deduplication_days),
            chunk_items=settings.bulk_chunk_items,
            partitions_total=len(await read_lanes(connection)),
        )
        shadow = await open_replay(url)
        opened.push_async_callback(shadow.close)
        replay = Replay(shadow, rules, findings)
        if export is not None:
            meter = Meter(exported_total(export), report)
            await replay_export(replay, exported_pages(export), meter)
            return findings
        reader = command_records(servers.kafka_options(settings), settings.topics.commands)
        records = await opened.enter_async_context(reader)
        spans = await spans_of(connection, asked)
        meter = Meter(sum(max(0, span.last - span.first + 1) for span in spans), report)
        for span in spans:
            await replay.run(pages(connection, asked, span), records.of, meter, first=span.first)
    return findings
