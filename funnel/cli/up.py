"""`funnel up`: everything on this machine, and what to try."""

import shutil
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from funnel.logs import configure_logs
from funnel.settings import Settings, load_settings

app = typer.Typer()

TOKEN_LIFETIME = timedelta(hours=12)
SCOPES = ("candidates:read", "candidates:write", "candidates:erase", "operations:manage")
USER = "demo@example.com"


@app.command()
def up(
    demo: Annotated[
        int, typer.Option(min=0, help="Candidates to load through the commands topic.")
    ] = 0,
    port: Annotated[int | None, typer.Option(help="Instead of PORT.", min=1, max=65535)] = None,
) -> None:
    """Run everything on this machine."""
    import uvloop

    from funnel.telemetry import tracing
    from funnel.up import run_up

    settings = load_settings()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    level = settings.log_level if "log_level" in settings.model_fields_set else "WARNING"
    configure_logs(level=level, log_format=settings.log_format)
    welcome = partial(_welcome, with_demo=demo > 0)
    with tracing(settings) as open_span:
        uvloop.run(
            run_up(
                settings,
                demo_candidates=demo,
                report=_tell,
                welcome=welcome,
                open_span=open_span,
            )
        )


def _welcome(settings: Settings, *, with_demo: bool) -> None:
    from api.app import BASE_PATH
    from api.dev_keys import load_or_create
    from funnel.demo import first_candidate
    from funnel.up import SEED

    organization_id, candidate_id = first_candidate(SEED)
    token = load_or_create(settings.data_dir).sign(
        organization_id=organization_id, user=USER, scopes=SCOPES, lifetime=TOKEN_LIFETIME
    )
    api = f"http://{settings.host}:{settings.port}"
    candidate = f"{api}{BASE_PATH}/candidates/{candidate_id}"
    curl = 'curl -sS -w "\\n" -H "Authorization: Bearer $TOKEN"'
    json = '-H "Content-Type: application/json"'
    bulk = f'{{"candidate_ids": ["{candidate_id}"], "field": "status", "value": "screening"}}'
    funnel = _funnel(settings)
    create = (
        f"{funnel} send create --organization {organization_id} --candidate {candidate_id} "
        "first_name=Ada last_name=Lovelace email=ada@example.com --wait"
    )
    commands = [
        *([] if with_demo else [create]),
        f"{funnel} send update {candidate_id} --organization {organization_id} rating=4 --wait",
        f"{funnel} get {candidate_id} --organization {organization_id}",
        f"TOKEN={token}",
        f"{curl} {candidate}",
        f"{curl} -X PATCH {json} -d '{{\"rating\": 5}}' {candidate}",
        f"{curl} {json} -d '{bulk}' {api}{BASE_PATH}/candidates/bulk-update",
        f"{funnel} tail changes",
    ]
    typer.echo(
        f"\ngulf-funnel is up. Ctrl-C stops it, the data stays in {settings.data_dir}.\n\n"
        f"  API    {api}/docs\n"
        f"  token  {token}\n\n"
        "Try in another terminal:\n"
    )
    typer.echo("\n".join(f"  {command}" for command in commands) + "\n")


def _funnel(settings: Settings) -> str:
    """How this very command is called in another terminal."""
    here = Path(sys.argv[0])
    found = shutil.which(here.name)
    name = here.name if found and Path(found).samefile(here) else str(here)
    shown = settings.model_fields_set & {"data_dir", "topic_prefix"}
    variables = {"data_dir": "FUNNEL_DATA_DIR", "topic_prefix": "FUNNEL_TOPIC_PREFIX"}
    return "".join(f"{variables[each]}={getattr(settings, each)} " for each in sorted(shown)) + name


def _tell(line: str) -> None:
    typer.echo(line, err=True)
