"""Bulk commands as the model has them: the same changes sent singly, and counted."""

from tests.domain.model import SINGLES, Model, rejected, update
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


ALL = {**SINGLES, "candidate.bulk-update.v1": bulk_update}
