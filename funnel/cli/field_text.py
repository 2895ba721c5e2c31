"""A candidate's fields written as text: the cells of a CSV file, FIELD=VALUE on a command line.

first_name=Ada          text, as most fields
rating=4                a number
tags=python;sql         a list, separated by `;`
tags.add=go             tags to add, `tags.remove` to remove (updates only)
attribute.visa=yes      one attribute, as text
"""

from collections.abc import Iterable
from typing import Any

import orjson

from domain.candidate import WRITABLE_FIELDS

ATTRIBUTE = "attribute."
TAG_EDITS = ("tags.add", "tags.remove")


class BadField(Exception):
    """The text names no field, or its value is not of the field's type."""


def is_field(name: str) -> bool:
    """May a column have this name?"""
    return name in WRITABLE_FIELDS or (name.startswith(ATTRIBUTE) and name != ATTRIBUTE)


def set_field(fields: dict[str, Any], name: str, text: str) -> None:
    """Put what `text` says into `fields`.

    Raises:
        BadField: no such field, or not its type. Finer rules are `domain`'s to check.
    """
    if name.startswith(ATTRIBUTE) and name != ATTRIBUTE:
        _inside(fields, "attributes")[name.removeprefix(ATTRIBUTE)] = text
    elif name in TAG_EDITS:
        edits = _inside(fields, "tags").setdefault(name.removeprefix("tags."), [])
        edits += _split(text)
    elif name in WRITABLE_FIELDS:
        fields[name] = _value(name, text)
    else:
        raise BadField(f"{name}: there is no such field")


def fields_of(arguments: Iterable[str]) -> dict[str, Any]:
    """The fields of FIELD=VALUE arguments; `FIELD=` clears a field, `FIELD:=JSON` takes JSON.

    Raises:
        BadField: an argument that is none of these.
    """
    fields: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise BadField(f"{argument}: FIELD=VALUE is needed")
        if name.endswith(":"):
            _set_json(fields, name.removesuffix(":"), text)
        elif text:
            set_field(fields, name, text)
        else:
            _set_json(fields, name, "null")
    return fields


def _set_json(fields: dict[str, Any], name: str, text: str) -> None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadField(f"{name}: its value is not JSON") from None
    if name.startswith(ATTRIBUTE) and name != ATTRIBUTE:
        _inside(fields, "attributes")[name.removeprefix(ATTRIBUTE)] = value
    elif name in WRITABLE_FIELDS:
        fields[name] = value
    else:
        raise BadField(f"{name}: there is no such field")


def _inside(fields: dict[str, Any], name: str) -> dict[str, Any]:
    inside = fields.setdefault(name, {})
    if not isinstance(inside, dict):
        raise BadField(f"{name}: is given as a whole and in parts")
    return inside


def _value(name: str, text: str) -> Any:
    try:
        match name:
            case "rating":
                return int(text)
            case "tags":
                return _split(text)
            case "attributes":
                return orjson.loads(text)
    except ValueError:
        kind = "a number" if name == "rating" else "JSON"
        raise BadField(f"{name}: its value is not {kind}") from None
    return text


def _split(text: str) -> list[str]:
    return [tag.strip() for tag in text.split(";") if tag.strip()]
