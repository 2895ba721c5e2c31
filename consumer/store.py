"""The lane's seam to PostgreSQL: one transaction a batch, and the one place for driver errors.

StoreError
├── StoreAway      no answer, or not able to write now: wait and ask again
├── TryAgain       a deadlock, a guard, a serialization failure: fresh reads may succeed
├── DataRefused    the statement that writes candidates does not take this data
└── JournalRefused  the journal or the lane does not take a row: a fault of ours
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeAlias, cast

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from consumer.sqlfiles import statement
from contract.dead_letters import DEAD_LETTER_COLUMNS, dead_letter_values
from contract.journal import COLUMNS, JournalRow, timestamp_text
from contract.lanes import LaneRow
from domain.candidate import CandidateState
from domain.decide import CandidateKey, Settled

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

NOBODY = "00000000-0000-0000-0000-000000000000"
"""Before every organization, where they take turns."""

HistoryRange: TypeAlias = tuple[str, str, int, int]
"""Organization, candidate; versions behind the first number, up to the second."""

_AWAY = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server ended the session while nothing was asked of it
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.PostgresSystemError,
    asyncpg.CannotConnectNowError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database takes no connections
    asyncpg.InvalidCatalogNameError,  # it is dropped, about to be restored
)
_AGAIN = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
_REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

COPY_WITHIN = timedelta(seconds=10)
"""asyncpg's own time-out does not count while COPY waits to write, nor does a lost connection."""

ACQUIRE_WITHIN = timedelta(seconds=10)
"""Also bounds how long giving a connection back may wait for a server that is gone."""

_CANDIDATE_COLUMNS = (
    "organization_id", "candidate_id", "first_name", "last_name", "email", "phone", "status",
    "pipeline_stage", "rating", "source", "tags", "attributes", "version",
)  # fmt: skip


class StoreError(Exception):
    """PostgreSQL did not do what was asked."""


class JournalRefused(StoreError):
    """PostgreSQL refuses a row that only we write: trying again cannot help."""


class StoreAway(StoreError):
    """PostgreSQL is away, read-only, full or too slow."""


class TryAgain(StoreError):
    """Somebody was in the way; the same batch may succeed from fresh reads."""


class DataRefused(StoreError):
    """PostgreSQL refuses to store a candidate that our rules found valid."""


@contextmanager
def translated() -> Iterator[None]:
    """Driver errors in, ours out. What is not listed here is a fault of ours and goes through."""
    try:
        yield
    except _AGAIN as error:
        raise TryAgain(type(error).__name__) from error
    except _REFUSED as error:  # data of candidates is refused in its own place
        raise JournalRefused(type(error).__name__) from error
    except _AWAY as error:
        raise StoreAway(f"PostgreSQL does not answer ({type(error).__name__})") from error


@asynccontextmanager
async def asked(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """A connection, with errors as `translated`; neither to get it nor to give it back hangs.

    Sessions that have become read-only are not used again: after a failover the old server may
    keep them for as long as they would like to stay.
    """
    with translated():
        try:
            async with pool.acquire(timeout=ACQUIRE_WITHIN.total_seconds()) as connection:
                yield connection
        except asyncpg.ReadOnlySQLTransactionError:
            await pool.expire_connections()
            raise


@contextmanager
def refusing() -> Iterator[None]:
    """Around the statements that write candidates. Raises DataRefused."""
    try:
        yield
    except _REFUSED as error:
        raise DataRefused(type(error).__name__) from error


async def open_pool(
    database_url: str, *, lease: timedelta, lanes_max: int, name: str = "funnel consume"
) -> asyncpg.Pool:
    """Connections for lane work: session time-outs end well before a lease does.

    Args:
        lanes_max: how many lanes this process may own; each needs one connection at a time.
        name: what PostgreSQL calls the sessions.
    """
    bound = f"{int(lease.total_seconds() * 1000 * 0.8)}ms"
    with translated():
        pool: asyncpg.Pool = await asyncpg.create_pool(
            database_url,
            min_size=1,
            max_size=lanes_max + 3,
            init=prepare_connection,
            reset=_keep,
            command_timeout=lease.total_seconds(),
            timeout=10,
            max_inactive_connection_lifetime=300,
            server_settings={
                "role": "funnel_consumer",
                "application_name": name,
                "jit": "off",
                "timezone": "UTC",
                "plan_cache_mode": "force_generic_plan",
                # A batch is a thousand index probes. Without statistics, as on a new partition,
                # the planner would rather read the whole table.
                "enable_seqscan": "off",
                "enable_hashjoin": "off",
                "enable_mergejoin": "off",
                "synchronous_commit": "on",
                "lock_timeout": bound,
                "idle_in_transaction_session_timeout": bound,
                "transaction_timeout": bound,
                "tcp_keepalives_idle": "5",
                "tcp_keepalives_interval": "2",
                "tcp_keepalives_count": "3",
            },
        )
        return pool


async def _keep(_: Any) -> None:
    """Nothing to reset: our sessions set nothing, so a release costs no round trip."""


async def prepare_connection(connection: Any) -> None:
    """JSON as the statements of a lane take and give it."""
    await connection.set_type_codec(
        "json", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes
    )
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda raw: orjson.loads(raw[1:]),
    )


class LaneStore:
    """Statements of one lane transaction, in the order in which they run."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """BEGIN … COMMIT. Raises StoreError; after StoreAway the COMMIT may have happened."""
        async with asked(self._pool) as connection, connection.transaction():
            yield connection

    async def lock(self, connection: Connection, lane: int) -> LaneRow:
        row = await connection.fetchrow(_LOCK_LANE, lane)
        if row is None:
            raise StoreAway("the lane's row is missing")
        return LaneRow(*row)

    async def settled(
        self, connection: Connection, keys: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, Settled]:
        rows = await connection.fetch(_SETTLED, plain_literal(keys), since, until)
        return {row[0].hex: Settled(*row[1:]) for row in map(tuple, rows)}

    async def candidates(
        self, connection: Connection, keys: Sequence[CandidateKey]
    ) -> dict[CandidateKey, CandidateState]:
        organizations, candidates = map(plain_literal, zip(*keys, strict=True))
        rows = await connection.fetch(_CANDIDATES, organizations, candidates)
        return {(row[-1], row[0]): state_of(row[-1], row) for row in rows}

    async def history(
        self, connection: Connection, ranges: Sequence[HistoryRange]
    ) -> dict[CandidateKey, dict[int, frozenset[str]]]:
        history: dict[CandidateKey, dict[int, frozenset[str]]] = {}
        for row in await connection.fetch(_HISTORY, *zip(*ranges, strict=True)):
            versions = history.setdefault((str(row[0]), str(row[1])), {})
            versions[row[2]] = frozenset(row[3])
        return history

    async def write_candidates(
        self,
        connection: Connection,
        *,
        created: Sequence[CandidateState],
        updated: Sequence[tuple[int, CandidateState]],
        recorded_at: datetime,
    ) -> None:
        """Each touched candidate once, guarded by the version that the decision saw.

        Raises:
            TryAgain: a candidate is not as it was seen.
            DataRefused: PostgreSQL does not take the data.
        """
        try:
            if created:
                done = await connection.execute(
                    _INSERT_CANDIDATES, *_state_columns(created), recorded_at
                )
                demand_rows(done, len(created))
            if updated:
                done = await connection.execute(
                    _UPDATE_CANDIDATES,
                    *_state_columns([state for _, state in updated]),
                    recorded_at,
                    plain_literal(seen for seen, _ in updated),
                )
                demand_rows(done, len(updated))
        except _REFUSED as error:
            raise DataRefused(type(error).__name__) from error

    async def refused(
        self,
        connection: Connection,
        updated: Sequence[tuple[int, CandidateState]],
        recorded_at: datetime,
    ) -> frozenset[CandidateKey]:
        """Those that PostgreSQL does not take, found by halving; nothing of it stays.

        Raises:
            TryAgain: a candidate is not as it was seen.
        """
        if not updated:
            return frozenset()
        probe = connection.transaction()
        await probe.start()
        try:
            await self.write_candidates(
                connection, created=(), updated=updated, recorded_at=recorded_at
            )
        except DataRefused:
            refused = True
        else:
            refused = False
        await probe.rollback()
        if not refused:
            return frozenset()
        if len(updated) == 1:
            state = updated[0][1]
            return frozenset({(state["organization_id"], state["candidate_id"])})
        middle = len(updated) // 2
        first = await self.refused(connection, updated[:middle], recorded_at)
        return first | await self.refused(connection, updated[middle:], recorded_at)

    async def append(self, connection: Connection, rows: Sequence[JournalRow]) -> None:
        """The journal by COPY, all rows of one instant; raw dead letters beside it.

        Straight into the month's partition: no routing, and COPY is refused on the parent, where
        row-level security is on.
        """
        dead = [row for row in rows if row.kind == "dead_letter"]
        if dead:
            async with asyncio.timeout(COPY_WITHIN.total_seconds()):
                await connection.copy_records_to_table(
                    "dead_letters",
                    records=map(dead_letter_values, dead),
                    columns=DEAD_LETTER_COLUMNS,
                )
            rows = [
                row._replace(forward=None) if row.kind == "dead_letter" else row for row in rows
            ]
        partition = f"journal_{rows[0].recorded_at:%Y_%m}"
        try:
            async with asyncio.timeout(COPY_WITHIN.total_seconds()):
                await connection.copy_records_to_table(partition, records=rows, columns=COLUMNS)
        except asyncpg.UndefinedTableError as error:
            raise TryAgain("the journal has no partition for this instant") from error

    async def advance(self, connection: Connection, before: LaneRow, after: LaneRow) -> None:
        """The compare-and-set. Raises TryAgain if the row is not as it was locked."""
        done = await connection.execute(
            _ADVANCE_LANE,
            before.lane, before.owner_epoch, before.next_offset, before.journal_sequence,
            after.next_offset, after.journal_sequence, after.result_sequence,
            after.change_sequence, after.last_record_offset, after.last_record_timestamp,
            after.last_record_digest, after.recorded_at, after.published_result_sequence,
            after.published_end_offset,
        )  # fmt: skip
        demand_rows(done, 1)

    async def note_published(self, row: LaneRow, *, works: bool, held: bool) -> None:
        async with asked(self._pool) as connection:
            await connection.execute(
                _NOTE_PUBLISHED,
                row.lane,
                row.owner_epoch,
                row.published_result_sequence,
                row.published_end_offset,
                works,
                held,
            )

    async def ensure_partitions(self, ahead: timedelta) -> datetime:
        """Makes journal partitions for `ahead` from now; tells up to when they reach."""
        async with asked(self._pool) as connection:
            return cast(datetime, await connection.fetchval(_ENSURE_PARTITIONS, ahead))


def state_of(organization_id: str, row: asyncpg.Record) -> CandidateState:
    """A candidate as it is decided on, from a row that ends with something else.

    It has no `updated_at`: nothing depends on it, and each change sets it anew.
    """
    (candidate_id, first_name, last_name, email, phone, status, pipeline_stage, rating, source,
     tags, attributes, version, created_at, _) = row  # fmt: skip
    return {  # type: ignore[typeddict-item]  # `updated_at`
        "organization_id": organization_id,
        "candidate_id": candidate_id,
        "first_name": first_name,
        "last_name": last_name,
        "email": email,
        "phone": phone,
        "status": status,
        "pipeline_stage": pipeline_stage,
        "rating": rating,
        "source": source,
        "tags": tags,
        "attributes": attributes,
        "version": version,
        "created_at": timestamp_text(created_at),
    }


@asynccontextmanager
async def answered_within(
    connection: Connection, at_most: timedelta, what: str, **settings: str
) -> AsyncIterator[None]:
    """Statements of a transaction that may take so long each, with these settings.

    Raises:
        DataRefused: one takes longer; `what` says which.
    """
    told = {"statement_timeout": f"{int(at_most.total_seconds() * 1000)}"} | settings
    await _set_local(connection, told)
    try:
        yield
    except asyncpg.QueryCanceledError as error:
        raise DataRefused(f"the {what} takes too long") from error
    await _set_local(connection, dict.fromkeys(told, "DEFAULT"))


async def _set_local(connection: Connection, settings: Mapping[str, str]) -> None:
    await connection.execute(
        "; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items())
    )


def demand_rows(command_tag: str, expected: int) -> None:
    """Raises TryAgain unless so many rows were written."""
    if int(command_tag.rpartition(" ")[2]) != expected:
        raise TryAgain("a guard did not hold")


def _state_columns(states: Sequence[CandidateState]) -> list[Any]:
    rows = cast(Sequence[dict[str, Any]], states)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in _CANDIDATE_COLUMNS}
    for name in ("organization_id", "candidate_id", "rating", "version"):
        columns[name] = plain_literal(columns[name])
    columns["tags"] = [array_literal(tags) for tags in columns["tags"]]
    columns["attributes"] = [orjson.dumps(each).decode() for each in columns["attributes"]]
    return list(columns.values())


def plain_literal(plain: Iterable[object]) -> str:
    """PostgreSQL's text of an array of ids, numbers or words: much quicker than its elements."""
    return "{" + ",".join(["NULL" if each is None else str(each) for each in plain]) + "}"


def array_literal(items: Sequence[str]) -> str:
    """PostgreSQL's text form of a text array: unnest would flatten an array of arrays."""
    if not items:
        return "{}"
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return '{"' + '","'.join(quoted) + '"}'


_LOCK_LANE = statement("lock_lane")
_ADVANCE_LANE = statement("advance_lane")
_NOTE_PUBLISHED = statement("note_published")
_SETTLED = statement("settled")
_CANDIDATES = statement("candidates")
_HISTORY = statement("history")
_INSERT_CANDIDATES = statement("insert_candidates")
_UPDATE_CANDIDATES = statement("update_candidates")
_ENSURE_PARTITIONS = statement("ensure_partitions")
