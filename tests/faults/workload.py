"""Commands for fault tests: seeded, with everything in the mix that a lane treats differently.

Each update sets `attributes.n` to a number that only grows, so that the versions of a candidate
tell whether its commands were applied in the order in which they were sent.
"""

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid5

import orjson

from domain.candidate import Changes
from domain.identity import home_lane, operation_id_of
from producer.outgoing import CommandRecord, OutgoingCommand, command_record
from tests.conftest import PARTITIONS_TOTAL

_NAMESPACE = UUID("6f0c2c5e-8a5f-4c53-9d0b-6a2c1f9be001")

POISON = "poison"
POISONED = f"""
ALTER TABLE candidates ADD CONSTRAINT no_poison CHECK (source IS DISTINCT FROM '{POISON}')
"""
"""Valid by our rules, refused by the database: what only a real server can make up."""


def organizations(for_each_lane: int = 1) -> list[str]:
    """So many organizations at home on each lane."""
    found: list[list[str]] = [[] for _ in range(PARTITIONS_TOTAL)]
    number = 0
    while any(len(ids) < for_each_lane for ids in found):
        organization_id = str(uuid5(_NAMESPACE, f"organization {number}"))
        lane = found[home_lane(organization_id, PARTITIONS_TOTAL)]
        if len(lane) < for_each_lane:
            lane.append(organization_id)
        number += 1
    return [organization_id for lane in found for organization_id in lane]


class Workload:
    """Writes commands for a fixed set of candidates; the same seed writes the same ones."""

    def __init__(
        self,
        *,
        seed: int,
        candidates_for_each_lane: int,
        candidates_of_lane: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self._random = random.Random(seed)
        self._seed = seed
        self._written = 0
        self.candidates = [
            (organization_id, str(uuid5(_NAMESPACE, f"candidate {seed} {number}")))
            for organization_id in organizations()
            for number in range(
                candidates_of_lane.get(
                    home_lane(organization_id, PARTITIONS_TOTAL), candidates_for_each_lane
                )
            )
        ]

    def creations(self) -> list[CommandRecord]:
        """Each candidate, once."""
        return [self._creation(*candidate) for candidate in self.candidates]

    def erasures(self) -> list[CommandRecord]:
        """Of each candidate, once."""
        return [
            self._record(
                OutgoingCommand.erase(
                    organization_id=organization_id,
                    candidate_id=candidate_id,
                    actor="tests",
                    reason="asked",
                    id=self._next_id(),
                )
            )
            for organization_id, candidate_id in self.candidates
        ]

    def updates(self, total: int) -> list[CommandRecord]:
        """Updates that must all be applied, each a new version."""
        return [self._update(*self._random.choice(self.candidates)) for _ in range(total)]

    def candidates_at(self, lane: int) -> list[tuple[str, str]]:
        """Those that are at home on one lane."""
        return [key for key in self.candidates if home_lane(key[0], PARTITIONS_TOTAL) == lane]

    def lane_updates(self, lane: int, total: int) -> list[CommandRecord]:
        """Updates of candidates that are at home on one lane."""
        home = self.candidates_at(lane)
        return [self._update(*self._random.choice(home)) for _ in range(total)]

    def mixed(self, total: int) -> list[CommandRecord]:
        """Updates, conflicts, merges, resends, strangers, misplaced and undecodable records."""
        commands: list[CommandRecord] = []
        for _ in range(total):
            commands.append(self._any(commands))
        return commands

    def _any(self, earlier: Sequence[CommandRecord]) -> CommandRecord:
        candidate = self._random.choice(self.candidates)
        match self._random.choices(range(7), weights=(60, 8, 8, 8, 4, 8, 4))[0]:
            case 1:
                return self._update(*candidate, expected_version=self._random.randint(1, 30))
            case 2:
                changes: Changes = {"source": f"source {self._written}"}
                expected = self._random.randint(1, 10)
                return self._update(
                    *candidate, changes, expected_version=expected, on_conflict="merge"
                )
            case 3 if earlier:
                return self._random.choice(earlier)
            case 4:
                return self._update(candidate[0], str(uuid5(_NAMESPACE, "nobody")))
            case 5:
                # Overtaken on its way through another lane: it carries no number.
                misplaced = self._update(*candidate, changes={"rating": self._random.randint(0, 5)})
                elsewhere = (misplaced.partition + 1) % PARTITIONS_TOTAL
                return misplaced._replace(partition=elsewhere)
            case 6:
                return self._update(*candidate)._replace(value=b"{not json")
        return self._update(*candidate)

    def wild(self, total: int) -> list[CommandRecord]:
        """`mixed`, and newcomers, repeated and poisoned ones, reused ids, invalid commands."""
        commands: list[CommandRecord] = []
        for _ in range(total):
            candidate = self._random.choice(self.candidates)
            match self._random.choices(range(7), weights=(80, 4, 2, 4, 2, 4, 4))[0]:
                case 1:
                    newcomer = candidate[0], str(uuid5(_NAMESPACE, f"{self._seed} {self._written}"))
                    self.candidates.append(newcomer)
                    commands.append(self._creation(*newcomer))
                case 2:
                    commands.append(self._creation(*candidate))
                case 3:
                    commands.append(self.poison(candidate))
                case 4:
                    nobody = str(uuid5(_NAMESPACE, f"{self._seed} poisoned {self._written}"))
                    commands.append(self._creation(candidate[0], nobody, source=POISON))
                case 5 if commands:
                    reused = self._random.choice(commands)
                    other = self._update(*candidate)
                    if other.partition == reused.partition:
                        other = other._replace(headers=reused.headers)
                    commands.append(other)
                case 6:
                    rated = self._update(*candidate)
                    value = orjson.loads(rated.value) | {"changes": {"rating": 6}}
                    commands.append(rated._replace(value=orjson.dumps(value)))
                case _:
                    commands.append(self._any(commands))
        return commands

    def bulks(self) -> list[CommandRecord]:
        """Bulk operations, by ids and by filter, and controls of earlier ones."""
        organization_id = self._random.choice(self.candidates)[0]
        home = [key[1] for key in self.candidates if key[0] == organization_id]
        chosen = self._random.sample(home, self._random.randint(1, len(home)))
        changes = {"tags": {"add": [f"tag {self._random.randint(0, 9)}"]}}
        which: dict[str, Any] = self._random.choice(
            [
                {"candidate_ids": [*chosen, str(uuid5(_NAMESPACE, "nobody"))]},
                {"candidate_ids": chosen, "expected_versions": dict.fromkeys(chosen[:2], 3)},
                {"filter": {"status": "new"}},
                {"filter": {"status": "new"}, "dry_run": True},
            ]
        )
        data = {"organization_id": organization_id, "actor": "tests"}
        record = self._record(
            OutgoingCommand(
                type="candidate.bulk-update.v1",
                data=data | {"changes": changes, **which},
                id=self._next_id(),
            )
        )
        action = self._random.choice(("pause", "cancel", "retry_failed"))
        target = {"operation_id": operation_id_of(record.identity.key), "action": action}
        controls = [target] if self._random.random() < 0.5 else []
        controls += [target | {"action": "resume"}] if action == "pause" else []
        return [record] + [
            self._record(
                OutgoingCommand(
                    type="bulk-operation.control.v1", data=data | each, id=self._next_id()
                )
            )
            for each in controls
        ]

    def poison(self, candidate: tuple[str, str]) -> CommandRecord:
        """An update that a database with `POISONED` refuses."""
        return self._update(*candidate, changes={"source": POISON})

    def _creation(
        self, organization_id: str, candidate_id: str, source: str | None = None
    ) -> CommandRecord:
        return self._record(
            OutgoingCommand.create(
                organization_id=organization_id,
                candidate_id=candidate_id,
                candidate={
                    "first_name": "Ada",
                    "last_name": "Lovelace",
                    "email": "ada@example.com",
                    "attributes": {"n": 0},
                    "source": source,
                },
                actor="tests",
                id=self._next_id(),
            )
        )

    def _update(
        self,
        organization_id: str,
        candidate_id: str,
        changes: Changes | None = None,
        **options: Any,
    ) -> CommandRecord:
        command_id = self._next_id()
        return self._record(
            OutgoingCommand.update(
                organization_id=organization_id,
                candidate_id=candidate_id,
                changes=changes or {"attributes": {"n": self._written}},
                actor="tests",
                id=command_id,
                **options,
            )
        )

    def _next_id(self) -> str:
        self._written += 1
        return f"{self._seed}-{self._written}"

    def _record(self, command: OutgoingCommand) -> CommandRecord:
        return command_record(command, source="/tests", partitions_total=PARTITIONS_TOTAL)


def number_of(state: dict[str, Any]) -> int:
    """The number that the last update of a candidate carried."""
    return int(state["attributes"]["n"])


def command_id_of(value: bytes) -> str:
    """Which command a result is about."""
    return str(orjson.loads(value)["command_id"])
