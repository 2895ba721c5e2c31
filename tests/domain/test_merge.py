"""`changes` on top of a candidate: RFC 7396's own table, tags, and what really differs."""

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.candidate import CandidateState, Changes
from domain.commands import InvalidCommand
from domain.merge import changed_fields, merge_patch, merge_tags, same
from tests.domain import model_fields

RFC_7396_APPENDIX_A = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON, max_size=3)
TAGS = st.lists(st.sampled_from("abcdef"), unique=True)


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def state(**fields: Any) -> CandidateState:
    return cast(CandidateState, {"tags": [], "attributes": {}, "rating": None, **fields})


def changed(old: CandidateState, **changes: Any) -> dict[str, Any]:
    return changed_fields(old, cast(Changes, changes))


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396_APPENDIX_A)
def test_merge_patch__table_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    before = text([target, patch])
    assert text(merge_patch(target, patch)) == text(result)
    assert text([target, patch]) == before


@given(JSON, JSON)
def test_merge_patch__as_the_rfc_has_it(target: Any, patch: Any) -> None:
    before = text([target, patch])
    assert text(merge_patch(target, patch)) == text(model_fields.merge_patch(target, patch))
    assert text([target, patch]) == before


@given(JSON, OBJECT)
def test_merge_patch__twice_is_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert text(merge_patch(once, patch)) == text(once)


@pytest.mark.parametrize(
    ("tags", "patch", "result"),
    [
        (["a", "b"], [], []),
        (["a", "b"], ["b", "c"], ["b", "c"]),
        (["a", "b"], {"add": ["c", "a"]}, ["a", "b", "c"]),
        (["a", "b"], {"remove": ["a", "x"]}, ["b"]),
        (["a", "b"], {"add": ["c"], "remove": ["a"]}, ["b", "c"]),
        ([], {"add": []}, []),
    ],
)
def test_merge_tags__replace_add_remove(tags: list[str], patch: Any, result: list[str]) -> None:
    assert merge_tags(tags, patch) == result


@given(TAGS, TAGS, TAGS)
def test_merge_tags__distinct_and_twice_is_once(
    tags: list[str], add: list[str], remove: list[str]
) -> None:
    patch = {"add": add, "remove": remove}
    merged = merge_tags(tags, patch)
    assert len(set(merged)) == len(merged)
    assert set(merged) - set(remove) == (set(tags) | set(add)) - set(remove)
    assert merge_tags(merged, patch) == merged


@pytest.mark.parametrize(
    ("old", "new", "equal"),
    [
        (1, True, False),
        (0, False, False),
        (1, 1.0, True),
        ("1", 1, False),
        (None, False, False),
        (None, 0, False),
        ([], {}, False),
        ([1, 2], [2, 1], False),
        ([True], [1], False),
        ({"a": [{"b": 0}]}, {"a": [{"b": False}]}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": None}, {}, False),
        (2**53, 2**53 + 1, False),
    ],
)
def test_same__as_json(old: Any, new: Any, equal: bool) -> None:
    assert same({"x": old}, {"x": new}) is equal
    assert same({"x": new}, {"x": old}) is equal


def test_changed_fields__only_what_differs() -> None:
    old = state(rating=3, status="new", phone=None, tags=["a"], attributes={"a": 1, "b": 2})
    same_again = {"rating": 3, "status": "new", "phone": None}
    assert changed(old, **same_again, tags={"add": ["a"]}, attributes={"a": 1, "c": None}) == {}
    assert changed(old, rating=None, status="new") == {"rating": None}
    assert changed(old, attributes={"a": None, "c": 3}) == {"attributes": {"b": 2, "c": 3}}
    assert changed(old, tags={"remove": ["a"], "add": ["b"]}) == {"tags": ["b"]}


def test_changed_fields__reordered_tags_differ() -> None:
    assert changed(state(tags=["a", "b"]), tags=["b", "a"]) == {"tags": ["b", "a"]}


@pytest.mark.parametrize(("there", "refused"), [(49, False), (50, True)])
def test_changed_fields__fifty_tags(there: int, refused: bool) -> None:
    old = state(tags=[str(n) for n in range(there)])
    if not refused:
        assert len(changed(old, tags={"add": ["new"]})["tags"]) == 50
        return
    with pytest.raises(InvalidCommand) as error:
        changed(old, tags={"add": ["new"]})
    assert [(e.pointer, e.code) for e in error.value.errors] == [("/changes/tags", "too_long")]


def test_changed_fields__fifty_tags_after_removing() -> None:
    old = state(tags=[str(n) for n in range(50)])
    assert len(changed(old, tags={"add": ["new"], "remove": ["7"]})["tags"]) == 50


@pytest.mark.parametrize(
    ("patch", "code"),
    [({"b": "x" * 8192}, "too_long"), ({"a": {"b": {"c": {"d": {"e": {}}}}}}, "too_deep")],
)
def test_changed_fields__attributes_grown_too_far(patch: Any, code: str) -> None:
    old = state(attributes={"a": {"b": {"c": {"d": 1}}}, "c": "x" * 8192})
    with pytest.raises(InvalidCommand) as error:
        changed(old, attributes=patch)
    assert [(e.pointer, e.code) for e in error.value.errors] == [("/changes/attributes", code)]


def test_same__a_number_that_jsonb_gives_back_as_an_integer() -> None:
    assert same(1.2345678901234568e18, 1234567890123456800)
    assert not same(True, 1)
    assert not same(1, "1")
