"""Bulk operations: a bulk is the same changes sent singly, whatever the chunks; and steering."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.journal import timestamp_text
from domain.bulk import control, decide_items, differences, status_after, too_many
from domain.candidate import BulkChanges
from domain.commands import CommandParser, ControlBulkOperation, InvalidCommand
from domain.decide import Verdict
from domain.identity import Identity, operation_id_of
from domain.verdicts import (
    Admission,
    BulkItem,
    Counts,
    InlineBulk,
    Operation,
    Order,
    Steering,
)
from domain.working import Working
from tests.domain.test_decide import (
    _BULK_CHANGES,
    CANDIDATES,
    NOW,
    ORGANIZATION,
    Database,
    bulk,
    create,
    exact,
    submission,
    update,
)

PARSER = CommandParser()
NUMBERED = [str(UUID(int=number, version=4)) for number in range(100, 112)]
OPERATION, CHILD = NUMBERED[0], NUMBERED[1]


def filled(ids: Sequence[str]) -> Database:
    database = Database()
    database.run([create(each, key=(ORGANIZATION, each), rating=1) for each in ids])
    return database


@settings(max_examples=150, deadline=None)
@given(_BULK_CHANGES, st.data())
def test_chunks__equal_the_same_changes_sent_singly(
    changes: dict[str, Any], data: st.DataObject
) -> None:
    """With single commands between the chunks, wherever they are cut."""
    known = data.draw(st.lists(st.sampled_from(NUMBERED), unique=True))
    cuts = sorted(data.draw(st.sets(st.integers(1, 11), max_size=5)) | {0, len(NUMBERED)})
    in_chunks, singly = filled(known), filled(known)
    try:
        command = PARSER.parse("candidate.bulk-update.v1", bulk("b", changes, ids=NUMBERED).data)
    except InvalidCommand:
        return
    order = Order(command.changes, "reject", dry_run=False)  # type: ignore[union-attr]
    counts = Counts(len(NUMBERED), pending=len(NUMBERED))
    number = 0
    for first, end in pairwise(cuts):
        ids = NUMBERED[first:end]
        versions = [None] * len(ids)
        work = Working(in_chunks.candidates, {}, timestamp_text(NOW))
        items = decide_items(order, ORGANIZATION, ids, versions, work)
        counts = counts.settle(items)
        for seen, state in work.written()[1]:
            key = state["organization_id"], state["candidate_id"]
            assert in_chunks.candidates[key]["version"] == seen
            in_chunks.candidates[key] = state
        sent = [update(f"s{each}", changes, key=(ORGANIZATION, each)) for each in ids]
        verdicts = singly.run(sent)
        assert [item.verdict for item in items] == verdicts
        between = data.draw(st.lists(st.sampled_from(NUMBERED), max_size=2))
        for each in between:
            number += 1
            single = update(f"b{number}", {"source": str(number)}, key=(ORGANIZATION, each))
            assert in_chunks.run([single])[0].outcome == singly.run([single])[0].outcome
    assert sum(counts[1:]) == counts.total == len(NUMBERED)
    assert counts.pending == 0
    assert exact(_by_id(in_chunks)) == exact(_by_id(singly))


def _by_id(database: Database) -> dict[str, Any]:
    return {key[1]: state for key, state in database.candidates.items()}


def test_inline__of_a_thousand_large_above() -> None:
    ids = [str(UUID(int=number, version=4)) for number in range(1, 1002)]
    database = Database()
    [inline] = database.run([bulk("a", {"rating": 1}, ids=ids[:1000])])
    assert isinstance(inline.bulk, InlineBulk)
    assert inline.outcome == "unchanged"
    assert len((inline.details or {})["failed"]) == 1000
    [large] = database.run([bulk("b", {"rating": 1}, ids=ids)])
    assert large.outcome == "accepted"
    assert isinstance(large.bulk, Admission)
    assert (large.bulk.total, large.bulk.candidate_ids) == (1001, ids)


def test_filter__is_taken_on_whatever_it_matches_unless_too_many() -> None:
    data = {"organization_id": ORGANIZATION, "actor": "me", "changes": {"rating": 1}}
    sent = bulk("b", {}, ids=[])._replace(data={**data, "filter": {"attribute.a": 5, "tag": "x"}})
    [verdict] = Database().run([sent])
    assert verdict.outcome == "accepted"
    assert isinstance(verdict.bulk, Admission)
    assert verdict.bulk.filter == {"attribute": {"a": "5"}, "tag": ["x"]}
    refused = too_many(verdict, verdict.bulk)
    assert (refused.outcome, refused.reason) == ("rejected", "too_many")
    assert refused.bulk == Steering(verdict.bulk.operation_id)


def test_refused__candidates_are_invalid_items() -> None:
    database = filled(CANDIDATES)
    work = Working(database.candidates, {}, timestamp_text(NOW))
    order = Order({"rating": 4}, "reject", dry_run=False)
    refused = frozenset({(ORGANIZATION, CANDIDATES[1])})
    items = decide_items(order, ORGANIZATION, CANDIDATES, [None] * 3, work, refused)
    assert [item.outcome for item in items] == ["applied", "invalid", "applied"]
    assert len(work.written()[1]) == 2


def test_differences__are_the_first_hundred() -> None:
    changes: BulkChanges = {"rating": 4}
    ids = [str(UUID(int=number, version=4)) for number in range(1, 150)]
    database = filled(ids)
    work = Working(database.candidates, {}, timestamp_text(NOW))
    order = Order(changes, "reject", dry_run=True)
    items = decide_items(order, ORGANIZATION, ids, [None] * len(ids), work)
    assert work.written() == ([], [])
    assert {item.verdict.version for item in items} == {1}
    assert differences(items)[-1]["candidate_id"] == ids[99]


def operation(status: Any, *, ended: bool = False, **counted: int) -> Operation:
    counts = Counts(total=sum(counted.values()), **counted)
    return Operation(Order({"rating": 1}, "merge", dry_run=False), status, counts, ended)


@pytest.mark.parametrize(
    ("action", "status", "answer", "after"),
    [
        ("pause", "running", "applied", "paused"),
        ("pause", "paused", "unchanged", None),
        ("resume", "paused", "applied", "running"),
        ("resume", "running", "unchanged", None),
        ("cancel", "running", "applied", "cancelled"),
        ("cancel", "paused", "applied", "cancelled"),
        ("cancel", "cancelled", "operation_closed", None),
        ("resume", "cancelled", "operation_closed", None),
        ("pause", None, "operation_closed", None),
        ("retry_failed", "running", "not_allowed", None),
        ("retry_failed", "cancelled", "not_allowed", None),
        ("retry_failed", None, "operation_closed", None),
    ],
)
def test_control__of_one_that_goes_on(action: Any, status: Any, answer: str, after: Any) -> None:
    named = None if status is None else operation(status, pending=3, conflict=1)
    verdict = steered(action, named)
    assert (verdict.reason or verdict.outcome) == answer
    assert verdict.bulk == Steering(OPERATION, after)


@pytest.mark.parametrize("status", ["completed", "cancelled"])
@pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
def test_control__of_one_that_is_over(action: Any, status: Any) -> None:
    assert steered(action, operation(status, ended=True)).reason == "operation_closed"


@pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
def test_control__of_one_with_nothing_pending_waits_for_its_turn_to_end(action: Any) -> None:
    """Cancelled or paused it would never end: a filter that matched nothing begins like this."""
    assert steered(action, operation("running")).reason == "operation_closed"


def test_retry__begins_a_child_with_the_failed_items() -> None:
    parent = operation("completed", ended=True, applied=5, conflict=1, not_found=2, invalid=3)
    verdict = steered("retry_failed", parent)
    assert verdict.outcome == "accepted"
    assert verdict.bulk == Admission(CHILD, parent.order, 6, retries=OPERATION)
    none = steered("retry_failed", operation("completed", ended=True, applied=5, cancelled=1))
    assert none.outcome == "unchanged"


def steered(action: Any, named: Operation | None) -> Verdict:
    command = ControlBulkOperation(
        organization_id=ORGANIZATION, actor="me", operation_id=OPERATION, action=action
    )
    return control(command, named, CHILD)


def test_status__is_completed_with_the_last_item_unless_cancelled() -> None:
    left, done = Counts(2, applied=1, pending=1), Counts(2, applied=2)
    assert status_after("running", left) == "running"
    assert status_after("running", done) == "completed"
    assert status_after("cancelled", done) == "cancelled"


def test_counts__move_from_pending() -> None:
    items = [BulkItem("a", "applied", Verdict("applied")), BulkItem("b", "cancelled", Verdict("x"))]  # type: ignore[arg-type]
    assert Counts(3, pending=3).settle(items) == Counts(3, applied=1, cancelled=1, pending=1)


def test_operation_id__is_a_uuid5_of_the_command_s_identity() -> None:
    sent = submission(bulk("b", {"rating": 1}, ids=CANDIDATES))
    assert sent.key == Identity(ORGANIZATION, "/s", "b").key
    first = operation_id_of(sent.key)
    assert UUID(first).version == 5
    assert first == operation_id_of(sent.key) != operation_id_of(Identity("", "/s", "b").key)
