"""The candidates in memory while a batch, or a chunk of a bulk operation, is decided.

One candidate at a time: what a single command does to it is what the item of a bulk does.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from domain.candidate import CandidateState, Changes
from domain.commands import (
    CreateCandidate,
    EraseCandidate,
    FieldError,
    InvalidCommand,
    OnConflict,
)
from domain.limits import MERGE_VERSIONS_MAX
from domain.merge import changed_fields, versions_to_merge
from domain.verdicts import CandidateKey, Change, Erasure, Verdict

History = Mapping[CandidateKey, Mapping[int, Collection[str]]]
"""The fields that each version of a candidate changed."""


class Working:
    """States as they were read, and what has become of them since.

    Args:
        history: for candidates named by a `merge`, the fields changed by each version.
        erased: which of those that are not there were erased.
        now: the batch's instant as RFC 3339.
    """

    def __init__(
        self,
        candidates: Mapping[CandidateKey, CandidateState],
        history: History,
        now: str,
        erased: Iterable[CandidateKey] = (),
    ) -> None:
        self._seen = candidates
        self._now = now
        self._states = dict(candidates)
        self._history = history
        self._changed_here: dict[CandidateKey, dict[int, Collection[str]]] = {}
        self._erased = set(erased)
        self.erasures: list[Erasure] = []

    def written(self) -> tuple[list[CandidateState], list[tuple[int, CandidateState]]]:
        """Each touched candidate once: created; updated, with the version that was read."""
        created: list[CandidateState] = []
        updated: list[tuple[int, CandidateState]] = []
        for key in self._changed_here:
            seen = self._seen.get(key)
            if seen is None:
                created.append(self._states[key])
            else:
                updated.append((seen["version"], self._states[key]))
        return created, updated

    def keep(self, key: CandidateKey, change: Change) -> None:
        """From now on the candidate is so."""
        self._states[key] = change.state
        self._changed_here.setdefault(key, {})[change.state["version"]] = change.changed

    def happens_at(self, now: str) -> None:
        """The instant of the updates that were kept, where it is known only afterwards."""
        self._now = now
        for key in self._changed_here:
            self._states[key]["updated_at"] = now

    def was_erased(self, key: CandidateKey) -> bool:
        """As far as it was told: see `erased`."""
        return key in self._erased

    def missing(self, key: CandidateKey) -> Verdict:
        """The answer to a command whose candidate is not there."""
        if key in self._erased:
            return Verdict("rejected", "erased", detail="The candidate was erased.")
        return Verdict("rejected", "not_found", detail="No such candidate.")

    def erase(self, command: EraseCandidate) -> Verdict:
        """The candidate is no more from now on; its last version is the tombstone."""
        key = command.organization_id, command.candidate_id
        state = self._states.pop(key, None)
        if state is None:
            return self.missing(key)
        self._changed_here.pop(key, None)
        self._erased.add(key)
        seen = self._seen.get(key)
        erasure = Erasure(key, None if seen is None else seen["version"], command.reason)
        self.erasures.append(erasure)
        version = state["version"]
        return Verdict("accepted", None, version + 1, version, erasure=erasure)

    def create(self, command: CreateCandidate) -> Verdict:
        """What the command does, not kept yet."""
        key = command.organization_id, command.candidate_id
        if key in self._erased:
            return self.missing(key)
        state = self._states.get(key)
        if state is not None:
            return Verdict(
                "rejected",
                "already_exists",
                detail="A candidate with this id exists.",
                details={"current_version": state["version"]},
            )
        new = cast(
            CandidateState,
            {
                "organization_id": command.organization_id,
                "candidate_id": command.candidate_id,
                **command.candidate,
                "version": 1,
                "created_at": self._now,
                "updated_at": self._now,
            },
        )
        changed = {
            name: {"from": None, "to": value}
            for name, value in command.candidate.items()
            if value is not None
        }
        return Verdict("applied", None, 1, None, change=Change(None, changed, new))

    def update(
        self,
        key: CandidateKey,
        changes: Changes,
        expected: int | None,
        on_conflict: OnConflict,
    ) -> Verdict:
        """What these changes do to one candidate, not kept yet."""
        state = self._states.get(key)
        if state is None:
            return Verdict("rejected", "not_found", detail="No such candidate.")
        version = state["version"]
        moved = expected is not None and expected != version
        if expected is not None and moved and on_conflict != "overwrite":
            fields = self._conflicting(key, changes, expected, on_conflict, version)
            if fields:
                return Verdict(
                    "rejected",
                    "version_conflict",
                    detail="The candidate is at another version than expected.",
                    details={"current_version": version, "fields": fields},
                )
        try:
            new_values = changed_fields(state, changes)
        except InvalidCommand as error:
            return invalid(error.errors)
        if not new_values:
            return Verdict("unchanged", version=version, previous_version=version)
        old: Any = state  # with fields by names that only run time knows
        changed = {name: {"from": old[name], "to": value} for name, value in new_values.items()}
        new: Any = {**old, **new_values, "version": version + 1, "updated_at": self._now}
        merged = moved and on_conflict == "merge"
        change = Change(version, changed, new)
        return Verdict("merged" if merged else "applied", None, version + 1, version, change=change)

    def versions_behind(self, key: CandidateKey, expected: int | None) -> int:
        """How many versions a `merge` must look at; none where it conflicts anyway."""
        state = self._states.get(key)
        return 0 if state is None else versions_to_merge(state["version"], expected)

    def _conflicting(
        self,
        key: CandidateKey,
        changes: Changes,
        expected: int,
        on_conflict: OnConflict,
        version: int,
    ) -> list[str]:
        """The named fields that stand against the changes, empty when they may be merged."""
        named = list(changes)
        if on_conflict == "reject" or expected > version:
            return named
        if version - expected > MERGE_VERSIONS_MAX:
            return named
        before, here = self._history.get(key, {}), self._changed_here.get(key, {})
        touched: set[str] = set()
        for step in range(expected + 1, version + 1):
            fields = here.get(step) or before.get(step)
            if fields is None:
                return named
            touched.update(fields)
        return [name for name in named if name in touched]


def invalid(errors: tuple[FieldError, ...]) -> Verdict:
    """A command that breaks rules."""
    return Verdict(
        "rejected",
        "invalid",
        detail="The command breaks the rules listed in errors.",
        details={"errors": [error._asdict() for error in errors]},
    )
