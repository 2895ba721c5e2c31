"""The parser: what a command is, what each error points at, and that nothing crashes it."""

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from domain.candidate import WRITABLE_FIELDS, Changes
from domain.commands import (
    COMMANDS,
    ERROR_CODES,
    KNOWN_TYPES,
    CommandParser,
    FieldError,
    InvalidCommand,
    UpdateCandidate,
)

UPDATE = "candidate.update.v1"
CREATE = "candidate.create.v1"
COMMAND: dict[str, Any] = {
    "organization_id": "0192f0c1-7c1e-7abc-8def-0123456789ab",
    "candidate_id": "0192f0c1-7c1e-7abc-8def-0123456789ac",
    "actor": "user:17",
    "changes": {"rating": 4},
}
NEW = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
PARSER = CommandParser()


def parse(**parts: Any) -> UpdateCandidate:
    command = PARSER.parse(UPDATE, COMMAND | parts)
    assert isinstance(command, UpdateCandidate)
    return command


def errors_of(data: Any, command_type: str = UPDATE) -> tuple[FieldError, ...]:
    with pytest.raises(InvalidCommand) as refused:
        PARSER.parse(command_type, data)
    return refused.value.errors


def places(data: Any) -> list[tuple[str, str]]:
    return [(error.pointer, error.code) for error in errors_of(data)]


def test_update__has_its_defaults() -> None:
    command = parse()
    assert (command.expected_version, command.on_conflict) == (None, "reject")
    assert command.changes == {"rating": 4}


def test_update__keeps_only_named_fields_in_the_contract_s_order() -> None:
    command = parse(changes={"tags": [], "phone": None, "first_name": "A"})
    assert list(command.changes.items()) == [("first_name", "A"), ("phone", None), ("tags", [])]


def test_ids__become_lower_case() -> None:
    command = parse(candidate_id=COMMAND["candidate_id"].upper())
    assert command.candidate_id == COMMAND["candidate_id"]


def test_command__is_frozen() -> None:
    command = parse()
    for name in UpdateCandidate.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(command, name, getattr(command, name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("actor", "a" * 200),
        ("expected_version", None),
        ("expected_version", 1),
        ("expected_version", 2**63 - 1),
        ("on_conflict", "reject"),
        ("on_conflict", "merge"),
        ("on_conflict", "overwrite"),
    ],
)
def test_update__accepts(name: str, value: Any) -> None:
    assert getattr(parse(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("organization_id", None, "null"),
        ("organization_id", "0192f0c17c1e7abc8def0123456789ab", "malformed"),
        ("candidate_id", "{0192f0c1-7c1e-7abc-8def-0123456789ab}", "malformed"),
        ("candidate_id", "0192f0c1-7c1e-7abc-8def-0123456789ab\n", "malformed"),
        ("candidate_id", 5, "wrong_type"),
        ("actor", "", "too_short"),
        ("actor", "a" * 201, "too_long"),
        ("actor", "a\0", "invalid_character"),
        ("actor", "\udc00", "invalid_character"),
        ("changes", {}, "too_short"),
        ("changes", None, "null"),
        ("changes", [], "wrong_type"),
        ("changes", dict.fromkeys(map(str, range(65))), "too_long"),
        ("expected_version", 0, "out_of_range"),
        ("expected_version", 1.0, "wrong_type"),
        ("expected_version", True, "wrong_type"),
        ("expected_version", "1", "wrong_type"),
        ("expected_version", 2**63, "invalid_number"),
        ("on_conflict", None, "null"),
        ("on_conflict", "Merge", "not_one_of"),
        ("candidate", NEW, "unknown_field"),
    ],
)
def test_update__refuses(name: str, value: Any, code: str) -> None:
    assert places(COMMAND | {name: value}) == [(f"/{name}", code)]


@pytest.mark.parametrize("name", ["organization_id", "candidate_id", "actor", "changes"])
def test_update__requires(name: str) -> None:
    data = {field: value for field, value in COMMAND.items() if field != name}
    assert places(data) == [(f"/{name}", "missing")]


@pytest.mark.parametrize(
    ("data", "code"), [([], "wrong_type"), ("x", "wrong_type"), (1, "wrong_type"), (None, "null")]
)
def test_parse__refuses_what_is_no_object(data: Any, code: str) -> None:
    assert places(data) == [("", code)]


def test_parse__of_an_unknown_type_is_the_caller_s_mistake() -> None:
    with pytest.raises(KeyError):
        PARSER.parse("candidate.create.v2", COMMAND)


def test_errors__list_everything_at_once() -> None:
    data = COMMAND | {
        "actor": "",
        "changes": {"email": "x", "tags": {"add": ["a", 1]}, "status": "?", "extra": {}},
        "surplus": 1,
    }
    assert set(places(data)) == {
        ("/actor", "too_short"),
        ("/changes/email", "malformed"),
        ("/changes/tags/add/1", "wrong_type"),
        ("/changes/status", "not_one_of"),
        ("/changes/extra", "unknown_field"),
        ("/surplus", "unknown_field"),
    }


def test_errors__point_at_names_by_rfc_6901() -> None:
    assert places(COMMAND | {"a/b~c": 1, "": 2}) == [
        ("/a~1b~0c", "unknown_field"),
        ("/", "unknown_field"),
    ]


def test_errors__cut_long_names_and_deep_places() -> None:
    deep: Any = "\0"
    for _ in range(20):
        deep = [deep]
    assert places(COMMAND | {"n" * 65: 1, "deep": deep}) == [
        ("/deep" + "/0" * 15 + "/…", "invalid_character"),
        ("/" + "n" * 63 + "…", "unknown_field"),
        ("/deep", "unknown_field"),
    ]


def test_errors__find_what_is_invalid_anywhere_in_unknown_places_and_names_too() -> None:
    data = COMMAND | {"x": [{"\ud800": math.nan}], "\0": {"big": 2**64}}
    assert set(places(data)) == {
        ("/x", "unknown_field"),
        ("/x/0/\ufffd", "invalid_character"),
        ("/\ufffd", "invalid_character"),
        ("/\ufffd/big", "invalid_number"),
    }


def test_errors__are_at_most_fifty() -> None:
    assert len(errors_of(COMMAND | {"x": ["\0"] * 1000})) == 50
    crowded = {f"{n}": 1 for n in range(60)}
    assert len(errors_of(COMMAND | {"changes": crowded})) == 50


def test_errors__of_data_too_large_to_search_still_name_the_field() -> None:
    data = COMMAND | {"actor": "\ud800", "x": [0] * 100_001}
    assert set(places(data)) == {("/actor", "invalid_character"), ("/x", "unknown_field")}
    data = COMMAND | {"x": {"a": ["\0"]}, "y": [0] * 100_001}
    assert set(places(data)) == {("/x", "unknown_field"), ("/y", "unknown_field")}


def test_errors__repeat_no_value() -> None:
    secret = "s3cret"
    wrong = {name: [secret] for name in WRITABLE_FIELDS}
    data = COMMAND | {"organization_id": secret, "on_conflict": secret, "changes": wrong}
    errors = errors_of(data | {"actor": secret * 100})
    assert len(errors) == 3 + len(WRITABLE_FIELDS) - 1  # as tags, a list of text is right
    assert secret not in str(errors)


def test_refusal__as_text_holds_no_input() -> None:
    assert str(InvalidCommand(errors_of(COMMAND | {"s3cret": 1}))) == "unknown_field"


@pytest.mark.parametrize("command_type", sorted(KNOWN_TYPES))
def test_schema__is_closed_and_names_the_model_s_fields(command_type: str) -> None:
    model = COMMANDS[command_type]
    schema = model.model_json_schema()
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == list(model.model_fields)


def test_schema__of_changes_carries_the_rules() -> None:
    schema = TypeAdapter(Changes).json_schema()
    assert (schema["additionalProperties"], schema["minProperties"]) == (False, 1)
    assert tuple(schema["properties"]) == WRITABLE_FIELDS
    assert schema["properties"]["rating"]["anyOf"] == [
        {"type": "integer", "minimum": 0, "maximum": 5},
        {"type": "null"},
    ]
    assert schema["properties"]["tags"]["oneOf"][0]["maxItems"] == 50


# Arbitrary JSON as the standard parser may hand it over: NaN, huge numbers, lone surrogates.
TEXTS = st.text(st.characters(), max_size=6) | st.sampled_from(
    ["\0", "\ud800", "new", "merge", "a@b.com", "+12025550123", COMMAND["candidate_id"]]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**400])
    | st.floats()
    | TEXTS
)
NAMES = TEXTS | st.sampled_from(
    ["add", "remove", "candidate", "expected_version", "on_conflict", *COMMAND, *WRITABLE_FIELDS]
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=25,
)
COMMANDLIKE = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.just(value) | VALUES for name, value in COMMAND.items()},
        "changes": st.dictionaries(NAMES, VALUES, max_size=4),
        "candidate": st.dictionaries(NAMES, VALUES, max_size=6).map(lambda extra: NEW | extra),
        "expected_version": LEAVES,
        "on_conflict": LEAVES,
        "surplus": VALUES,
    },
)


@given(
    st.sampled_from(sorted(KNOWN_TYPES)),
    VALUES | COMMANDLIKE | COMMANDLIKE.map(lambda data: COMMAND | data),
)
@example(UPDATE, COMMAND | {"changes": {"attributes": {"a": 1, "b": [2.5, "é"]}}})
def test_parse__of_any_json_is_a_clean_command_or_a_refusal(command_type: str, data: Any) -> None:
    try:
        command = PARSER.parse(command_type, data)
    except InvalidCommand as refused:
        assert 1 <= len(refused.errors) <= 50  # noqa: PT017  either way of ending is right
        for error in refused.errors:
            assert error.code in ERROR_CODES
            assert "not acceptable" not in error.detail  # an error of pydantic's without meaning
            assert len(error.pointer) <= 17 * 130
            assert b"\\u0000" not in orjson.dumps(error.pointer)
        return
    plain = command.model_dump()
    text = orjson.dumps(plain)  # refuses lone surrogates and numbers beyond 64 bits
    assert b"\\u0000" not in text
    json.dumps(plain, allow_nan=False)
    assert PARSER.parse(command_type, plain) == command


def nest(depth: int) -> Any:
    value: Any = "\0"
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize(
    ("parts", "pointer"),
    [
        (lambda nested: {"surplus": nested}, "/surplus"),
        (lambda nested: {"changes": nested}, "/changes"),
        (lambda nested: {"changes": {"tags": nested}}, "/changes/tags"),
        (lambda nested: {"changes": {"attributes": nested}}, "/changes/attributes"),
    ],
)
def test_parse__of_a_nest_too_deep_for_recursion_is_a_refusal(parts: Any, pointer: str) -> None:
    errors = errors_of(COMMAND | parts(nest(3000)))
    assert errors[0].code == "invalid_character"
    assert errors[0].pointer.endswith("/…")
    assert errors[-1].pointer.startswith(pointer)
