"""The next chunk decided ahead: the same as decided in its turn, and only while that is so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from audit.keys import Key
from audit.repair import open_repairer
from consumer.decide_ahead import DecideAhead, Decided, decided
from consumer.operation_store import NextChunk, OperationStore, Operator
from consumer.store import NOBODY, Connection, LaneStore, StoreAway, TryAgain, open_pool
from contract.journal import timestamp_text
from contract.lanes import LaneRow
from domain.outcomes import OperationStatus
from domain.verdicts import CandidateKey
from tests.consumer.bulk import PROGRESSED, bulk, control, counts, ended, people
from tests.consumer.conftest import Bed, update
from tests.consumer.test_bulk import operation_of

CHUNK = 20


class Turns(NamedTuple):
    """An operation of which nothing is done yet, on a lane that stands still."""

    store: LaneStore
    operations: OperationStore
    lane: LaneRow
    chunk: NextChunk

    async def next(self, done: int = CHUNK) -> NextChunk:
        """The chunk behind the first one."""
        chunk = self.chunk
        ids, versions, _ = await self.operations.chunk_at(chunk.operator, done)
        return chunk._replace(first_ordinal=done, candidate_ids=ids, expected_versions=versions)


@pytest.fixture
async def turns(own_bed: Bed) -> AsyncIterator[Turns]:
    bed = own_bed
    async with bed.consuming(chunk_items=CHUNK):
        keys = await people(bed, 2 * CHUNK, lane=0)
        await bed.settle(update(keys[-1], {"rating": 5}), update(keys[-2], {"status": "hired"}))
    ids = [key[1] for key in keys] + [str(uuid4()) for _ in range(1001)]
    command = bulk(
        keys[0][0], {"rating": 5, "tags": {"add": ["seen"]}},
        candidate_ids=ids, expected_versions={ids[CHUNK]: 9},
    )  # fmt: skip
    pause = control(keys[0][0], operation_of(command), "pause")
    await bed.send(command, pause)  # in one poll, so no chunk comes between
    async with bed.consuming(chunk_items=CHUNK):
        await bed.result(pause)
    await bed.database.execute("UPDATE bulk_operations SET status = 'running'")
    pool = await open_pool(bed.database_url, lease=timedelta(seconds=10), lanes_max=1)
    try:
        store, operations = LaneStore(pool), OperationStore(pool, chunk_items=CHUNK)
        async with store.transaction() as connection:
            lane = await store.lock(connection, 0)
            chunk = await operations.next_chunk(connection, 0, after_organization=NOBODY)
        assert chunk is not None
        yield Turns(store, operations, lane, chunk)
    finally:
        await pool.close()


async def test_take__what_its_turn_would_decide(turns: Turns) -> None:
    ahead = DecideAhead(turns.operations)
    ahead.begin(turns.chunk)
    ahead.holds_at(turns.lane)
    chunk = await turns.next()
    taken = await ahead.take(turns.lane, chunk)
    async with turns.store.transaction() as connection:
        candidates = await turns.operations.candidates(
            connection, chunk.operator.organization_id, chunk.candidate_ids
        )
    instant = timestamp_text(turns.lane.recorded_at)
    wanted = decided(chunk, candidates, {}, instant)
    assert taken is not None
    assert taken.updates == wanted.updates
    assert taken.at(instant) == wanted.items
    assert {item.outcome for item in taken.items} == {"applied", "conflict"}
    assert taken.work.written() == wanted.work.written()
    assert await ahead.take(turns.lane, chunk) is None, "once only"


async def test_take__nothing_if_the_lane_has_moved(turns: Turns) -> None:
    ahead = DecideAhead(turns.operations)
    ahead.begin(turns.chunk)
    ahead.holds_at(turns.lane)
    moved = turns.lane._replace(journal_sequence=turns.lane.journal_sequence + 1)
    assert await ahead.take(moved, await turns.next()) is None
    assert await ahead.take(turns.lane, await turns.next()) is None, "for good"


async def test_take__nothing_if_the_transaction_never_ended(turns: Turns) -> None:
    ahead = DecideAhead(turns.operations)
    ahead.begin(turns.chunk)
    assert await ahead.take(turns.lane, await turns.next()) is None


async def test_take__nothing_of_another_size_or_place(turns: Turns) -> None:
    chunk = await turns.next()
    others = [
        chunk._replace(candidate_ids=chunk.candidate_ids[:5]),
        await turns.next(2 * CHUNK),
        chunk._replace(operator=chunk.operator._replace(operation_id=str(uuid4()))),
    ]
    for other in others:
        ahead = DecideAhead(turns.operations)
        ahead.begin(turns.chunk)
        ahead.holds_at(turns.lane)
        assert await ahead.take(turns.lane, other) is None


@pytest.mark.parametrize(("status", "on_conflict"), [("cancelled", "reject"), ("running", "merge")])
async def test_begin__not_what_is_cancelled_or_looks_at_the_journal(
    turns: Turns, status: OperationStatus, on_conflict: str
) -> None:
    order = turns.chunk.order._replace(on_conflict=on_conflict)  # type: ignore[arg-type]
    ahead = DecideAhead(turns.operations)
    ahead.begin(turns.chunk._replace(status=status, order=order))
    ahead.holds_at(turns.lane)
    assert await ahead.take(turns.lane, await turns.next()) is None


class Counted(NamedTuple):
    """What became of chunks that were decided ahead: which were, and which were of use."""

    begun: list[str]
    taken: list[str]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted, take, chunk_at = Counted([], []), DecideAhead.take, OperationStore.chunk_at

    async def counting_take(self: DecideAhead, lane: LaneRow, chunk: NextChunk) -> Decided | None:
        taken = await take(self, lane, chunk)
        if taken is not None:
            counted.taken.append(chunk.operator.operation_id)
        return taken

    async def counting_chunk_at(self: OperationStore, operator: Operator, at: int) -> Any:
        counted.begun.append(operator.operation_id)
        return await chunk_at(self, operator, at)

    monkeypatch.setattr(DecideAhead, "take", counting_take)
    monkeypatch.setattr(OperationStore, "chunk_at", counting_chunk_at)
    return counted


async def test_chunks__are_decided_ahead_where_one_operation_has_every_turn(
    own_bed: Bed, counted: Counted
) -> None:
    bed = own_bed
    async with bed.consuming(chunk_items=CHUNK):
        keys = await people(bed, 10 * CHUNK, lane=0)
        command = bulk(keys[0][0], {"rating": 1}, filter={"status": "new"})
        await bed.settle(command)
        await ended(bed, operation_of(command))
    assert counted.taken == counted.begun == 5 * [operation_of(command)]


async def test_chunks__are_not_decided_ahead_in_vain_where_operations_take_turns(
    own_bed: Bed, counted: Counted
) -> None:
    bed = own_bed
    async with bed.consuming(chunk_items=CHUNK):
        mine, other = await people(bed, 10 * CHUNK, lane=0), await people(bed, 10 * CHUNK, lane=0)
    commands = [
        bulk(mine[0][0], {"rating": 1}, filter={"status": "new"}),
        bulk(mine[0][0], {"rating": 2}, filter={"status": "new"}),
        bulk(other[0][0], {"rating": 1}, filter={"status": "new"}),
    ]
    await bed.send(*commands)
    async with bed.consuming(chunk_items=CHUNK):
        for command in commands:
            await ended(bed, operation_of(command))
    assert counted.taken == counted.begun
    turns = [event.data["operation_id"] for event in bed.results if event.type == PROGRESSED]
    theirs = operation_of(commands[2])
    assert 10 * [theirs] in (turns[0:20:2], turns[1:20:2])
    first, second, *_ = ours = [each for each in turns if each != theirs]
    assert ours == 10 * [first, second]


@pytest.mark.parametrize("dry_run", [False, True])
async def test_chunks__whatever_becomes_of_their_transactions(
    own_bed: Bed, counted: Counted, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    """Undone before and after the lane's row is written, done without an answer, each in turn."""
    bed, advance, transaction = own_bed, LaneStore.advance, LaneStore.transaction
    advances, commits = count(1), count(1)
    missing, lost = [str(uuid4()) for _ in range(1001)], False

    async def failing_advance(
        self: LaneStore, connection: Connection, before: LaneRow, after: LaneRow
    ) -> None:
        nonlocal lost
        number = next(advances)
        if number % 7 == 3:
            raise TryAgain("before")
        await advance(self, connection, before, after)
        if number % 7 == 5:
            raise TryAgain("after")
        lost = number % 7 == 6

    @asynccontextmanager
    async def lossy_transaction(self: LaneStore) -> AsyncIterator[Connection]:
        nonlocal lost
        async with transaction(self) as connection:
            yield connection
        if lost:
            lost = False
            next(commits)
            raise StoreAway("the answer is lost")

    async with bed.consuming(chunk_items=CHUNK):
        keys = await people(bed, 30 * CHUNK, lane=0)
        stale, same = keys[:: CHUNK // 2], keys[1 :: CHUNK // 2]
        await bed.settle(*(update(key, {"source": "x"}) for key in stale))
        await bed.settle(*(update(key, {"rating": 3}) for key in same))
        monkeypatch.setattr(LaneStore, "advance", failing_advance)
        monkeypatch.setattr(LaneStore, "transaction", lossy_transaction)
        ids = [
            each for pair in zip((key[1] for key in keys), missing, strict=False) for each in pair
        ]
        command = bulk(
            keys[0][0], {"rating": 3}, candidate_ids=ids, dry_run=dry_run,
            expected_versions={key[1]: 1 for key in stale if key[1] in ids},
        )  # fmt: skip
        await bed.settle(command)
        told = (await ended(bed, operation_of(command)))["counts"]
        states = {key: await bed.state(key) for key in keys}
    named = set(ids)
    conflict, unchanged = (sum(key[1] in named for key in some) for some in (stale, same))
    assert (told["conflict"], told["unchanged"]) == (conflict, unchanged)
    assert told["not_found"] == len(ids) // 2
    assert told["pending"] == told["invalid"] == 0
    for key, state in states.items():
        assert bed.changes_of(key)[-1].data["state"] == state
    assert len(counted.taken) > 10
    assert next(commits) > 3


async def applied_to_all(bed: Bed, keys: list[CandidateKey]) -> None:
    """An operation over all of an organization, of which each candidate is changed."""
    command = bulk(keys[0][0], {"rating": 1}, filter={"status": "new"})
    await bed.settle(command)
    total = len(keys)
    assert (await ended(bed, operation_of(command)))["counts"] == counts(total, applied=total)


async def test_chunks__see_a_repair_that_came_behind_the_decision(
    own_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read ahead is what somebody had made of the table past the lane."""
    bed, chunk_at, advance = own_bed, OperationStore.chunk_at, OperationStore.advance
    at, read, repairing = 7 * CHUNK, asyncio.Event(), list[asyncio.Task[int]]()

    async def reading_what_is_false(self: OperationStore, operator: Operator, first: int) -> Any:
        if first == at:
            await bed.database.execute(
                "UPDATE candidates SET rating = 1 WHERE candidate_id IN (SELECT"
                " unnest(candidate_ids) FROM bulk_operation_chunks WHERE first_ordinal = $1)",
                at,
            )
        found = await chunk_at(self, operator, first)
        if first == at:
            read.set()
        return found

    async def waited_for(
        self: OperationStore, connection: Any, chunk: NextChunk, *a: Any, **k: Any
    ) -> None:
        await advance(self, connection, chunk, *a, **k)
        if chunk.first_ordinal + CHUNK == at:
            await read.wait()
            repairing.append(asyncio.create_task(repairer.repair(wrong)))
            while not await bed.database.fetchval(_REPAIR_WAITS):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async with AsyncExitStack() as opened:
        await opened.enter_async_context(bed.consuming(chunk_items=CHUNK))
        keys = await people(bed, 10 * CHUNK, lane=0)
        wrong = [Key(UUID(key[0]), UUID(key[1])) for key in keys]
        repairer = await opened.enter_async_context(open_repairer(bed.database_url, actor="ann"))
        monkeypatch.setattr(OperationStore, "chunk_at", reading_what_is_false)
        monkeypatch.setattr(OperationStore, "advance", waited_for)
        await applied_to_all(bed, keys)
        assert await repairing[0] == CHUNK
    for key in keys:
        changed = bed.changes_of(key)[-1].data["changed"]
        assert changed == {"rating": {"from": None, "to": 1}}


_REPAIR_WAITS = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'funnel rebuild --repair'
               AND datname = current_database() AND wait_event_type = 'Lock')
"""


async def test_chunks__whose_candidates_were_moved_since(
    own_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is written anew between reading and writing: each stands elsewhere."""
    bed, chunk_at, update_alike = own_bed, OperationStore.chunk_at, OperationStore.update_alike
    moving: list[asyncio.Task[str]] = []
    refused: list[TryAgain] = []

    async def moved_behind(self: OperationStore, operator: Operator, first: int) -> Any:
        found = await chunk_at(self, operator, first)
        if first == 7 * CHUNK:  # begins once the chunk before is written, ends before the next
            cluster = "CLUSTER candidates USING candidates_updated_at"
            moving.append(asyncio.create_task(bed.database.execute(cluster)))
        return found

    async def tried(self: OperationStore, *a: Any) -> None:
        try:
            await update_alike(self, *a)
        except TryAgain as error:
            refused.append(error)
            raise

    async with bed.consuming(chunk_items=CHUNK):
        keys = await people(bed, 10 * CHUNK, lane=0)
        monkeypatch.setattr(OperationStore, "chunk_at", moved_behind)
        monkeypatch.setattr(OperationStore, "update_alike", tried)
        await applied_to_all(bed, keys)
    await moving[0]
    assert len(refused) == 1
    for key in keys:
        assert [event.data["version"] for event in bed.changes_of(key)] == [1, 2]


async def test_chunk__that_is_refused_has_its_turn_again(own_bed: Bed) -> None:
    """And not the other organization, until whose end it would be refused each time."""
    bed = own_bed
    await bed.database.execute(
        "ALTER TABLE candidates ADD CONSTRAINT no_mallory"
        " CHECK (last_name <> 'Mallory' OR version = 1)"
    )
    async with bed.consuming(chunk_items=CHUNK):
        mine = await people(bed, 5 * CHUNK, lane=0, last_name="Mallory")
        other = await people(bed, 5 * CHUNK, lane=0)
    commands = [
        bulk(key[0], {"rating": 1}, filter={"status": "new"}) for key in (mine[0], other[0])
    ]
    refused, fine = map(operation_of, commands)
    await bed.send(*commands)
    async with bed.consuming(chunk_items=CHUNK):
        assert (await ended(bed, refused))["counts"] == counts(5 * CHUNK, invalid=5 * CHUNK)
        assert (await ended(bed, fine))["counts"] == counts(5 * CHUNK, applied=5 * CHUNK)
    turns = [event.data["operation_id"] for event in bed.results if event.type == PROGRESSED]
    assert turns in ([refused, fine] * 5, [fine, refused] * 5)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[asyncio.Task[Any] | None]:
    """Whoever reads a chunk ahead: no answer comes, as from a server that is gone."""
    reading: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue()

    async def hanging(*_: Any) -> None:
        reading.put_nowait(asyncio.current_task())
        await asyncio.Event().wait()

    monkeypatch.setattr(OperationStore, "chunk_at", hanging)
    return reading


async def test_chunks__go_on_without_what_is_not_answered(
    own_bed: Bed,
    reading: asyncio.Queue[asyncio.Task[Any] | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bed = own_bed
    monkeypatch.setattr("consumer.decide_ahead.AHEAD_WAIT_SECONDS_MAX", 0.1)
    async with bed.consuming(chunk_items=CHUNK):
        keys = await people(bed, 10 * CHUNK, lane=0)
        await applied_to_all(bed, keys)
    assert not reading.empty()
    while not reading.empty():
        assert (task := reading.get_nowait()) is not None
        assert task.cancelled()


async def test_lane__that_ends_leaves_nothing_going_on(
    own_bed: Bed, reading: asyncio.Queue[asyncio.Task[Any] | None]
) -> None:
    bed = own_bed
    async with bed.consuming(chunk_items=CHUNK):
        keys = await people(bed, 10 * CHUNK, lane=0)
        await bed.settle(bulk(keys[0][0], {"rating": 1}, filter={"status": "new"}))
        task = await reading.get()
    assert task is not None
    assert task.cancelled()
