"""`funnel send` and `funnel import`: commands from the command line and from files.

Every command is checked by the rules of the service before anything is sent, unless `--no-check`.
Exit codes: 65 if something is not a command or, with `--wait`, was refused; 69 if Kafka is away;
75 if a result did not come in time.
"""

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal
from uuid import UUID

import orjson
import typer

from domain.commands import KNOWN_TYPES, CommandParser
from funnel import servers
from funnel.cli.command_files import (
    BadFile,
    FileLine,
    checked,
    csv_rows,
    json_lines,
    open_twice,
    problem_of,
)
from funnel.cli.field_text import BadField, fields_of
from funnel.cli.quiet import quiet_logs
from funnel.cli.sending import Sending
from funnel.exits import BAD_DATA
from funnel.settings import load_settings
from producer.client import OutgoingCommand, new_command_id

SOURCE = "/gulf-funnel/cli"
IMPORT_SOURCE = "/gulf-funnel/import"
PROBLEMS_SHOWN_MAX = 20

app = typer.Typer()
send = typer.Typer(help="Publish commands.", invoke_without_command=True)
app.add_typer(send, name="send")

Organization = Annotated[UUID, typer.Option("--organization", help="Whose candidates.")]
Actor = Annotated[str, typer.Option("--actor", help="Who asks; the journal keeps it.")]
Source = Annotated[str, typer.Option("--source", help="ce_source: part of a command's identity.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for each result and print it.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for a result.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Check = Annotated[
    bool, typer.Option("--check/--no-check", help="Check first. Addressing is always checked.")
]
OnConflict = Annotated[
    Literal["reject", "merge", "overwrite"] | None,
    typer.Option("--on-conflict", help="If the version is not the expected one."),
]
Fields = Annotated[
    list[str],
    typer.Argument(
        metavar="FIELD=VALUE...",
        help="rating=4 'tags=python;sql' tags.add=go attribute.visa=yes. "
        "FIELD= clears; FIELD:=JSON takes JSON.",
    ),
]
Data = dict[str, Any]


def sends(command_type: str) -> Callable[[Callable[..., Data]], Callable[..., None]]:
    """Makes a function that returns a command's data a subcommand that sends it.

    The options that say how to send are those of `_send_one`, the same for all.
    """

    def decorate(data_of: Callable[..., Data]) -> Callable[..., None]:
        own = inspect.signature(data_of).parameters
        shared = [
            each
            for each in inspect.signature(_send_one).parameters.values()
            if each.kind is each.KEYWORD_ONLY
        ]

        def run(**given: Any) -> None:
            how = {each.name: given.pop(each.name) for each in shared}
            try:
                data = data_of(**given)
            except BadField as error:
                raise typer.BadParameter(str(error)) from error
            _send_one(command_type, data, **how)

        run.__doc__ = data_of.__doc__
        parameters = [each.replace(kind=each.KEYWORD_ONLY) for each in [*own.values(), *shared]]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        unknown = command_type not in KNOWN_TYPES
        return send.command(data_of.__name__, hidden=unknown)(run)

    return decorate


def _send_one(
    command_type: str,
    data: Data,
    *,
    command_id: Annotated[str, typer.Option("--id", help="By default a new UUIDv7.")] = "",
    source: Source = SOURCE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: Json = False,
    check: Check = True,
) -> None:
    command = OutgoingCommand(type=command_type, data=data, id=command_id or new_command_id())
    sending = _sending(source=source, wait=wait, timeout=timeout, json=json)
    if problem := problem_of(command, _parser(check=check)):
        _tell(f"funnel: {problem}")
        raise typer.Exit(BAD_DATA)
    raise typer.Exit(asyncio.run(sending.one(command)))


@sends("candidate.create.v1")
def create(
    organization: Organization,
    fields: Fields,
    candidate_id: Annotated[
        UUID | None, typer.Option("--candidate", help="Its id; by default a new UUIDv7.")
    ] = None,
    actor: Actor = "cli",
) -> Data:
    """Create a candidate."""
    return {
        "organization_id": str(organization),
        "candidate_id": str(candidate_id or new_command_id()),
        "actor": actor,
        "candidate": fields_of(fields),
    }


@sends("candidate.update.v1")
def update(
    candidate_id: Annotated[UUID, typer.Argument(metavar="ID")],
    fields: Fields,
    organization: Organization,
    expected_version: Annotated[int | None, typer.Option("--expected-version", min=1)] = None,
    on_conflict: OnConflict = None,
    actor: Actor = "cli",
) -> Data:
    """Change a candidate."""
    data = {
        "organization_id": str(organization),
        "candidate_id": str(candidate_id),
        "actor": actor,
        "changes": fields_of(fields),
    }
    return data | _given(expected_version=expected_version, on_conflict=on_conflict)


@sends("candidate.bulk-update.v1")
def bulk(
    fields: Fields,
    organization: Organization,
    candidates: Annotated[
        list[UUID] | None, typer.Option("--candidate", help="One of them; repeatable.")
    ] = None,
    ids_file: Annotated[
        Path | None,
        typer.Option("--ids-file", help="Ids of candidates, one a line; - reads standard input."),
    ] = None,
    matching: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help='As {"status": "new"}.')
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, change nothing.")] = False,
    on_conflict: OnConflict = None,
    actor: Actor = "cli",
) -> Data:
    """Change many candidates alike: those named, or those that match a filter.

    With --wait the operation is seen through, with its progress; Ctrl-C leaves it going on.
    """
    ids = [str(each) for each in candidates or ()] + _ids(ids_file)
    data = {
        "organization_id": str(organization),
        "actor": actor,
        "changes": fields_of(fields),
    }
    return data | _given(
        candidate_ids=ids if ids or ids_file else None,
        filter=_filter(matching),
        dry_run=dry_run or None,
        on_conflict=on_conflict,
    )


@send.callback()
def send_file(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help='Commands as JSON Lines, {"type": …, "data": {…}, "id": …, "source": …}, '
            "the last two optional; - reads standard input. A bad line: nothing is sent.",
        ),
    ] = None,
    source: Source = SOURCE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: Json = False,
    check: Check = True,
) -> None:
    """Publish one command, or all commands of a file."""
    if (file is None) == (context.invoked_subcommand is None):
        raise typer.BadParameter("either --file or one of create, update is needed")
    if file is not None:
        sending = _sending(source=source, wait=wait, timeout=timeout, json=json)
        _send_file(sending, file, json_lines, parser=_parser(check=check), skip_bad=False)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="F.csv", help="- reads standard input.")],
    organization: Organization,
    actor: Actor = "import",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out.")] = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    json: Json = False,
) -> None:
    """Publish a create command for each row of a CSV file (UTF-8, with a header).

    Columns: the candidate's fields, `tags` separated by `;`, `attribute.<name>`. The candidate's
    id follows from the column `external_id`, or else from the e-mail; importing a file again
    creates nothing again. Nothing is sent if a row is bad, unless --skip-bad.
    """
    sending = _sending(source=IMPORT_SOURCE, wait=wait, timeout=timeout, json=json)

    def rows(opened: BinaryIO) -> Iterator[FileLine]:
        return csv_rows(opened, organization_id=organization, actor=actor)

    _send_file(sending, file, rows, parser=_parser(check=True), skip_bad=skip_bad)


def _send_file(
    sending: Sending,
    path: Path,
    lines_of: Callable[[BinaryIO], Iterator[FileLine]],
    *,
    parser: CommandParser | None,
    skip_bad: bool,
) -> None:
    try:
        with open_twice(path) as file:
            good, bad = _count(checked(lines_of(file), parser))
            if bad and not skip_bad:
                _tell(f"funnel: {bad:,} of {good + bad:,} lines are bad, nothing was sent")
                raise typer.Exit(BAD_DATA)
            again = checked(lines_of(file), parser if bad else None)
            commands = (line.command for line in again if line.command is not None)
            raise typer.Exit(asyncio.run(sending.many(commands, total=good)))
    except BadFile as error:
        _tell(f"funnel: {error}")
        raise typer.Exit(BAD_DATA) from None


def _count(lines: Iterator[FileLine]) -> tuple[int, int]:
    """How many are good and bad; the first bad ones are told."""
    good = bad = 0
    for line in lines:
        if line.command is not None:
            good += 1
            continue
        bad += 1
        if bad <= PROBLEMS_SHOWN_MAX:
            _tell(f"line {line.number}: {line.problem}")
        elif bad == PROBLEMS_SHOWN_MAX + 1:
            _tell("... and more")
    return good, bad


def _sending(*, source: str, wait: bool, timeout: float, json: bool) -> Sending:
    settings = load_settings()
    quiet_logs(settings)
    return Sending(
        kafka=servers.kafka_options(settings),
        topics=settings.topics,
        source=source,
        wait=timeout if wait else None,
        json=json,
    )


def _parser(*, check: bool) -> CommandParser | None:
    return CommandParser(phone_region=load_settings().phone_region) if check else None


def _ids(path: Path | None) -> list[str]:
    """The ids in a file; what they are is checked with the command."""
    if path is None:
        return []
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        return [line.strip() for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadField(f"--ids-file: {error}") from None


def _filter(text: str | None) -> object:
    try:
        return None if text is None else orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadField("--filter: is not JSON") from None


def _given(**fields: object) -> Data:
    return {name: value for name, value in fields.items() if value is not None}


def _tell(line: str) -> None:
    typer.echo(line, err=True)
