"""Redrives one dead letter: noted, sent to the commands topic, and followed to its end.

A redriven record keeps key, value and headers; one header more links a later death to the first.
What it does is noted before it is done, so that no redrive is without its line in the audit trail
and no two people send the same letter at once.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

import asyncpg
import orjson
from uuid_utils.compat import uuid7

from audit.dead_letters import UnknownLetter, WholeLetter, read_letter
from audit.operators import Operators
from audit.sqlfiles import statement
from contract.dead_letters import REDRIVE_OF, DeadLetterId
from contract.record import SourceRecord
from domain.identity import Identity, home_lane

Refusal = Literal["redriven_before", "under_way", "nothing_to_send"]

FAILED = ("dead_lettered", "send_failed", "pending")
"""Outcomes that count against a campaign; a rejection is an answer, and its sender has it."""

_LOOK_EVERY_SECONDS = 0.1
_LOST_AFTER = timedelta(minutes=10)
"""Who has not sent after so long, has gone away."""
_OPEN_MAX = 1000

_CLAIM = statement("claim_redrive")
_STANDING = statement("redrive_standing")
_NOTE_SENT = statement("note_redrive_sent")
_NOTE_ENDED = statement("note_redrive_ended")
_SETTLED = statement("redrives_settled")
_REROUTED_END = statement("rerouted_end")
_OPEN = statement("redrives_open")
_PARTITIONS = "SELECT max(partitions_total) FROM lanes"


class RecordNotSent(Exception):
    """Kafka did not acknowledge the record; it may have arrived all the same."""


class RecordSender(Protocol):
    """The way to the commands topic."""

    async def send(self, lane: int, record: SourceRecord, /) -> int:
        """The offset of the record on that partition. Raises RecordNotSent."""


class RedriveRefused(Exception):
    """The letter is not sent; `why` tells the reason."""

    def __init__(self, letter_id: DeadLetterId, why: Refusal) -> None:
        super().__init__(f"{letter_id}: {_REFUSALS[why]}")
        self.letter_id = letter_id
        self.why = why


class Redriven(NamedTuple):
    """A redrive, and how it ended: an outcome of the contract, or one of `FAILED`.

    `ended` is where: the result that settled it, or its new death.
    """

    redrive_id: UUID
    letter_id: DeadLetterId
    outcome: str
    reason: str | None = None
    ended: DeadLetterId | None = None

    @property
    def failed(self) -> bool:
        """Does it count against a campaign?"""
        return self.outcome in FAILED


_REFUSALS: dict[Refusal, str] = {
    "redriven_before": "was redriven before (--again sends it once more)",
    "under_way": "another redrive of it is under way",
    "nothing_to_send": "its record is not kept any more",
}


class Redrives:
    """Sends dead letters on behalf of one person."""

    def __init__(self, operators: Operators, sender: RecordSender, *, requested_by: str) -> None:
        self._operators = operators
        self._sender = sender
        self._requested_by = requested_by
        self._partitions_total: int | None = None

    async def send(self, letter_id: DeadLetterId, *, again: bool) -> Redriven:
        """Send one letter's record, once; the answer is `pending`, or `send_failed`.

        Raises:
            UnknownLetter: there is none.
            RedriveRefused: it was sent before, or is being sent, or nothing of it is left.
        """
        redrive_id = uuid7()
        if await self._operators.fetchval(
            _CLAIM, redrive_id, *letter_id, self._requested_by, again
        ) is None:  # fmt: skip
            raise await self._refusal(letter_id)
        letter = await read_letter(self._operators, letter_id)
        if letter.record is None:
            await self._end(Redriven(redrive_id, letter_id, "send_failed", "nothing_to_send"))
            raise RedriveRefused(letter_id, "nothing_to_send")
        lane = await self._lane_for(letter)
        try:
            offset = await self._sender.send(lane, _linked(letter, letter.record))
        except RecordNotSent as error:
            failed = Redriven(redrive_id, letter_id, "send_failed", str(error))
            await self._end(failed)
            return failed
        await self._operators.fetch(_NOTE_SENT, redrive_id, lane, offset)
        return Redriven(redrive_id, letter_id, "pending")

    async def followed(self, sent: Sequence[Redriven], *, within: timedelta) -> list[Redriven]:
        """Each of them as it ended, in order; those that are still `pending` then stay so."""
        ended = {each.redrive_id: each for each in sent if each.outcome != "pending"}
        deadline = asyncio.get_running_loop().time() + within.total_seconds()
        while True:
            waiting = [each.redrive_id for each in sent if each.redrive_id not in ended]
            for each in await self._settled(waiting) if waiting else ():
                ended[each.redrive_id] = each
            if len(ended) == len(sent) or asyncio.get_running_loop().time() > deadline:
                return [ended.get(each.redrive_id, each) for each in sent]
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def finish_open(self) -> None:
        """Note the ends of redrives whose senders did not wait for them."""
        rows = await self._operators.fetch(_OPEN, _LOST_AFTER, _OPEN_MAX)
        await self._settled([row["redrive_id"] for row in rows if not row["lost"]])
        for row in rows:
            if row["lost"]:
                await self._operators.fetch(
                    _NOTE_ENDED, row["redrive_id"], "send_failed", "interrupted", None, None
                )

    async def _settled(self, redrive_ids: Sequence[UUID]) -> list[Redriven]:
        """Those that have ended, each noted in the audit trail."""
        ended: list[Redriven] = []
        for row in await self._operators.fetch(_SETTLED, list(redrive_ids)):
            letter_id = DeadLetterId(row["first_lane"], row["first_sequence"])
            end = row if row["kind"] != "reroute" else await self._rerouted_end(row, letter_id)
            if end is not None:
                each = _ended(row["redrive_id"], letter_id, end)
                await self._end(each)
                ended.append(each)
        return ended

    async def _rerouted_end(
        self, row: asyncpg.Record, letter_id: DeadLetterId
    ) -> asyncpg.Record | None:
        identity = Identity(str(row["organization_id"]), row["command_source"], row["command_id"])
        home = orjson.loads(row["details"])["to_partition"]
        return await self._operators.fetchrow(
            _REROUTED_END, identity.key, home, str(letter_id), *letter_id, row["requested_at"]
        )

    async def _end(self, each: Redriven) -> None:
        lane, sequence = each.ended or (None, None)
        await self._operators.fetch(
            _NOTE_ENDED, each.redrive_id, each.outcome, each.reason, lane, sequence
        )

    async def _lane_for(self, letter: WholeLetter) -> int:
        """The organization's home where it is known, else where the record came from."""
        if letter.organization_id is None:
            return letter.id.lane
        if self._partitions_total is None:
            self._partitions_total = await self._operators.fetchval(_PARTITIONS)
        return home_lane(letter.organization_id, self._partitions_total or 1)

    async def _refusal(self, letter_id: DeadLetterId) -> Exception:
        standing = await self._operators.fetchrow(_STANDING, *letter_id)
        if standing is None or not standing["known"]:
            return UnknownLetter(f"There is no dead letter {letter_id}.")
        return RedriveRefused(
            letter_id, "under_way" if standing["under_way"] else "redriven_before"
        )


def _linked(letter: WholeLetter, record: SourceRecord) -> SourceRecord:
    """The record as it was, with the first death in a header of ours."""
    first_death = letter.redrive_of or str(letter.id)
    kept = [(name, value) for name, value in record.headers if name != REDRIVE_OF]
    return record._replace(headers=(*kept, (REDRIVE_OF, first_death.encode())))


def _ended(redrive_id: UUID, letter_id: DeadLetterId, end: Any) -> Redriven:
    place = DeadLetterId(end["lane"], end["result_sequence"])
    if end["kind"] == "dead_letter":
        code = end["reason"] or orjson.loads(end["details"] or b"{}").get("error_code")
        return Redriven(redrive_id, letter_id, "dead_lettered", code, place)
    return Redriven(redrive_id, letter_id, end["outcome"], end["reason"], place)
