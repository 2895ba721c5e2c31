"""CONTRACT.md 2 to 5 for creates, updates and erasures, one command at a time: what any batching
must equal.

Written from the contract's words alone, with nothing of `domain`. `model_fields` has the rules for
values; `model_bulk` adds the commands that name many candidates.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tests.domain.model_fields import HORIZON, Json, Sent, born, differ, invalid, patched

Key = tuple[str, str]
Rule = Callable[["Model", Json, str], Json]
"""The answer to the data of a command that was not settled before, at an instant."""

EMPTY = dict.fromkeys(("phone", "pipeline_stage", "rating", "source"))
DEFAULTS: Json = {"status": "new", "tags": [], "attributes": {}}


class Model:
    """State, journal and the answers given, as plain dicts and lists."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.rules = rules
        self.settled: dict[Any, tuple[datetime, str, Json]] = {}
        self.states: dict[Key, Json] = {}
        self.erased: set[Key] = set()
        self.journal: list[Json] = []

    def settle(self, sent: Sent, sequence: int, now: datetime) -> Json:
        """The answer to one command."""
        identity = sent.data["organization_id"], sent.source, sent.id
        content = json.dumps([sent.type, sent.data], sort_keys=True)
        if born(sent.id) < now - HORIZON:
            return rejected("too_old")
        at, earlier, original = self.settled.get(identity, (now - 2 * HORIZON, "", {}))
        if now - at <= HORIZON:
            same = earlier == content
            return {"outcome": "duplicate", "original": original} if same else rejected("id_reused")
        answer = self.rules[sent.type](self, sent.data, f"{now:%Y-%m-%dT%H:%M:%S.%fZ}")
        told = {name: answer.get(name) for name in ("outcome", "reason", "version")}
        self.settled[identity] = now, content, {"sequence": sequence, **told}
        return answer

    def write(self, key: Key, old: Json, new: Json, now: str) -> Json:
        """One more version, and its row in the journal."""
        version, previous = old["version"] + 1, old["version"] or None
        changed = {name: {"from": old.get(name), "to": value} for name, value in new.items()}
        state = self.states[key] = {**old, **new, "version": version, "updated_at": now}
        row = {"key": key, "version": version, "previous": previous}
        self.journal.append({**row, "changed": changed, "state": state})
        return {"version": version, "previous_version": previous}


def create(model: Model, data: Json, now: str) -> Json:
    key = data["organization_id"], data["candidate_id"]
    if key in model.erased:
        return rejected("erased")
    if invalid(data["candidate"]):
        return rejected("invalid")
    if key in model.states:
        return rejected("already_exists")
    blank = {"organization_id": key[0], "candidate_id": key[1], **EMPTY, "version": 0}
    given = {**DEFAULTS, **data["candidate"]}
    new = {name: value for name, value in given.items() if value is not None}
    return {"outcome": "applied", **model.write(key, {**blank, "created_at": now}, new, now)}


def update(model: Model, data: Json, now: str) -> Json:
    key, changes = (data["organization_id"], data["candidate_id"]), data["changes"]
    if key in model.erased:
        return rejected("erased")
    if invalid(changes):
        return rejected("invalid")
    if (state := model.states.get(key)) is None:
        return rejected("not_found")
    version, how = state["version"], data.get("on_conflict", "reject")
    expected = data.get("expected_version") or version
    if expected != version and how != "overwrite":
        fields = sorted(changes)
        if how == "merge" and 0 < version - expected <= 1000:
            later = [
                row for row in model.journal if row["key"] == key and row["version"] > expected
            ]
            fields = [name for name in fields if any(name in row["changed"] for row in later)]
        if fields:
            return rejected("version_conflict", current=version, fields=fields)
    new = {name: patched(name, state[name], value) for name, value in changes.items()}
    new = {name: value for name, value in new.items() if differ(value, state[name])}
    if invalid(new):
        return rejected("invalid")
    if not new:
        return {"outcome": "unchanged", "version": version}
    merged = expected != version and how == "merge"
    return {"outcome": "merged" if merged else "applied", **model.write(key, state, new, now)}


def erase(model: Model, data: Json, now: str) -> Json:
    key = data["organization_id"], data["candidate_id"]
    if (state := model.states.pop(key, None)) is None:
        return rejected("erased" if key in model.erased else "not_found")
    model.erased.add(key)
    version = state["version"]
    return {"outcome": "accepted", "version": version + 1, "previous_version": version}


def rejected(reason: str, **told: Any) -> Json:
    return {"outcome": "rejected", "reason": reason, **told}


SINGLES: Mapping[str, Rule] = {
    "candidate.create.v1": create,
    "candidate.update.v1": update,
    "candidate.erase.v1": erase,
}
