"""`funnel recover`, as far as the consumer's own code does it: bulk operations settled again.

At the instant and the numbers of then, from the same state, so they come out as they were; that
they do is for the recovery to see.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import asyncpg

from audit.lost_rows import RecoverRefused, source_record
from audit.output_log import LogRecord
from audit.recover import Settled
from audit.recover_store import StandingLane
from consumer.apply import Apply, Attempt
from consumer.background import Background
from consumer.bulk import BulkWrites
from consumer.decode import Decoder
from consumer.operation_store import OperationStore
from consumer.store import Connection, DataRefused, LaneStore, StoreError, prepare_connection
from contract.lanes import LaneRow, Published
from domain.commands import CommandParser
from funnel.consume import ConsumeConfig
from funnel.replaying import ReplayRecord

Settle = Callable[..., Awaitable[Attempt]]
"""As `Apply.prepare` and `Background.settle`, with all but `isolating` told."""


class ConsumerSettler:
    """Settles as a consumer of this configuration does, on the recovery's connection."""

    def __init__(self, config: ConsumeConfig) -> None:
        nowhere = cast(asyncpg.Pool, None)  # all they are asked for here is given the connection
        store = LaneStore(nowhere)
        retention, hook = config.operations_retention, config.hook
        self._operations = OperationStore(nowhere, chunk_items=config.chunk_items)
        self._parser = CommandParser(phone_region=config.phone_region)
        self._apply = Apply(
            store,
            BulkWrites(self._operations, retention=retention),
            topics=config.topics,
            deduplication=config.deduplication,
            hook=hook,
        )
        self._background = Background(store, self._operations, retention=retention, hook=hook)

    async def prepare(self, connection: asyncpg.Connection) -> None:
        """JSON as the consumer's statements take and give it."""
        await prepare_connection(connection)

    async def command(
        self, connection: asyncpg.Connection, lane: StandingLane, command: LogRecord
    ) -> Settled:
        """Settle a command behind where the lane stands, at the lane's instant."""
        partitions_total = await connection.fetchval("SELECT count(*) FROM lanes")
        decoder = Decoder(lane=lane.lane, partitions_total=partitions_total, parser=self._parser)
        record = ReplayRecord(command.offset, *source_record(command))
        batch = decoder.decode([record], command.offset + 1)
        ours = cast(Connection, connection)
        settle = partial(self._apply.prepare, ours, _row(lane), Published(0, 0), batch=batch)
        return await _settled(connection, lane, settle)

    async def chunk(
        self,
        connection: asyncpg.Connection,
        lane: StandingLane,
        operation: tuple[str, str],
        *,
        pending: int,
    ) -> Settled:
        """Work an operation, by organization and id, off until so many of its items are pending."""
        ours = cast(Connection, connection)
        chunk = await self._operations.chunk_up_to(ours, operation, pending=pending)
        if chunk is None:
            raise RecoverRefused(
                f"operation {operation[1]} is not there with more than {pending} items to do: its"
                " beginning was lost by more than this loss. Restore an older backup, whose lanes"
                " stand before it"
            )
        settle = partial(self._background.settle, ours, _row(lane), Published(0, 0), chunk)
        return await _settled(connection, lane, settle)


async def _settled(connection: asyncpg.Connection, lane: StandingLane, settle: Settle) -> Settled:
    """With what the database refuses set apart, if it refuses anything, as a lane does it."""
    with _refusing():
        try:
            async with connection.transaction():
                attempt = await settle(isolating=False)
        except DataRefused:
            attempt = await settle(isolating=True)
    after = attempt.after
    return attempt.rows, StandingLane(lane.lane, *after[4:14], last_recorded_at=after.recorded_at)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise RecoverRefused(
            f"PostgreSQL does not take it again ({error}): compare the schema (`funnel migrate"
            " status`) and the rules that were added to it with those of then"
        ) from error


def _row(lane: StandingLane) -> LaneRow:
    standing = lane._asdict()
    recorded_at = standing.pop("last_recorded_at")
    return LaneRow(
        partitions_total=0, commands_topic="", cluster_id="", recorded_at=recorded_at, **standing
    )
