"""CONTRACT.md 2 to 5 for creates and updates, one command at a time: what any batching must equal.

Written from the contract's words alone, with nothing of `domain`, in some 50 lines. The rules
for values are in `model_fields`, the other commands in `model_others`.
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
        self.rules, self.states, self.erased = rules, dict[Key, Json](), set[Key]()
        self.settled, self.journal = dict[Any, tuple[datetime, str, Json]](), list[Json]()

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


def create_or_update(model: Model, data: Json, now: str) -> Json:
    """Where there is nothing, a create is an update of nothing."""
    key, given = (data["organization_id"], data["candidate_id"]), data.get("changes")
    state = model.states.get(key)
    if key in model.erased or invalid(given or data["candidate"]):
        return rejected("erased" if key in model.erased else "invalid")
    if given is None and state is None:
        old, new = blank(key, data["candidate"], now)
        return {"outcome": "applied", **model.write(key, old, new, now)}
    if given is None or state is None:
        return rejected("not_found" if state is None else "already_exists")
    version, how = state["version"], data.get("on_conflict", "reject")
    moved = (expected := data.get("expected_version") or version) != version
    later = [row for row in model.journal if row["key"] == key and row["version"] > expected]
    merges = how == "merge" and 0 < version - expected <= 1000
    fields = [n for n in sorted(given) if not merges or any(n in row["changed"] for row in later)]
    if moved and how != "overwrite" and fields:
        return rejected("version_conflict", current=version, fields=fields)
    new = {name: patched(name, state[name], value) for name, value in given.items()}
    new = {name: value for name, value in new.items() if differ(value, state[name])}
    if invalid(new) or not new:
        return rejected("invalid") if new else {"outcome": "unchanged", "version": version}
    merged = "merged" if moved and how == "merge" else "applied"
    return {"outcome": merged, **model.write(key, state, new, now)}


def rejected(reason: str, **told: Any) -> Json:
    return {"outcome": "rejected", "reason": reason, **told}
