"""The deferred part of a lane's erasures, a bounded step at a time, between live batches.

Each step is one lane transaction, so only the lane's owner takes it; whoever takes the lane goes on
where the tables say it stands. Only what is published is emptied: the publisher may still have to
read the rest. A step that takes too long is undone and divided.
"""

import time

import orjson
import structlog

from consumer.apply import Attempt
from consumer.erasure_store import Step, take_step
from consumer.store import NOBODY, Connection, LaneStore
from contract.journal import JournalRow, timestamp_text
from contract.lanes import Hook, LaneRow, Published
from domain.limits import (
    ERASE_AGAIN_SECONDS,
    ERASE_BUSY_SECONDS,
    ERASE_BYTES_MAX,
    ERASE_ROWS_MAX,
    ERASE_SHARE_MAX,
)

_AGAIN_FIRST = 0.05

log = structlog.get_logger("consumer")


class Erasing:
    """Takes steps while erasures are open, and waits where they have to."""

    def __init__(self, store: LaneStore, *, hook: Hook) -> None:
        self._store = store
        self._hook = hook
        self._open = True  # whether any is, only the tables know
        self._due_at = 0.0
        self._wait = _AGAIN_FIRST
        self._rows_max = ERASE_ROWS_MAX
        self._bytes_max = ERASE_BYTES_MAX
        self._last_organization = NOBODY

    @property
    def due(self) -> bool:
        """May there be something to do now?"""
        return self._open and time.monotonic() >= self._due_at

    def begin(self) -> None:
        """A batch has accepted an erasure."""
        self._open = True
        self._look_again(0.0)

    def take_less(self) -> None:
        """PostgreSQL was too slow for a step: half of it the next time, and not at once."""
        self._rows_max = max(1, self._rows_max // 2)
        self._bytes_max = max(1, self._bytes_max // 2)
        self._look_again(ERASE_AGAIN_SECONDS)

    def take_more(self) -> None:
        """It was quick enough: twice as much the next time, up to a whole step."""
        self._rows_max = min(ERASE_ROWS_MAX, self._rows_max * 2)
        self._bytes_max = min(ERASE_BYTES_MAX, self._bytes_max * 2)

    async def prepare(self, connection: Connection, lane: LaneRow, published: Published) -> Attempt:
        """Everything of a step's transaction but BEGIN and COMMIT; rows where one is completed."""
        started = time.monotonic()
        step = await take_step(
            connection, lane, published, rows_max=self._rows_max, bytes_max=self._bytes_max,
            after_organization=self._last_organization,
        )  # fmt: skip
        self._open = step is not None
        if step is None:
            return Attempt([], lane)
        self._hook("after_erase_step")
        self._last_organization = step.organization_id
        if step.busy:
            self._look_again(ERASE_BUSY_SECONDS)
        elif step.idle:
            self._look_again(min(self._wait * 2, ERASE_AGAIN_SECONDS))
        else:
            worked = time.monotonic() - started
            self._look_again(0.0, rest=worked / ERASE_SHARE_MAX - worked)
        if not step.completed:
            return Attempt([], lane)
        rows = [_erased_row(lane, step)]
        await self._store.append(connection, rows)
        self._hook("after_erase_journal")
        after = lane.noting(published)._replace(
            journal_sequence=rows[0].journal_sequence, result_sequence=rows[0].result_sequence
        )
        await self._store.advance(connection, lane, after)
        log.info(
            "candidate erased", action="candidate_erased", lane=lane.lane,
            journal_rows=step.journal_rows, operations=step.operations,
            dead_letters=step.dead_letters,
        )  # fmt: skip
        return Attempt(rows, after)

    def _look_again(self, seconds: float, *, rest: float = 0.0) -> None:
        self._wait = seconds or _AGAIN_FIRST
        self._due_at = time.monotonic() + seconds + rest


def _erased_row(lane: LaneRow, step: Step) -> JournalRow:
    """What `candidate.erased.v1` tells."""
    details = {
        "accepted_at": timestamp_text(step.accepted_at),
        "journal_rows": step.journal_rows,
        "operations": step.operations,
        "dead_letters": step.dead_letters,
    }
    return JournalRow(
        lane.recorded_at, lane.lane, lane.journal_sequence + 1, lane.result_sequence + 1, None,
        "erased", lane.next_offset - 1, None, None, step.organization_id, step.candidate_id,
        step.command_id, step.command_source, step.command_type, None, None, None, None,
        None, orjson.dumps(details), None, None, step.traceparent, step.tracestate,
    )  # fmt: skip
