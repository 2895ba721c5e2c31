"""`funnel journal …`: seal it, keep the heads of its chain, and let go of its oldest months."""

import asyncio
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from contract.journal import timestamp_text
from funnel import servers
from funnel.cli.progress import progress_of
from funnel.cli.quiet import quiet_logs
from funnel.crash import crash_hook
from funnel.settings import load_settings

if TYPE_CHECKING:
    from audit.chain import Link
    from audit.chain_check import Head
    from audit.retention import Partition

app = typer.Typer()
journal = typer.Typer(no_args_is_help=True, help="Seal the journal, and let go of old months.")
app.add_typer(journal, name="journal")

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

PartitionName = Annotated[str, typer.Argument(metavar="PARTITION", help="As in journal_2026_01.")]


@journal.command()
def seal() -> None:
    """Seal all that is settled now. Consumers do it every FUNNEL_SEAL_SECONDS."""
    from audit.seal import seal as run

    settings = load_settings()
    quiet_logs(settings)
    with servers.reaching_database(), progress_of("seal") as report:
        rows_total = asyncio.run(run(servers.database_url(settings), report=report))
    typer.echo(f"{rows_total:,} rows sealed")


@journal.command()
def head(json: Json = False) -> None:
    """The newest link of each lane's chain.

    Kept where nobody who may write this database can write, it proves later that nothing before
    it was touched: `funnel journal head --json > heads`, then `funnel verify --heads heads`.
    """
    settings = load_settings()
    with servers.reaching_database():
        for link, unsealed in asyncio.run(_heads(servers.database_url(settings))):
            told: dict[str, Any] = {
                "lane": link.lane,
                "link": link.link,
                "chain": link.chain.hex(),
                "last_result": link.last_result,
                "sealed_at": timestamp_text(link.sealed_at),
                "unsealed": unsealed,
            }
            typer.echo(orjson.dumps(told) if json else _head_text(told))


@journal.command("partitions")
def list_partitions(json: Json = False) -> None:
    """The journal's months, oldest first, and what keeps each from being dropped."""
    from audit.retention import partitions as run

    settings = load_settings()
    with servers.reaching_database():
        found = asyncio.run(
            run(
                servers.database_url(settings),
                horizon=timedelta(days=settings.deduplication_days),
                archive_needed=settings.journal_archive is not None,
            )
        )
    for each in found:
        typer.echo(orjson.dumps(asdict(each)) if json else _partition_text(each))


@journal.command()
def archive(
    partition: PartitionName,
    folder: Annotated[
        Path | None, typer.Option("--to", help="Instead of into FUNNEL_JOURNAL_ARCHIVE.")
    ] = None,
) -> None:
    """Export a month that is over and sealed. May be interrupted and started again.

    The file holds personal data; `funnel verify --export` checks it.
    """
    from audit.retention import archive as run

    settings = load_settings()
    quiet_logs(settings)
    into = folder or settings.journal_archive
    if into is None:
        raise typer.BadParameter("say --to, or set FUNNEL_JOURNAL_ARCHIVE")
    with servers.reaching_database(), progress_of("archive") as report:
        path = asyncio.run(run(servers.database_url(settings), partition, into, report=report))
    typer.echo(f"{partition} is in {path}")


@journal.command()
def drop(partition: PartitionName) -> None:
    """Write a checkpoint of the state at the end of the oldest month, then drop the month.

    Only once deduplication no longer reaches it, and all of it is published, sealed and, with
    FUNNEL_JOURNAL_ARCHIVE set, exported. Consumers may run.
    """
    from audit.retention import drop as run

    settings = load_settings()
    quiet_logs(settings)
    hook = crash_hook(crash_at=settings.crash_at, pause_at=settings.pause_at)
    with servers.reaching_database(), progress_of("checkpoint") as report:
        asyncio.run(
            run(
                servers.database_url(settings),
                partition,
                horizon=timedelta(days=settings.deduplication_days),
                archive_needed=settings.journal_archive is not None,
                report=report,
                hook=hook,
            )
        )
    typer.echo(f"{partition} is dropped")


def read_heads(path: Path) -> "list[Head]":
    """What `funnel journal head --json` printed.

    Raises:
        typer.BadParameter: the file holds something else.
    """
    from audit.chain_check import Head

    try:
        told = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        return [Head(each["lane"], each["link"], bytes.fromhex(each["chain"])) for each in told]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise typer.BadParameter(f"{path}: no heads of a chain ({error})") from error


async def _heads(database_url: str) -> "list[tuple[Link, int]]":
    from audit.chain import chain_head
    from audit.database import open_audit
    from audit.sequences import read_lanes

    async with open_audit(database_url, name="funnel journal") as connection:
        return [
            (link, lane.result_sequence - link.last_result)
            for lane in await read_lanes(connection)
            if (link := await chain_head(connection, lane.lane)) is not None
        ]


def _partition_text(month: "Partition") -> str:
    standing = "; ".join(month.hindrances) or "may be dropped"
    archived = ", archived" if month.archived else ""
    return f"{month.partition}: {month.size / 1e6:,.1f} MB{archived}: {standing}"


def _head_text(told: dict[str, Any]) -> str:
    return (
        f"lane {told['lane']}: {told['chain']}, link {told['link']}, up to result "
        f"{told['last_result']}, {told['unsealed']} not sealed yet"
    )
