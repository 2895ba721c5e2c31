"""The `funnel` command: which subcommand lives in which module.

Only the module of the command that was typed is imported, so that `--help` and every small
command stay quick. A module offers `app`, a Typer with the commands listed here.
"""

import logging
import sys
from importlib import import_module
from typing import Annotated

import typer

MODULES = {
    "funnel.cli.up": {"up": "Run everything on this machine."},
    "funnel.cli.stack": {"stack": "The embedded PostgreSQL and Kafka, in the background."},
    "funnel.cli.setup": {
        "migrate": "The schema of the database.",
        "topics": "The topics in Kafka.",
        "config": "Print the settings, secrets masked.",
        "token": "Print a token signed by the local development key.",
    },
    "funnel.cli.roles": {
        "consume": "Run one consumer; many share the lanes.",
        "serve": "Run the HTTP API.",
    },
    "funnel.cli.send": {
        "send": "Publish commands.",
        "import": "Publish a create command for each line of a CSV file.",
    },
    "funnel.cli.erase": {"erase": "Make a person's data unreadable, for good."},
    "funnel.cli.read": {
        "tail": "Read the outputs.",
        "get": "Show one candidate.",
    },
    "funnel.cli.operations": {"operations": "Bulk operations: look at them, steer them."},
    "funnel.cli.dead_letters": {
        "dead-letters": "What no result could answer: look at it, send it again."
    },
    "funnel.cli.history": {
        "history": "The versions of a candidate: who, what, when.",
        "explain": "What became of a command.",
    },
    "funnel.cli.doctor": {"doctor": "Look at everything; say what is wrong and what to do."},
    "funnel.cli.journal": {"journal": "Seal the journal, and let go of old months."},
    "funnel.cli.verify": {"verify": "Compare state, journal and output."},
    "funnel.cli.rebuild": {"rebuild": "The state from the journal, compared, and repaired."},
    "funnel.cli.replay_diff": {"replay-diff": "Does this build settle commands as they were?"},
    "funnel.cli.replay": {
        "export": "A range of the journal as a file.",
        "republish": "Events of a range again, to another topic.",
    },
    "funnel.cli.recover": {"recover": "Rebuild from the topics what PostgreSQL has lost."},
    "funnel.cli.bench": {"bench": "Measure this service beside its baselines."},
}


INTERRUPTED = 130
"""As a shell tells it."""


def main() -> None:
    """Run the command line; exit as CONTRACT.md 7 says."""
    # Else Python prints what libraries log; a command that wants logs configures them.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        application(sys.argv[1] if len(sys.argv) > 1 else "")()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001  whatever it is, it gets a line and a code
        from funnel.exits import exit_code, explain

        # What tasks left behind would tell of is over, and the cause must be the last line.
        logging.disable()
        typer.echo(explain(error), err=True)
        sys.exit(exit_code(error))


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("gulf-funnel"))
        raise typer.Exit


def _options(
    version: Annotated[  # noqa: ARG001  its callback does it, before a command is missed
        bool,
        typer.Option("--version", help="Print it.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    return None


def application(typed: str) -> typer.Typer:
    """The command line with `typed` ready to run and the rest ready to be listed."""
    app = typer.Typer(
        help="Commands in over Kafka, exactly-once effect in PostgreSQL, numbered events out.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for module, commands in MODULES.items():
        if typed in commands:
            app.add_typer(import_module(module).app)
        else:
            for name, line in commands.items():
                app.command(name, help=line)(lambda: None)
    return app
