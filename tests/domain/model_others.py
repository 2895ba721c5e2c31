"""The model's other commands: an erasure, and a bulk, which is the same changes sent singly and
counted."""

from collections.abc import Mapping

from tests.domain.model import Model, Rule, create, rejected, update
from tests.domain.model_fields import Json, invalid

WORDS = {
    "applied": "applied",
    "merged": "applied",
    "unchanged": "unchanged",
    "version_conflict": "conflict",
    "not_found": "not_found",
    "erased": "not_found",
    "invalid": "invalid",
}


def erase(model: Model, data: Json, now: str) -> Json:
    key = data["organization_id"], data["candidate_id"]
    if (state := model.states.pop(key, None)) is None:
        return rejected("erased" if key in model.erased else "not_found")
    model.erased.add(key)
    version = state["version"]
    return {"outcome": "accepted", "version": version + 1, "previous_version": version}


def bulk_update(model: Model, data: Json, now: str) -> Json:
    """Each candidate in turn; a dry run is undone."""
    if invalid(data["changes"]):
        return rejected("invalid")
    before = dict(model.states), list(model.journal)
    told: dict[str, str] = {}
    for candidate_id in dict.fromkeys(data["candidate_ids"]):
        expected = data.get("expected_versions", {}).get(candidate_id)
        single = {**data, "candidate_id": candidate_id, "expected_version": expected}
        item = update(model, single, now)
        told[candidate_id] = str(item.get("reason", item["outcome"]))
    if data.get("dry_run"):
        model.states, model.journal = before
    words = [WORDS[each] for each in told.values()]
    counts = {word: words.count(word) for word in (*WORDS.values(), "cancelled", "pending")}
    changed = counts["applied"] and not data.get("dry_run")
    return {
        "outcome": "applied" if changed else "unchanged",
        "counts": {"total": len(told), **counts},
        "failed": {
            each: "not_found" if reason == "erased" else reason
            for each, reason in told.items()
            if WORDS[reason] not in ("applied", "unchanged")
        },
    }


SINGLES: Mapping[str, Rule] = {
    "candidate.create.v1": create,
    "candidate.update.v1": update,
    "candidate.erase.v1": erase,
}
ALL: Mapping[str, Rule] = {**SINGLES, "candidate.bulk-update.v1": bulk_update}
