"""What a candidate looks like after `changes`: RFC 7396, plus add and remove on tags.

Pure and total: a new state comes back, the old one is never touched. What only the result can
tell (too many tags, attributes grown too large) is raised as `InvalidCommand`.
"""

from collections.abc import Mapping
from typing import Any, cast

from domain.candidate import CandidateState, Changes, attributes_error
from domain.commands import FieldError, InvalidCommand
from domain.limits import MERGE_VERSIONS_MAX, TAGS_MAX


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396 MergePatch(Target, Patch), without changing either."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def merge_tags(tags: list[str], patch: list[str] | Mapping[str, list[str]]) -> list[str]:
    """A list replaces; `{"add", "remove"}` keeps the order and appends what is new."""
    if isinstance(patch, list):
        return patch
    removed = frozenset(patch.get("remove", ()))
    added = [tag for tag in patch.get("add", ()) if tag not in removed]
    return list(dict.fromkeys([tag for tag in tags if tag not in removed] + added))


def versions_to_merge(version: int, expected: int | None) -> int:
    """How many versions `merge` must look at, the last ones; none where it conflicts anyway."""
    behind = 0 if expected is None else version - expected
    return behind if 0 < behind <= MERGE_VERSIONS_MAX else 0


def changed_fields(state: CandidateState, changes: Changes) -> dict[str, Any]:
    """The fields of `changes` that really differ from `state`, with their new values.

    Raises:
        InvalidCommand: the result would break a rule of CONTRACT.md 4.
    """
    changed: dict[str, Any] = {}
    old: Any = state  # with fields by names that only run time knows
    for name, patch in changes.items():
        value: Any = patch
        if name == "tags":
            value = merge_tags(state["tags"], cast(Any, patch))
            if len(value) > TAGS_MAX:
                raise InvalidCommand(
                    (FieldError("/changes/tags", "too_long", f"More than {TAGS_MAX} tags."),)
                )
        elif name == "attributes":
            value = merge_patch(state["attributes"], patch)
            error = attributes_error(value)
            if error is not None:
                raise InvalidCommand((error._replace(pointer="/changes/attributes"),))
        if not same(old[name], value):
            changed[name] = value
    return changed


def same(a: Any, b: Any) -> bool:
    """Equal as JSON: `true` is not `1`, `1` is `1.0`; plain `==` would mix up the first two."""
    kind = type(a)
    if kind is type(b) and kind is not dict and kind is not list:  # nearly every field
        return bool(a == b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return float(a) == float(b)  # jsonb gives 1e18 back as an integer
    return bool(a == b)
