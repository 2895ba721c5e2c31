"""`funnel verify`: exit 0 when everything agrees, 65 when anything does not."""

import asyncio
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from funnel import servers
from funnel.cli.journal import read_heads
from funnel.cli.output import audited_output
from funnel.cli.progress import progress_of
from funnel.cli.quiet import quiet_logs
from funnel.exits import BAD_DATA
from funnel.settings import load_settings

if TYPE_CHECKING:
    from audit.chain_check import Head
    from audit.findings import Findings

app = typer.Typer()

BOOKMARK = "verify.json"
"""In the data folder."""


@app.command()
def verify(
    topics: Annotated[
        bool, typer.Option("--topics", help="Compare the output topics too, byte for byte.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Check this export instead, with no server at hand."),
    ] = None,
    chain: Annotated[
        bool, typer.Option("--chain", help="Hash every sealed row again, and follow the chain.")
    ] = False,
    heads: Annotated[
        Path | None,
        typer.Option(
            "--heads", help="And demand these links, as `funnel journal head --json` told them."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut short.")
    ] = False,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Name values of candidates: personal data.")
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", min=1, max=32, help="Connections at once: a core of PostgreSQL's each."
        ),
    ] = 2,
    json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object a line: each difference, then a summary."),
    ] = False,
) -> None:
    """Compare state, journal and lanes; with --topics the output topics, with --chain the seals.

    Reads only, in bounded pieces, and may run while consumers go on. A run that is cut short
    leaves a note in the data folder, and --resume with the same options goes on there.
    """
    if export is not None:
        findings = _verify_export(export)
    else:
        chain_heads = read_heads(heads) if heads else [] if chain else None
        findings = _verify(
            topics=topics,
            chain_heads=chain_heads,
            show_values=show_values,
            resume=resume,
            jobs=jobs,
        )
    (_tell_json if json else _tell_text)(findings)
    if findings.total:
        raise typer.Exit(BAD_DATA)


def _verify(
    *,
    topics: bool,
    chain_heads: "list[Head] | None",
    show_values: bool,
    resume: bool,
    jobs: int,
) -> "Findings":
    from audit.verify import verify as run

    settings = load_settings()
    quiet_logs(settings)
    with servers.reaching_database(), progress_of("verify") as report:
        return asyncio.run(
            run(
                servers.database_url(settings),
                deduplication=timedelta(days=settings.deduplication_days),
                report=report,
                output=audited_output(settings) if topics else None,
                chain_heads=chain_heads,
                show_values=show_values,
                bookmark=settings.data_dir / BOOKMARK,
                resume=resume,
                jobs=jobs,
            )
        )


def _verify_export(path: Path) -> "Findings":
    from audit.export_file import verify_export

    with progress_of("verify") as report:
        return verify_export(path, report=report)


def tell_differences(findings: "Findings") -> None:
    """A line each, and how many more there are."""
    for each in findings.listed:
        typer.echo(f"{each.check}: {each.where}: expected {each.expected}, found {each.found}")
    if findings.total > len(findings.listed):
        typer.echo(f"… and {findings.total - len(findings.listed):,} more")


def tell_differences_json(findings: "Findings") -> None:
    """A line each."""
    for each in findings.listed:
        typer.echo(orjson.dumps(asdict(each)))


def _tell_text(findings: "Findings") -> None:
    tell_differences(findings)
    seen = ", ".join(f"{total:,} {what}" for what, total in findings.rows.items())
    set_apart = "".join(
        f", {total:,} {what.replace('_', ' ')}"
        for what, total in _set_apart(findings).items()
        if total
    )
    typer.echo(f"{findings.total or 'no'} differences in {seen or 'nothing'}{set_apart}")


def _tell_json(findings: "Findings") -> None:
    tell_differences_json(findings)
    summary: dict[str, Any] = {
        "differences": findings.total,
        "by_check": dict(findings.totals),
        "seen": dict(findings.rows),
    }
    typer.echo(orjson.dumps({"summary": summary | _set_apart(findings)}))


def _set_apart(findings: "Findings") -> dict[str, int]:
    """What is no difference and yet worth knowing."""
    return {
        "unpublished": findings.backlog,
        "compacted": findings.compacted,
        "expired": findings.expired,
        "behind_the_cut": findings.behind_the_cut,
    }
