"""CONTRACT.md 2 to 5 for creates and updates, one command at a time: what any batching must equal.

Written from the contract's words alone, with nothing of `domain`. The rules for values are
in `model_fields`, the other commands in `model_others`.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tests.domain.model_fields import HORIZON, Json, Sent, blank, born, differ, invalid, patched

Key = tuple[str, str]
Rule = Callable[["Model", Json, str], Json]
"""The answer to the data of a command that was not settled before, at an instant."""


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
    old, new = blank(key, data["candidate"], now)
    return {"outcome": "applied", **model.write(key, old, new, now)}


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


def rejected(reason: str, **told: Any) -> Json:
    return {"outcome": "rejected", "reason": reason, **told}
