"""`funnel up`: everything on this machine, and what to try."""

import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from funnel.logs import configure_logs
from funnel.settings import Settings, load_settings

app = typer.Typer()

TOKEN_LIFETIME = timedelta(hours=12)
SCOPES = ("candidates:read", "candidates:write")
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

    from funnel.up import run_up

    settings = load_settings()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    level = settings.log_level if "log_level" in settings.model_fields_set else "WARNING"
    configure_logs(level=level, log_format=settings.log_format)
    uvloop.run(run_up(settings, demo_candidates=demo, report=_tell, welcome=_welcome))


def _welcome(settings: Settings) -> None:
    from api.dev_keys import load_or_create
    from funnel.demo import first_candidate
    from funnel.up import SEED

    organization_id, candidate_id = first_candidate(SEED)
    token = load_or_create(settings.data_dir).sign(
        organization_id=organization_id, user=USER, scopes=SCOPES, lifetime=TOKEN_LIFETIME
    )
    api = f"http://{settings.host}:{settings.port}"
    candidate = f"{api}/api/gulf-funnel/candidates/{candidate_id}"
    funnel = _funnel(settings)
    typer.echo(
        f"""
gulf-funnel is up. Ctrl-C stops it, the data stays in {settings.data_dir}.

  API        {api}/docs
  token      {token}

Try in another terminal:

  TOKEN={token}
  curl -s -H "Authorization: Bearer $TOKEN" {candidate}
  {funnel} send update {candidate_id} --organization {organization_id} rating=4 --wait
  {funnel} get {candidate_id} --organization {organization_id}
  {funnel} tail changes
"""
    )


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
