"""Each rule of CONTRACT.md 4, both ways, through the parser that applies it."""

import json
from typing import Any, get_type_hints

import phonenumbers
import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import assume, example, given
from hypothesis import strategies as st

from domain import fields
from domain.candidate import WRITABLE_FIELDS, CandidateState, NewCandidate, attributes_error
from domain.commands import CommandParser, CreateCandidate, InvalidCommand, UpdateCandidate

ADDRESS = {
    "organization_id": "0192f0c1-7c1e-7abc-8def-0123456789ab",
    "candidate_id": "0192f0c1-7c1e-7abc-8def-0123456789ac",
    "actor": "user:17",
}
REQUIRED = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
PARSER = CommandParser()


def stored(name: str, value: Any, parser: CommandParser = PARSER) -> Any:
    """The form in which an update stores `value`."""
    command = parser.parse("candidate.update.v1", {**ADDRESS, "changes": {name: value}})
    assert isinstance(command, UpdateCandidate)
    changes: dict[str, Any] = {**command.changes}
    assert list(changes) == [name]
    return changes[name]


def refusals(name: str, value: Any, parser: CommandParser = PARSER) -> list[tuple[str, str]]:
    """Pointers, relative to the field, and codes with which an update of it is refused."""
    with pytest.raises(InvalidCommand) as refused:
        stored(name, value, parser)
    prefix = f"/changes/{name}"
    assert all(error.pointer.startswith(prefix) for error in refused.value.errors)
    return [(error.pointer.removeprefix(prefix), error.code) for error in refused.value.errors]


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


def sized(size_bytes: int) -> dict[str, Any]:
    return {"é": "x" * (size_bytes - len('{"é":""}'.encode()))}


TAGS_50 = [f"tag {n}" for n in range(50)]
STAGE_8 = ".".join(["a" * 40] * 8)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("first_name", " \u2003Ada\n", "Ada"),
        ("first_name", "x", "x"),
        ("last_name", "🦆" * 200, "🦆" * 200),
        ("last_name", "  " + "x" * 200 + "  ", "x" * 200),
        ("email", "Ada.Lovelace@Example.COM", "Ada.Lovelace@example.com"),
        ("email", "a@b.test", "a@b.test"),
        ("email", "ADA@BÜCHER.example", "ADA@bücher.example"),
        ("email", "a@" + "b" * 63 + ".com", "a@" + "b" * 63 + ".com"),
        ("phone", None, None),
        ("phone", "+1 (202) 555-0123", "+12025550123"),
        ("phone", "+49 30 901820", "+4930901820"),
        ("status", "withdrawn", "withdrawn"),
        ("pipeline_stage", None, None),
        ("pipeline_stage", "a", "a"),
        ("pipeline_stage", "screening.phone_2", "screening.phone_2"),
        ("pipeline_stage", STAGE_8, STAGE_8),
        ("rating", None, None),
        ("rating", 0, 0),
        ("rating", 5, 5),
        ("source", None, None),
        ("source", "s", "s"),
        ("source", "s" * 100, "s" * 100),
        ("tags", [], []),
        ("tags", ["b", "a", "b"], ["b", "a"]),
        ("tags", TAGS_50 + TAGS_50, TAGS_50),
        ("tags", ["t" * 64, " "], ["t" * 64, " "]),
        ("tags", {"add": ["b", "b"]}, {"add": ["b"]}),
        ("tags", {"remove": ["a"], "add": []}, {"add": [], "remove": ["a"]}),
        ("attributes", {}, {}),
        ("attributes", {"a": None, "b": [None]}, {"a": None, "b": [None]}),
        ("attributes", nested(5), nested(5)),
        ("attributes", {"a": [[[[]]]]}, {"a": [[[[]]]]}),
        ("attributes", sized(16384), sized(16384)),
        ("attributes", {"n": [2**63 - 1, -(2**63), -1e-300, True]}, None),
    ],
)
def test_field__is_stored_in_its_normal_form(name: str, value: Any, expected: Any) -> None:
    assert stored(name, value) == (value if expected is None else expected)


@pytest.mark.parametrize(
    ("name", "value", "pointer", "code"),
    [
        ("first_name", None, "", "null"),
        ("first_name", " \t ", "", "too_short"),
        ("last_name", "x" * 201, "", "too_long"),
        ("last_name", 7, "", "wrong_type"),
        ("last_name", "a\0", "", "invalid_character"),
        ("last_name", "\ud83e", "", "invalid_character"),
        ("email", None, "", "null"),
        ("email", "", "", "too_short"),
        ("email", "ada", "", "malformed"),
        ("email", "a@b", "", "malformed"),
        ("email", "a@b.com\n", "", "malformed"),
        ("email", " a@b.com", "", "malformed"),
        ("email", "a@b.LocalHost", "", "malformed"),
        ("email", "a@" + "b" * 64 + ".com", "", "malformed"),
        ("email", "a" * 243 + "@example.com", "", "too_long"),
        ("phone", "2025550123", "", "malformed"),
        ("phone", "+1 202 555 0123 ext. 5", "", "malformed"),
        ("phone", "+1 000 000 0000", "", "malformed"),
        ("phone", "+", "", "malformed"),
        ("phone", "", "", "too_short"),
        ("phone", 12025550123, "", "wrong_type"),
        ("status", None, "", "null"),
        ("status", "New", "", "not_one_of"),
        ("status", ["new"], "", "not_one_of"),
        ("pipeline_stage", "", "", "malformed"),
        ("pipeline_stage", "a..b", "", "malformed"),
        ("pipeline_stage", "Screening", "", "malformed"),
        ("pipeline_stage", "a\n", "", "malformed"),
        ("pipeline_stage", "a" * 41, "", "malformed"),
        ("pipeline_stage", STAGE_8 + ".a", "", "malformed"),
        ("rating", -1, "", "out_of_range"),
        ("rating", 6, "", "out_of_range"),
        ("rating", 3.0, "", "wrong_type"),
        ("rating", True, "", "wrong_type"),
        ("rating", "3", "", "wrong_type"),
        ("rating", 10**400, "", "invalid_number"),
        ("source", "", "", "too_short"),
        ("source", "s" * 101, "", "too_long"),
        ("tags", None, "", "null"),
        ("tags", "a", "", "wrong_type"),
        ("tags", [*TAGS_50, "one more"], "", "too_long"),
        ("tags", ["a", ""], "/1", "too_short"),
        ("tags", ["t" * 65], "/0", "too_long"),
        ("tags", ["a", None], "/1", "null"),
        ("tags", {}, "", "too_short"),
        ("tags", {"add": None}, "/add", "null"),
        ("tags", {"remove": ["a", 1]}, "/remove/1", "wrong_type"),
        ("tags", {"set": ["a"]}, "/set", "unknown_field"),
        ("attributes", None, "", "null"),
        ("attributes", [], "", "wrong_type"),
        ("attributes", nested(6), "", "too_deep"),
        ("attributes", {"a": [[[[[]]]]]}, "", "too_deep"),
        ("attributes", sized(16385), "", "too_long"),
        ("attributes", {"a": {"b\0": 1}}, "/a/b\ufffd", "invalid_character"),
        ("attributes", {"a": ["x", "\udfff"]}, "/a/1", "invalid_character"),
        ("attributes", {"a": float("nan")}, "/a", "invalid_number"),
        ("attributes", {"a": float("-inf")}, "/a", "invalid_number"),
        ("attributes", {"a": [2**63]}, "/a/0", "invalid_number"),
        ("attributes", {"a": -(2**63) - 1}, "/a", "invalid_number"),
        ("attributes", {"a": 2.0**63}, "/a", "invalid_number"),
    ],
)
def test_field__is_refused_where_it_is_wrong(
    name: str, value: Any, pointer: str, code: str
) -> None:
    assert refusals(name, value) == [(pointer, code)]


@pytest.mark.parametrize("name", ["organization_id", "candidate_id", "version", "created_at"])
def test_field__that_is_ours_is_not_writable(name: str) -> None:
    assert refusals(name, 1) == [("", "unknown_field")]


def test_writable_fields__are_the_candidate_s_without_ours_in_the_same_order() -> None:
    ours = {"organization_id", "candidate_id", "version", "created_at", "updated_at"}
    assert list(WRITABLE_FIELDS) == [n for n in get_type_hints(CandidateState) if n not in ours]
    assert list(WRITABLE_FIELDS) == list(get_type_hints(NewCandidate))


def create(candidate: dict[str, Any]) -> dict[str, Any]:
    command = PARSER.parse("candidate.create.v1", {**ADDRESS, "candidate": candidate})
    assert isinstance(command, CreateCandidate)
    return {**command.candidate}


def test_new_candidate__has_every_field_in_order_with_the_defaults() -> None:
    created = create(dict(reversed(REQUIRED.items())))
    assert created == {
        **REQUIRED,
        "phone": None,
        "status": "new",
        "pipeline_stage": None,
        "rating": None,
        "source": None,
        "tags": [],
        "attributes": {},
    }
    assert tuple(created) == WRITABLE_FIELDS


def test_new_candidate__shares_no_default_with_another() -> None:
    create(REQUIRED)["tags"].append("x")
    create(REQUIRED)["attributes"]["x"] = 1
    assert create(REQUIRED)["tags"] == []
    assert create(REQUIRED)["attributes"] == {}


def test_new_candidate__keeps_null_inside_attributes() -> None:
    assert create({**REQUIRED, "attributes": {"a": None}})["attributes"] == {"a": None}


@pytest.mark.parametrize("name", REQUIRED)
def test_new_candidate__requires_names_and_email(name: str) -> None:
    with pytest.raises(InvalidCommand) as refused:
        create({field: value for field, value in REQUIRED.items() if field != name})
    assert [error[:2] for error in refused.value.errors] == [(f"/candidate/{name}", "missing")]


@pytest.mark.parametrize(
    ("tags", "pointer"), [({"add": ["a"]}, "/candidate/tags"), (["a", 1], "/candidate/tags/1")]
)
def test_new_candidate__takes_tags_as_a_list_of_text_only(tags: Any, pointer: str) -> None:
    with pytest.raises(InvalidCommand) as refused:
        create({**REQUIRED, "tags": tags})
    assert [error[:2] for error in refused.value.errors] == [(pointer, "wrong_type")]


def test_phone__without_plus_is_read_in_the_region() -> None:
    parser = CommandParser(phone_region="DE")
    assert stored("phone", "030 901820", parser) == "+4930901820"
    assert stored("phone", "+1 202 555 0123", parser) == "+12025550123"
    assert refusals("phone", "1", parser) == [("", "malformed")]


@pytest.mark.parametrize("region", ["", "de", "XX", "Germany"])
def test_phone__region_must_exist(region: str) -> None:
    with pytest.raises(ValueError, match="phone_region"):
        CommandParser(phone_region=region)


@pytest.mark.parametrize("region", sorted(fields.PHONE_REGIONS))
def test_phone__stored_form_is_a_fixed_point(region: str) -> None:
    number = phonenumbers.example_number(region)
    assert number is not None
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    assert stored("phone", e164) == e164


def chains(alphabet: str, separator: str) -> st.SearchStrategy[str]:
    part = st.text(alphabet, min_size=1, max_size=9)
    return st.lists(part, min_size=1, max_size=4).map(separator.join)


# Every character and shape that the quick way takes, and near misses of it.
LETTERS = "azAZ"
DOMAINS = st.lists(chains(LETTERS + "09-", "-"), min_size=1, max_size=4).map(".".join)
TOP_LEVELS = st.sampled_from(["test", "local", "Invalid", "arpa", "com", "c", "c0m", "xn--p1ai"])
PLAIN_EMAILS = st.builds(
    "{}@{}.{}".format,
    chains(LETTERS + "09_+-", "."),
    DOMAINS | chains(LETTERS + "09", "."),
    st.text(LETTERS, min_size=1, max_size=9) | TOP_LEVELS,
)


@given(
    PLAIN_EMAILS.filter(fields._PLAIN_EMAIL.fullmatch).filter(
        lambda email: len(email) <= fields._PLAIN_EMAIL_CHARACTERS_MAX
    )
)
@example("a@" + "b" * 58 + ".com")
@example("A-_+.b@X1.y-Z.test")
def test_email__the_quick_way_agrees_with_email_validator(email: str) -> None:
    valid = validate_email(email, check_deliverability=False, test_environment=True)
    assert stored("email", email) == valid.normalized


@given(st.emails() | PLAIN_EMAILS | st.from_regex(r"[\w.+-]{1,9}@[\w-]{1,9}\.\w{1,9}"))
@example("ada@xn--bcher-kva.example")
@example("ADA@STRASSE.example")
@example("İ@İ.example")
def test_email__is_what_email_validator_says_and_a_fixed_point(email: str) -> None:
    try:
        valid = validate_email(email, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        valid = None
    assume(len(email) <= 254 and is_storable(email))
    if valid is None:
        assert refusals("email", email) == [("", "malformed")]
        return
    assert stored("email", email) == valid.normalized
    assert stored("email", valid.normalized) == valid.normalized
    assert len(valid.normalized) <= 254


JSON_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON_VALUES = st.recursive(
    JSON_LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=30,
)


def levels(value: Any) -> int:
    if isinstance(value, dict):
        value = [*value.values()]
    return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 0


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *(leaf for member in value.values() for leaf in leaves(member))]
    if isinstance(value, list):
        return [leaf for member in value for leaf in leaves(member)]
    return [value]


def is_storable(leaf: Any) -> bool:
    if isinstance(leaf, str):
        return "\0" not in leaf and not any("\ud800" <= c <= "\udfff" for c in leaf)
    return not isinstance(leaf, int | float) or -(2**63) <= leaf < 2**63


@given(st.dictionaries(st.text(max_size=3), JSON_VALUES, max_size=4))
def test_attributes_error__agrees_with_the_rule_in_plain_words(attributes: Any) -> None:
    storable = all(map(is_storable, leaves(attributes)))
    fits = not storable or (
        len(json.dumps(attributes, ensure_ascii=False, separators=(",", ":")).encode()) <= 16384
    )
    allowed = storable and fits and levels(attributes) <= 5
    assert (attributes_error(attributes) is None) == allowed


def test_attributes_error__survives_any_depth() -> None:
    attributes: dict[str, Any] = {}
    for _ in range(100_000):
        attributes = {"a": attributes}
    error = attributes_error(attributes)
    assert error is not None
    assert error.code == "too_deep"
    while attributes:  # taken apart here: freeing the nest at once would recurse
        attributes = attributes["a"]
