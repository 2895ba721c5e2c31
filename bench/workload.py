"""The same work for everybody: candidates that exist, and commands that change them.

Seeded, so that two runs do the same; every update really changes its candidate.
"""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg
import orjson
from uuid_utils.compat import uuid7

from contract.record import SourceRecord
from domain.identity import home_lane

ORGANIZATIONS_TOTAL = 256
_ROUNDS_TOTAL = 16
SOURCE = "/gulf-funnel/bench"
_STATUSES = ("contacted", "screening", "interview", "offer")
_STAGES = ("engineering.backend.phone", "engineering.backend.onsite", "sales.emea.screen", None)


class Update(NamedTuple):
    """One update as every contender gets it: the candidate, the version it is at, the changes."""

    organization_id: str
    candidate_id: str
    seen_version: int
    changes: dict[str, Any]

    def data(self) -> bytes:
        return orjson.dumps(
            {
                "organization_id": self.organization_id,
                "candidate_id": self.candidate_id,
                "actor": "bench",
                "changes": self.changes,
                "expected_version": self.seen_version,
            }
        )


@dataclass(frozen=True, slots=True)
class Workload:
    """Candidates by number: the n-th belongs to organization `n % organizations_total`."""

    seed: int
    candidates_total: int
    organizations_total: int = ORGANIZATIONS_TOTAL

    def organization_id(self, number: int) -> str:
        return str(uuid.UUID(int=_bits(self.seed, 1, number % self.organizations_total), version=4))

    def candidate_id(self, number: int) -> str:
        return str(uuid.UUID(int=_bits(self.seed, 2, number), version=4))

    async def create_candidates(self, database_url: str) -> None:
        """Straight into the table: how they came there is not what is measured. One a second."""
        connection = await asyncpg.connect(database_url)
        organizations = [self.organization_id(n) for n in range(self.organizations_total)]
        try:
            for start in range(0, self.candidates_total, 20_000):
                numbers = range(start, min(start + 20_000, self.candidates_total))
                await connection.execute(
                    _CREATE,
                    [organizations[n % self.organizations_total] for n in numbers],
                    [self.candidate_id(n) for n in numbers],
                    list(numbers),
                )
            await connection.execute("VACUUM ANALYZE candidates")
        finally:
            await connection.close()

    def updates(
        self, total: int, *, round_number: int = 0, organization: int | None = None
    ) -> list[Update]:
        """Random candidates, their versions tracked, two or three fields each.

        Args:
            round_number: 0 to 15: each round has a sixteenth of the candidates for itself.
            organization: only candidates of the organization with this number.
        """
        chosen = random.Random(self.seed * 1009 + round_number)
        step = self.organizations_total
        groups = range(round_number, self.candidates_total // step, _ROUNDS_TOTAL)
        versions: dict[int, int] = {}
        updates = []
        for _ in range(total):
            own = chosen.randrange(step) if organization is None else organization
            number = chosen.choice(groups) * step + own
            version = versions.get(number, 1)
            versions[number] = version + 1
            changes: dict[str, Any] = {
                "rating": version % 5 + 1,
                "status": _STATUSES[version % 4],
            }
            if chosen.random() < 0.3:
                changes["pipeline_stage"] = chosen.choice(_STAGES)
            if chosen.random() < 0.1:
                changes["tags"] = {"add": [f"round-{version}"]}
            if chosen.random() < 0.1:
                changes["attributes"] = {"score": chosen.random(), "notice_weeks": version}
            updates.append(
                Update(self.organization_id(number), self.candidate_id(number), version, changes)
            )
        return updates


def command_records(
    updates: Sequence[Update], partitions_total: int
) -> dict[int, list[SourceRecord]]:
    """The records of these updates by home lane, in order."""
    records: dict[int, list[SourceRecord]] = {}
    timestamp = int(datetime.now(UTC).timestamp() * 1000)
    for update in updates:
        lane = home_lane(update.organization_id, partitions_total)
        record = SourceRecord(
            update.organization_id.encode(), update.data(), command_headers(), timestamp
        )
        records.setdefault(lane, []).append(record)
    return records


def command_headers() -> tuple[tuple[str, bytes | None], ...]:
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", str(uuid7()).encode()),
        ("ce_source", SOURCE.encode()),
        ("ce_type", b"candidate.update.v1"),
        ("content-type", b"application/json"),
    )


def _bits(*parts: int) -> int:
    return random.Random(repr(parts)).getrandbits(128)


_CREATE = """
WITH created AS (
    INSERT INTO candidates (organization_id, candidate_id, first_name, last_name, email, phone,
                            status, pipeline_stage, rating, source, tags, attributes, version,
                            created_at, updated_at)
    SELECT o, c, 'First' || n, 'Last' || n, 'candidate' || n || '@example.com',
           '+4930' || 1000000 + n, 'new', 'engineering.backend', 0, 'bench', ARRAY['imported'],
           jsonb_build_object('number', n, 'city', 'Berlin'), 1, at, at
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS k (o, c, n)
    CROSS JOIN LATERAL (SELECT now() - interval '1 year' + n * interval '1 s' AS at) AS created
    RETURNING *)
INSERT INTO candidate_names
SELECT organization_id, candidate_id, created_at, folded(first_name), folded(last_name),
       folded(email)
FROM created
"""
