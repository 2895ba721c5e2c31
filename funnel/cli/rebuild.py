"""`funnel rebuild`: exit 0 when the state is what the journal says, or was repaired; else 65."""

import asyncio
import getpass
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from funnel import servers
from funnel.cli.progress import progress_of
from funnel.cli.quiet import quiet_logs
from funnel.cli.verify import tell_differences, tell_differences_json
from funnel.exits import BAD_DATA
from funnel.settings import load_settings

if TYPE_CHECKING:
    from audit.findings import Report
    from audit.rebuild import Rebuilt

app = typer.Typer()


@app.command()
def rebuild(
    repair: Annotated[
        bool, typer.Option("--repair", help="Correct candidates that differ, and journal it.")
    ] = False,
    actor: Annotated[
        str | None, typer.Option("--actor", help="Who repairs, for the journal; you by default.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the rebuilt table shadow.candidates there.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="From nothing, though a run was cut short.")
    ] = False,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Name values of candidates: personal data.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: differences, then a summary.")
    ] = False,
) -> None:
    """Make the state anew from the journal, beside the real one, and compare the two.

    Consumers go on. With --repair, rows that differ become what the journal says, lane by lane.
    After a run that was cut short it goes on with what that one had loaded.
    """
    settings = load_settings()
    quiet_logs(settings)
    url = servers.database_url(settings)
    with servers.reaching_database(), progress_of("rebuild") as report:
        rebuilt = asyncio.run(
            _rebuild(
                url,
                actor=(actor or getpass.getuser()) if repair else None,
                keep=keep,
                restart=restart,
                show_values=show_values,
                report=report,
            )
        )
    findings = rebuilt.findings
    (tell_differences_json if json else tell_differences)(findings)
    if json:
        told = {
            "rebuilt": rebuilt.candidates,
            "resumed": rebuilt.resumed,
            "repaired": rebuilt.repaired,
            "differences": findings.total,
        }
        typer.echo(orjson.dumps({"summary": told}))
    else:
        before = f" ({rebuilt.resumed:,} by a run that was cut short)" if rebuilt.resumed else ""
        typer.echo(
            f"{findings.total or 'no'} differences, {rebuilt.candidates:,} candidates "
            f"rebuilt{before}, {rebuilt.repaired:,} repaired"
        )
    if findings.totals.total() and (not repair or findings.totals["journal"]):
        raise typer.Exit(BAD_DATA)


async def _rebuild(
    url: str,
    *,
    actor: str | None,
    keep: bool,
    restart: bool,
    show_values: bool,
    report: "Report",
) -> "Rebuilt":
    from audit.rebuild import rebuild as run
    from audit.repair import open_repairer

    async with AsyncExitStack() as opened:
        repair = None
        if actor is not None:
            repair = (await opened.enter_async_context(open_repairer(url, actor=actor))).repair
        return await run(
            url,
            report=report,
            repair=repair,
            keep=keep,
            restart=restart,
            show_values=show_values,
        )
