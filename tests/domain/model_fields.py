"""What the model knows of values: CONTRACT.md 3 and 4, RFC 7396 and RFC 9562.

It trusts what it is given but for two rules: `rating` is 0..5, a candidate has at most 50 tags.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

HORIZON = timedelta(days=35)
Json = dict[str, Any]


class Sent(NamedTuple):
    """A command as its sender wrote it."""

    id: str
    source: str
    type: str
    data: Json


def invalid(fields: Json) -> bool:
    """The two rules that are not trusted to hold."""
    tags = fields.get("tags", [])
    given = tags if isinstance(tags, list) else tags.get("add", [])
    return fields.get("rating") not in (None, 0, 1, 2, 3, 4, 5) or len(given) > 50


def blank(key: tuple[str, str], candidate: Json, now: str) -> tuple[Json, Json]:
    """What is there before a candidate is created, and what its creation sets."""
    empty = dict.fromkeys(("phone", "pipeline_stage", "rating", "source"))
    given = {"status": "new", "tags": [], "attributes": {}, **candidate}
    old = {"organization_id": key[0], "candidate_id": key[1], **empty, "version": 0}
    new = {name: value for name, value in given.items() if value is not None}
    return {**old, "created_at": now}, new


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
