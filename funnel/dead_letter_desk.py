"""The API's desk for dead letters: the queue and the redrives of `audit`, behind the API's port."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from api.limits import ACQUIRE_S_MAX, LETTERS_S_MAX
from api.ports import DeadLettersWanted, DeskAway, LetterRefused, LetterUnknown, QueuePlace
from audit.database import AuditRefused
from audit.dead_letters import Filter, Letter, Place, UnknownLetter, read_page
from audit.operators import Operators, open_operators
from audit.redrive import RecordSender, Redriven, RedriveRefused, Redrives
from contract.dead_letters import DeadLetterId
from contract.journal import timestamp_text

_AWAY = (
    OSError,  # TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidParameterValueError,  # at connecting: there is no such role yet
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedTableError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    AuditRefused,
)


class Desk:
    """A `DeadLetterDesk`; `running` must surround its use."""

    def __init__(self, database_url: str, sender: RecordSender) -> None:
        self._database_url = database_url
        self._sender = sender
        self._operators: Operators | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Desk"]:
        """Connects when it is first asked."""
        async with AsyncExitStack() as opened:
            self._operators = await opened.enter_async_context(
                open_operators(
                    self._database_url,
                    connect_seconds_max=ACQUIRE_S_MAX,
                    answer_seconds_max=LETTERS_S_MAX,
                )
            )
            yield self
            self._operators = None

    async def page(self, wanted: DeadLettersWanted) -> list[tuple[QueuePlace, dict[str, Any]]]:
        """As `DeadLetterDesk` says."""
        after = wanted.after
        with _translated():
            letters = await read_page(
                self._open(),
                Filter(
                    codes=wanted.error_codes,
                    since=wanted.since,
                    until=wanted.until,
                    organization_id=wanted.organization_id,
                    lane=wanted.lane,
                    redriven=wanted.redriven,
                ),
                after=None if after is None else Place(after.recorded_at, *after.id),
                letters_max=wanted.limit,
            )
        return [(QueuePlace(each.recorded_at, each.id), _document(each)) for each in letters]

    async def redrive(
        self, letter_id: DeadLetterId, *, requested_by: str, again: bool, wait_s: float
    ) -> dict[str, Any]:
        """As `DeadLetterDesk` says."""
        with _translated():
            redrives = Redrives(self._open(), self._sender, requested_by=requested_by)
            await redrives.finish_open()
            sent = await redrives.send(letter_id, again=again)
            (ended,) = await redrives.followed([sent], within=timedelta(seconds=wait_s))
        if ended.outcome == "send_failed":
            raise DeskAway(ended.reason)
        return _redriven(ended)

    def _open(self) -> Operators:
        if self._operators is None:
            raise DeskAway("not opened")
        return self._operators


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except UnknownLetter as error:
        raise LetterUnknown from error
    except RedriveRefused as error:
        raise LetterRefused(error.why, _REFUSED[error.why]) from error
    except _AWAY as error:
        if isinstance(error, ValueError):  # an argument that has no encoding: our fault
            raise
        raise DeskAway(type(error).__name__) from error


_REFUSED = {
    "redriven_before": "It was redriven before; again=true sends it once more.",
    "under_way": "Another redrive of it is under way.",
    "nothing_to_send": "Its record is not kept any more.",
}


def _document(letter: Letter) -> dict[str, Any]:
    last = None
    if letter.redriven_at is not None:
        last = {
            "at": timestamp_text(letter.redriven_at),
            "by": letter.redriven_by,
            "outcome": letter.outcome,
            "reason": letter.reason,
        }
    return {
        "id": str(letter.id),
        "recorded_at": timestamp_text(letter.recorded_at),
        "origin": {"partition": letter.id.lane, "offset": letter.source_offset},
        "error_code": letter.error_code,
        "error_detail": letter.error_detail,
        "organization_id": letter.organization_id,
        "redrive_of": letter.redrive_of,
        "record_bytes": letter.record_bytes,
        "redrives_total": letter.redrives_total,
        "last_redrive": last,
    }


def _redriven(ended: Redriven) -> dict[str, Any]:
    told = {
        "id": str(ended.letter_id),
        "redrive_id": str(ended.redrive_id),
        "outcome": ended.outcome,
    }
    if ended.reason is not None:
        told["reason"] = ended.reason
    if ended.ended is not None:
        told["ended"] = str(ended.ended)
    return told
