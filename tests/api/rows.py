"""Rows as the consumer leaves them, written as its role."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeAlias

import asyncpg
import orjson

from contract.journal import COLUMNS, JournalRow, timestamp_text
from domain.candidate import CandidateState
from domain.identity import Identity

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ORGANIZATION = "0193b1c0-0000-7000-8000-00000000000a"
OTHER_ORGANIZATION = "0193b1c0-0000-7000-8000-00000000000b"
CANDIDATE = "0193b1c0-0000-7000-8000-0000000000c1"
SOURCE = "/upstream"
NOW = datetime.now(UTC).replace(microsecond=120)  # the journal has partitions from now on
PARTITIONS_TOTAL = 4

_INSERT_CANDIDATE = """
    WITH created AS (
        INSERT INTO candidates SELECT * FROM jsonb_populate_record(NULL::candidates, $1::jsonb)
        RETURNING *)
    INSERT INTO candidate_names
    SELECT organization_id, candidate_id, created_at, folded(first_name), folded(last_name),
           folded(email)
    FROM created
"""
_INSERT_JOURNAL = "INSERT INTO {{partition}} ({columns}) VALUES ({values})".format(
    columns=", ".join(COLUMNS),
    values=", ".join(
        f"convert_from(${number}::bytea, 'UTF8')::json"
        if name in ("details", "change")
        else f"${number}"
        for number, name in enumerate(COLUMNS, start=1)
    ),
)
_INSERT_LANE = """
    INSERT INTO lanes (lane, partitions_total, commands_topic, cluster_id, next_offset)
    SELECT lane, $1, 'commands', 'cluster', 0 FROM generate_series(0, $1 - 1) AS lane
"""


@dataclass
class Rows:
    """Writes rows; each journal row gets the next sequence."""

    connection: Connection
    sequences: Iterator[int] = field(default_factory=lambda: count(1))
    changes: dict[int, int] = field(default_factory=dict)

    async def candidate(self, **fields: Any) -> CandidateState:
        """A candidate in the state that its newest change event had."""
        state = candidate_state(**fields)
        await self.connection.execute(_INSERT_CANDIDATE, orjson.dumps(state).decode())
        return state

    async def lanes(self) -> None:
        """All lanes, at their beginning."""
        await self.connection.execute(_INSERT_LANE, PARTITIONS_TOTAL)

    async def move_lane(self, lane: int, *, next_offset: int) -> None:
        """The lane has settled everything before `next_offset`."""
        await self.connection.execute(
            "UPDATE lanes SET next_offset = $2 WHERE lane = $1", lane, next_offset
        )

    async def settled(self, command_id: str, **fields: Any) -> JournalRow:
        """The journal row of a settled command, by default an applied update."""
        return await self._journal(
            {
                "kind": "command",
                "identity": "settled",
                "outcome": "applied",
                "version": 2,
                "previous_version": 1,
                "candidate_id": CANDIDATE,
                "command_id": command_id,
            }
            | fields
        )

    async def changed(self, version: int, state: CandidateState, **fields: Any) -> JournalRow:
        """The journal row of one version of a candidate, its change as published."""
        previous = version - 1 or None
        kind = "candidate.update.v1" if previous else "candidate.create.v1"
        command_id = fields.get("command_id", f"{state['candidate_id'][-2:]}-{version}")
        sequence = self.changes.setdefault(fields.get("lane", 0), 0) + 1
        self.changes[fields.get("lane", 0)] = sequence
        recorded_at = fields.get("recorded_at", NOW)
        change = {
            "organization_id": state["organization_id"],
            "candidate_id": state["candidate_id"],
            "version": version,
            "previous_version": previous,
            "changed": {"rating": {"from": None, "to": state["rating"]}},
            "state": {**state, "version": version},
            "actor": "somebody",
            "command_id": command_id,
            "command_source": SOURCE,
            "sequence": sequence,
            "recorded_at": timestamp_text(recorded_at),
        }
        row = {
            "organization_id": state["organization_id"],
            "candidate_id": state["candidate_id"],
            "version": version,
            "previous_version": previous,
            "change_sequence": sequence,
            "command_type": kind,
            "change": orjson.dumps(change),
        }
        return await self.settled(command_id, **row | fields)

    async def dead_letter(self, **fields: Any) -> JournalRow:
        """The journal row of a dead letter of this organization."""
        details = orjson.dumps({"error_code": "unknown_type", "error_detail": "No such type."})
        return await self._journal({"kind": "dead_letter", "details": details} | fields)

    async def _journal(self, fields: dict[str, Any]) -> JournalRow:
        sequence = next(self.sequences)
        known: dict[str, Any] = {
            "recorded_at": NOW,
            "lane": 0,
            "journal_sequence": sequence,
            "result_sequence": sequence,
            "source_offset": sequence,
            "organization_id": ORGANIZATION,
            "command_source": SOURCE,
            "command_type": "candidate.update.v1",
            "actor": "somebody",
            "builder": 1,
        } | fields
        if known.get("identity") == "settled":
            known["identity"] = Identity(
                known["organization_id"], known["command_source"], known["command_id"]
            ).key
        row = JournalRow._make(known.get(name) for name in COLUMNS)
        partition = f"journal_{row.recorded_at:%Y_%m}"
        await self.connection.execute(_INSERT_JOURNAL.format(partition=partition), *row)
        return row


def candidate_state(**fields: Any) -> CandidateState:
    """A candidate with something in every field."""
    state: CandidateState = {
        "organization_id": ORGANIZATION,
        "candidate_id": CANDIDATE,
        "first_name": "Zoë",
        "last_name": "Al Maktoum",
        "email": "zoe@example.ae",
        "phone": "+971501234567",
        "status": "interview",
        "pipeline_stage": "tech.backend",
        "rating": 4,
        "source": "referral",
        "tags": ["python", "ال"],
        "attributes": {"a": [1, 2.5, None, {"deep": "ё"}]},
        "version": 7,
        "created_at": timestamp_text(NOW.replace(microsecond=0)),
        "updated_at": timestamp_text(NOW),
    }
    return state | fields  # type: ignore[return-value]
