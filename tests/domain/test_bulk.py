"""Bulk operations: a bulk is the same changes sent singly, whatever the chunks; and steering."""

import itertools
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
from tests.domain.model import Model
from tests.domain.model_fields import Sent
from tests.domain.model_others import ALL
from tests.domain.test_decide import (
    CANDIDATES,
    IDS,
    KEYS,
    NOW,
    ORGANIZATION,
    SOURCES,
    TAG_EDIT,
    TAGS,
    WRITABLE,
    Database,
    History,
    bulk,
    create,
    exact,
    histories,
    singles,
    splits_do_not_show,
    submission,
    told,
    update,
)

PARSER = CommandParser()
NUMBERED = [str(UUID(int=number, version=4)) for number in range(100, 112)]
OPERATION, CHILD = NUMBERED[0], NUMBERED[1]


def filled(ids: Sequence[str]) -> Database:
    database = Database()
    database.run([create(each, key=(ORGANIZATION, each), rating=1) for each in ids])
    return database


class Chunks(Database):
    """A database in which a large operation is worked off, too."""

    def work_off(
        self, sent: Sent, order: Order, ids: Sequence[str], versions: Sequence[int | None]
    ) -> list[BulkItem]:
        """One chunk, as the lane's transaction does it."""
        work = Working(self.candidates, self.history(), timestamp_text(NOW))
        items = decide_items(order, ORGANIZATION, ids, versions, work)
        for seen, state in work.written()[1]:
            key = state["organization_id"], state["candidate_id"]
            assert self.candidates[key]["version"] == seen
            self.candidates[key] = state
        kept = [] if order.dry_run else items
        news = Verdict("applied", bulk=InlineBulk(OPERATION, order, kept, Counts(len(ids))))
        self.journal.append((NOW, submission(sent), news, len(self.journal) + 1))
        return items


def expecting(version: int | None) -> dict[str, Any]:
    return {} if version is None else {"expected_version": version}


_BULK_CHANGES = st.fixed_dictionaries(
    {},
    optional={name: WRITABLE[name] for name in ("status", "pipeline_stage", "rating", "source")}
    | {"tags": TAGS | TAG_EDIT},
).filter(bool)
_ON_CONFLICT = st.sampled_from(["reject", "merge", "overwrite"])
_EXPECTED = st.none() | st.integers(1, 4)


@st.composite
def _bulks(draw: st.DrawFn) -> Sent:
    command_id, sender, (organization, _) = draw(IDS), draw(SOURCES), draw(KEYS)
    ids = draw(st.lists(st.sampled_from(CANDIDATES), min_size=1, max_size=5))
    versions = st.dictionaries(st.sampled_from(ids), st.integers(1, 6))
    optional = {
        "expected_versions": versions,
        "on_conflict": st.sampled_from(["reject", "merge", "overwrite"]),
        "dry_run": st.booleans(),
    }
    rest = draw(st.fixed_dictionaries({}, optional=optional))
    changes = draw(_BULK_CHANGES)
    return bulk(command_id, changes, ids=ids, sender=sender, organization=organization, **rest)


@settings(max_examples=200)
@given(histories(singles() | singles() | singles() | _bulks()))
def test_inline__any_split_equals_the_model(history: History) -> None:
    """Small bulks between commands about one candidate."""
    splits_do_not_show(history, Model(ALL))


@st.composite
def _singles(draw: st.DrawFn, name: str) -> list[Sent]:
    """A few commands of others that come between two chunks."""
    return [
        update(
            f"{name}-{number}",
            draw(_BULK_CHANGES),
            key=(ORGANIZATION, draw(st.sampled_from(NUMBERED))),
            **expecting(expected),
            on_conflict=draw(_ON_CONFLICT),
        )
        for number, expected in enumerate(draw(st.lists(_EXPECTED, max_size=6)))
    ]


@settings(max_examples=200)
@given(_BULK_CHANGES, _ON_CONFLICT, st.data())
def test_chunks__equal_the_same_changes_sent_singly(
    changes: dict[str, Any], on_conflict: Any, data: st.DataObject
) -> None:
    """With single commands before, between and behind the chunks, wherever they are cut."""
    known = data.draw(st.lists(st.sampled_from(NUMBERED), unique=True))
    expected = {each: data.draw(_EXPECTED) for each in NUMBERED}
    cuts = sorted(data.draw(st.sets(st.integers(1, 11), max_size=5)) | {0, len(NUMBERED)})
    in_chunks, singly, model, sequences = Chunks(), Database(), Model(ALL), itertools.count(1)
    sent = bulk("b", changes, ids=NUMBERED, on_conflict=on_conflict)
    try:
        command = PARSER.parse(sent.type, sent.data)
    except InvalidCommand:
        return
    order = Order(command.changes, on_conflict, dry_run=False)  # type: ignore[union-attr]
    counts = Counts(len(NUMBERED), pending=len(NUMBERED))

    def of_others(commands: list[Sent]) -> None:
        """In the one database as a batch, in the other one by one."""
        answers = [told(verdict) for verdict in in_chunks.run(commands)] if commands else []
        assert [told(singly.run([each])[0]) for each in commands] == answers
        for each, answer in zip(commands, answers, strict=True):
            assert {"reason": None, **model.settle(each, next(sequences), NOW)} == answer

    of_others([create(each, key=(ORGANIZATION, each), rating=1) for each in known])
    of_others(data.draw(_singles("before")))
    for first, end in pairwise(cuts):
        ids = NUMBERED[first:end]
        items = in_chunks.work_off(sent, order, ids, [expected[each] for each in ids])
        counts = counts.settle(items)
        for item in items:
            version = expected[item.candidate_id]
            single = update(
                f"single-{item.candidate_id}",
                changes,
                key=(ORGANIZATION, item.candidate_id),
                **expecting(version),
                on_conflict=on_conflict,
            )
            assert [item.verdict] == singly.run([single])
            answer = {"reason": None, **model.settle(single, next(sequences), NOW)}
            assert told(item.verdict) == answer
        of_others(data.draw(_singles(f"behind-{first}")))
    assert sum(counts[1:]) == counts.total == len(NUMBERED)
    assert counts.pending == 0
    assert exact(_by_id(in_chunks)) == exact(_by_id(singly))
    assert exact(_by_id(in_chunks)) == exact({key[1]: row for key, row in model.states.items()})


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


def test_inline__that_looks_too_far_back_is_taken_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.bulk.MERGE_HISTORY_VERSIONS_MAX", 4)
    database = filled(CANDIDATES)
    for number in range(2):
        database.run(
            [
                update(f"{number} {each}", {"source": f"{number}"}, key=(ORGANIZATION, each))
                for each in CANDIDATES
            ]
        )
    expected = dict.fromkeys(CANDIDATES[:2], 1)
    little = bulk("b", {"rating": 4}, ids=CANDIDATES, on_conflict="merge")
    little.data["expected_versions"] = expected
    [verdict] = database.run([little])
    assert (verdict.outcome, (verdict.details or {})["counts"]["applied"]) == ("applied", 3)
    much = bulk("c", {"rating": 3}, ids=CANDIDATES, on_conflict="merge")
    much.data["expected_versions"] = expected
    [verdict] = database.run([much])
    assert (verdict.outcome, verdict.details) == ("accepted", None)
    assert isinstance(verdict.bulk, Admission)
    assert verdict.bulk.expected_versions == expected
    [verdict] = database.run([much._replace(id="d", data=much.data | {"on_conflict": "reject"})])
    assert (verdict.outcome, (verdict.details or {})["counts"]["conflict"]) == ("applied", 2)
