"""CONTRACT.md 2 to 5 for creates, updates and small bulks, one command at a time: what any batching
must equal.

Written from the contract's words alone, with nothing of `domain`. It trusts what it is given but
for two rules: `rating` is 0..5, a candidate has at most 50 tags.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

HORIZON = timedelta(days=35)
EMPTY = dict.fromkeys(("phone", "pipeline_stage", "rating", "source"))
Json = dict[str, Any]
BULK_WORDS = {
    "applied": "applied",
    "merged": "applied",
    "unchanged": "unchanged",
    "version_conflict": "conflict",
    "not_found": "not_found",
    "invalid": "invalid",
}


class Sent(NamedTuple):
    """A command as its sender wrote it."""

    id: str
    source: str
    type: str
    data: Json


class Model:
    """Deduplication, state and journal as plain dicts."""

    def __init__(self) -> None:
        self.settled: dict[Any, tuple[datetime, str, Json]] = {}
        self.states: dict[Any, Json] = {}
        self.erased: set[Any] = set()
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
        answer = self._decide(sent.data, f"{now:%Y-%m-%dT%H:%M:%S.%fZ}")
        told = {name: answer.get(name) for name in ("outcome", "reason", "version")}
        self.settled[identity] = now, content, {"sequence": sequence, **told}
        return answer

    def _decide_bulk(self, data: Json, now: str) -> Json:
        """Each candidate as if it had been sent singly."""
        if invalid(data["changes"]):
            return rejected("invalid")
        before = dict(self.states), list(self.journal)
        expected = data.get("expected_versions", {})
        single = {name: data[name] for name in ("organization_id", "changes")}
        single["on_conflict"] = data.get("on_conflict", "reject")
        items: dict[str, Json] = {}
        for candidate_id in data["candidate_ids"]:
            if candidate_id not in items:
                version = {"expected_version": expected.get(candidate_id)}
                update = {**single, **version, "candidate_id": candidate_id}
                item = self._decide(update, now)
                gone = item.get("reason") == "erased"
                items[candidate_id] = rejected("not_found") if gone else item
        if data.get("dry_run"):
            self.states, self.journal = before
        told = [BULK_WORDS[str(item.get("reason", item["outcome"]))] for item in items.values()]
        counts = {word: told.count(word) for word in (*BULK_WORDS.values(), "cancelled", "pending")}
        failed = {key: item["reason"] for key, item in items.items() if "reason" in item}
        changed = counts["applied"] and not data.get("dry_run")
        return {
            "outcome": "applied" if changed else "unchanged",
            "counts": {"total": len(items), **counts},
            "failed": failed,
        }

    def _decide(self, data: Json, now: str) -> Json:
        if "candidate_ids" in data:
            return self._decide_bulk(data, now)
        key = data["organization_id"], data["candidate_id"]
        state, fields = self.states.get(key), data.get("candidate") or data.get("changes", {})
        if invalid(fields):
            return rejected("invalid")
        if key in self.erased:
            return rejected("erased")
        if "reason" in data and state:
            self.erased.add(key)
            version = self.states.pop(key)["version"]
            return {"outcome": "accepted", "version": version + 1, "previous_version": version}
        if "candidate" in data:
            return rejected("already_exists") if state else self._write(key, None, fields, now)
        if state is None:
            return rejected("not_found")
        return self._update(key, state, data, now)

    def _update(self, key: tuple[str, str], state: Json, data: Json, now: str) -> Json:
        fields = data["changes"]
        expected = data.get("expected_version") or state["version"]
        moved, how = expected != state["version"], data.get("on_conflict", "reject")
        if moved and how != "overwrite":
            later = [row for row in self.journal if row["key"] == key and row["version"] > expected]
            hit = [name for name in fields if any(name in row["changed"] for row in later)]
            if how == "reject" or not 0 < state["version"] - expected <= 1000:
                hit = list(fields)
            if hit:
                return rejected("version_conflict", current=state["version"], fields=sorted(hit))
        new = {name: patched(name, state[name], value) for name, value in fields.items()}
        new = {name: value for name, value in new.items() if differ(value, state[name])}
        if len(new.get("tags", ())) > 50:
            return rejected("invalid")
        if not new:
            return {"outcome": "unchanged", "version": state["version"]}
        return self._write(
            key, state, new, now, "merged" if moved and how == "merge" else "applied"
        )

    def _write(
        self, key: tuple[str, str], old: Json | None, new: Json, now: str, outcome: str = "applied"
    ) -> Json:
        before: Json
        if old is None:
            ids = {"organization_id": key[0], "candidate_id": key[1]}
            before = {**ids, **EMPTY, "version": 0, "created_at": now}
            new = {"status": "new", "tags": [], "attributes": {}, **new}
        else:
            before = old
        changed = {
            name: {"from": before.get(name), "to": value}
            for name, value in new.items()
            if value is not None or old is not None
        }
        previous, version = old and old["version"], before["version"] + 1
        self.states[key] = {**before, **new, "version": version, "updated_at": now}
        row = {"key": key, "version": version, "previous": previous, "changed": changed}
        self.journal.append({**row, "state": self.states[key]})
        return {"outcome": outcome, "version": version, "previous_version": previous}


def invalid(fields: Json) -> bool:
    """The two rules that are not trusted to hold."""
    tags = fields.get("tags", [])
    given = tags if isinstance(tags, list) else tags.get("add", [])
    return fields.get("rating") not in (None, 0, 1, 2, 3, 4, 5) or len(given) > 50


def patched(name: str, old: Any, value: Any) -> Any:
    """`value` on top of `old`: tags by add and remove, attributes by RFC 7396."""
    if name == "tags" and isinstance(value, dict):
        kept = [tag for tag in old if tag not in value.get("remove", [])]
        return kept + [tag for tag in value.get("add", []) if tag not in kept]
    if name == "attributes":
        return merge_patch(old, value)
    return value


def differ(a: Any, b: Any) -> bool:
    """As JSON: to Python, true would be 1."""
    return json.dumps(a, sort_keys=True) != json.dumps(b, sort_keys=True)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, line by line."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    result = {name: value for name, value in target.items() if name not in patch}
    for name in patch:
        if patch[name] is not None:
            result[name] = merge_patch(target.get(name), patch[name])
    return result


def born(command_id: str) -> datetime:
    """The instant in a UUIDv7 (RFC 9562 5.7: the first 48 bits); the far future for other ids."""
    try:
        as_uuid = UUID(command_id)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    if as_uuid.version != 7:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.fromtimestamp((as_uuid.int >> 80) / 1000, UTC)


def rejected(reason: str, **told: Any) -> Json:
    return {"outcome": "rejected", "reason": reason, **told}
