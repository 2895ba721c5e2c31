"""`decide`: each outcome and reason of CONTRACT.md 5, and that batching never shows.

`Database` stands for PostgreSQL between batches: it turns a decision into the next snapshot.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.journal import timestamp_text
from domain.candidate import CandidateState
from domain.commands import CommandParser, InvalidCommand
from domain.decide import (
    CandidateKey,
    Change,
    Decision,
    Settled,
    Snapshot,
    Submission,
    Verdict,
    decide,
)
from domain.identity import Identity, command_digest
from domain.verdicts import Erasure, InlineBulk
from tests.domain.model import Model
from tests.domain.model_fields import HORIZON, Json, Sent
from tests.domain.model_others import SINGLES

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ORGANIZATIONS = [str(UUID(int=number, version=4)) for number in (1, 2)]
CANDIDATES = [str(UUID(int=number, version=4)) for number in (11, 12, 13)]
ORGANIZATION, CANDIDATE = ORGANIZATIONS[0], CANDIDATES[0]
KEY = (ORGANIZATION, CANDIDATE)
PERSON: Json = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
PARSER = CommandParser()
LANE = 3


def uuid7(made_at: datetime, *, number: int = 0) -> str:
    return str(UUID(int=int(made_at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | number))


def create(
    command_id: str = "c", *, sender: str = "/s", key: CandidateKey = KEY, **person: Any
) -> Sent:
    ids = {"organization_id": key[0], "candidate_id": key[1], "actor": "me"}
    return Sent(
        command_id, sender, "candidate.create.v1", {**ids, "candidate": {**PERSON, **person}}
    )


def update(
    command_id: str, changes: Json, *, sender: str = "/s", key: CandidateKey = KEY, **rest: Any
) -> Sent:
    ids = {"organization_id": key[0], "candidate_id": key[1], "actor": "me"}
    return Sent(command_id, sender, "candidate.update.v1", {**ids, "changes": changes, **rest})


def erase(
    command_id: str = "e", *, sender: str = "/s", key: CandidateKey = KEY, reason: str = "asked"
) -> Sent:
    ids = {"organization_id": key[0], "candidate_id": key[1], "actor": "me"}
    return Sent(command_id, sender, "candidate.erase.v1", {**ids, "reason": reason})


def bulk(
    command_id: str,
    changes: Json,
    *,
    ids: Sequence[str],
    sender: str = "/s",
    organization: str = ORGANIZATION,
    **rest: Any,
) -> Sent:
    data = {"organization_id": organization, "actor": "me", "changes": changes}
    return Sent(
        command_id, sender, "candidate.bulk-update.v1", {**data, "candidate_ids": ids, **rest}
    )


def submission(sent: Sent) -> Submission:
    identity = Identity(sent.data["organization_id"], sent.source, sent.id)
    digest = command_digest(sent.type, sent.data)
    try:
        command = PARSER.parse(sent.type, sent.data)
    except InvalidCommand as error:
        candidate_id = sent.data.get("candidate_id")
        named = (identity.organization_id, candidate_id) if candidate_id else None
        return Submission(identity, identity.key, digest, None, error.errors, named)
    return Submission(identity, identity.key, digest, command)


class Database:
    """One lane's tables, and a transaction for each batch."""

    def __init__(self) -> None:
        self.candidates: dict[CandidateKey, CandidateState] = {}
        self.erased: set[CandidateKey] = set()
        self.journal: list[tuple[datetime, Submission, Verdict, int]] = []

    def run(self, batch: Sequence[Sent], now: datetime = NOW) -> list[Verdict]:
        """Decide one batch and write what it decided."""
        submissions = [submission(sent) for sent in batch]
        first = len(self.journal) + 1
        sequences = range(first, first + len(batch))
        decision = decide(
            submissions,
            self._snapshot(submissions, now),
            lane=LANE,
            result_sequences=sequences,
            recorded_at=now,
            recorded_at_text=timestamp_text(now),
            deduplication_horizon=HORIZON,
        )
        assert len(decision.verdicts) == len(batch)
        self._write(decision)
        rows = zip(submissions, decision.verdicts, sequences, strict=True)
        self.journal += [(now, *row) for row in rows]
        return decision.verdicts

    def _snapshot(self, submissions: Iterable[Submission], now: datetime) -> Snapshot:
        keys = {submission.key for submission in submissions}
        settled = {
            submission.key: Settled(
                submission.digest, LANE, sequence, verdict.outcome, verdict.reason, verdict.version
            )
            for at, submission, verdict, sequence in self.journal
            if verdict.settles and submission.key in keys and at >= now - HORIZON
        }
        candidates = {key: _read(row) for key, row in self.candidates.items()}
        return Snapshot(settled, candidates, self.history(), erased=frozenset(self.erased))

    def history(self) -> dict[CandidateKey, dict[int, frozenset[str]]]:
        """Which fields each version changed."""
        history: dict[CandidateKey, dict[int, frozenset[str]]] = {}
        for _, _, verdict, _ in self.journal:
            for change in changes_of(verdict):
                state, changed = change.state, frozenset(change.changed)
                key = state["organization_id"], state["candidate_id"]
                history.setdefault(key, {})[state["version"]] = changed
        return history

    def _write(self, decision: Decision) -> None:
        written = set()
        for state in decision.created:
            key = state["organization_id"], state["candidate_id"]
            assert key not in self.candidates
            written.add(key)
            self.candidates[key] = state
        for seen, state in decision.updated:
            key = state["organization_id"], state["candidate_id"]
            assert self.candidates[key]["version"] == seen < state["version"]
            written.add(key)
            self.candidates[key] = state
        for key, seen_version, _ in decision.erased:
            assert key not in self.erased | written
            row = self.candidates.pop(key, None)
            assert seen_version == (None if row is None else row["version"])
            self.erased.add(key)
        assert len(written) == len(decision.created) + len(decision.updated)


def _read(state: CandidateState) -> CandidateState:
    """A row as PostgreSQL gives it back: jsonb orders keys by length, then by bytes."""
    copy: CandidateState = json.loads(json.dumps(state))
    copy["attributes"] = _jsonb(copy["attributes"])
    return copy


def _jsonb(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonb(value[name]) for name in sorted(value, key=lambda n: (len(n), n))}
    return [_jsonb(item) for item in value] if isinstance(value, list) else value


def changes_of(verdict: Verdict) -> list[Change]:
    """What the journal gets of a verdict."""
    if isinstance(verdict.bulk, InlineBulk):
        kept = [] if verdict.bulk.order.dry_run else verdict.bulk.items
        return [item.verdict.change for item in kept if item.verdict.change is not None]
    return [verdict.change] if verdict.change is not None else []


def told(verdict: Verdict) -> Json:
    """A verdict in the model's words."""
    details = verdict.details or {}
    if isinstance(verdict.bulk, InlineBulk):
        failed = {each["candidate_id"]: each["reason"] for each in details.get("failed", [])}
        told = {"outcome": verdict.outcome, "reason": None, "counts": details["counts"]}
        assert sum(verdict.bulk.counts[1:]) == verdict.bulk.counts.total
        return {**told, "failed": failed}
    answer: Json = {"outcome": verdict.outcome, "reason": verdict.reason}
    if verdict.outcome in ("applied", "merged") or verdict.erasure is not None:
        answer |= {"version": verdict.version, "previous_version": verdict.previous_version}
    if verdict.outcome == "unchanged":
        answer["version"] = verdict.version
    if verdict.reason == "version_conflict":
        answer |= {"current": details["current_version"], "fields": sorted(details["fields"])}
    if (original := verdict.original) is not None:
        answer["original"] = {
            "sequence": original.result_sequence,
            "outcome": original.outcome,
            "reason": original.reason,
            "version": original.version,
        }
    return answer


def exact(value: Any) -> str:
    """JSON text: `true` is not `1`."""
    return json.dumps(value, sort_keys=True)


# The property: batches do not show.

TAGS = st.lists(st.sampled_from([f"t{n}" for n in range(60)]), unique=True, max_size=4)
_MANY_TAGS = st.sampled_from([[f"t{n}" for n in range(size)] for size in (49, 50, 51)])
_SCALAR = st.none() | st.booleans() | st.sampled_from([0, 1, "", "x"]) | st.just([1, {"a": None}])
_ATTRIBUTES = st.dictionaries(
    st.sampled_from(["a", "bb", "ä"]),
    _SCALAR | st.dictionaries(st.sampled_from(["a", "b"]), _SCALAR, max_size=2),
    max_size=3,
)
WRITABLE: dict[str, st.SearchStrategy[Any]] = {
    "first_name": st.sampled_from(["Ada", "Bob"]),
    "phone": st.sampled_from([None, "+442079460958"]),
    "status": st.sampled_from(["new", "hired"]),
    "pipeline_stage": st.sampled_from([None, "a.b", "c"]),
    "rating": st.sampled_from([None, 0, 1, 2, 5, 9]),
    "source": st.sampled_from([None, "fair"]),
    "tags": TAGS | _MANY_TAGS,
    "attributes": _ATTRIBUTES,
}
TAG_EDIT = st.one_of(
    st.builds(lambda add: {"add": add}, TAGS | _MANY_TAGS),
    st.builds(lambda remove: {"remove": remove}, TAGS),
    st.builds(lambda tags: {"add": tags[:2], "remove": tags[2:]}, TAGS),
)
_FRESH = st.uuids(version=4).map(str)
_REPEATED = st.sampled_from(
    ["a", "b", "c", "d", str(UUID(int=9, version=4))]
    + [uuid7(NOW - timedelta(days=days)) for days in (-1, 0, 34, 36)]
)
IDS = st.one_of(_FRESH, _FRESH, _FRESH, _REPEATED)
SOURCES = st.sampled_from(["/s", "/t"])
KEYS = st.sampled_from([(o, c) for o in ORGANIZATIONS for c in CANDIDATES] + [KEY] * 14)


def changes(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Json]:
    """Few of them: many are never unchanged, and never to be merged."""
    some = st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3, unique=True)
    return some.flatmap(lambda names: st.fixed_dictionaries({n: fields[n] for n in names}))


_CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "expected_version": st.sampled_from([1, 1, 2, 3, 6]),
        "on_conflict": st.sampled_from(["reject", "merge", "merge", "overwrite"]),
    },
)
_CHANGES = changes(WRITABLE | {"tags": TAGS | TAG_EDIT})


@st.composite
def singles(draw: st.DrawFn) -> Sent:
    """A command about one candidate."""
    command_id, sender, key = draw(IDS), draw(SOURCES), draw(KEYS)
    kind = draw(st.integers(0, 19))
    if kind in (1, 2):
        person = draw(st.fixed_dictionaries({}, optional=WRITABLE))
        return create(command_id, sender=sender, key=key, **person)
    if kind == 3:
        return erase(command_id, sender=sender, key=key)
    rest = draw(_CONDITIONS)
    return update(command_id, draw(_CHANGES), sender=sender, key=key, **rest)


History = list[tuple[timedelta, list[Sent]]]
_DELAYS = st.sampled_from([timedelta(0), timedelta(seconds=1), timedelta(hours=30), 2 * HORIZON])


@st.composite
def histories(draw: st.DrawFn, commands: st.SearchStrategy[Sent]) -> History:
    """Batches, each with the time since the one before; some commands are sent again."""
    there = [KEY, *draw(st.lists(KEYS.filter(lambda key: key != KEY), unique=True, max_size=5))]
    sent = [create(f"c{number}", key=key) for number, key in enumerate(there)]
    sent += draw(st.integers(1, 30).flatmap(lambda n: st.lists(commands, min_size=n, max_size=n)))
    sent += [sent[i % len(sent)] for i in draw(st.lists(st.integers(0, 99), max_size=8))]
    sent = draw(st.permutations(sent)) if draw(st.integers(0, 3)) == 3 else sent
    cuts = sorted(draw(st.sets(st.integers(1, len(sent)), max_size=8)) | {0, len(sent)})
    return [(draw(_DELAYS), sent[a:b]) for a, b in pairwise(cuts)]


@settings(max_examples=300)
@given(histories(singles()))
def test_decide__any_split_equals_the_model(history: History) -> None:
    splits_do_not_show(history, Model(SINGLES))


def splits_do_not_show(history: History, model: Model) -> None:
    """Outcomes, state and journal are the model's, whatever the batches."""
    database = Database()
    now, sequences = NOW, count(1)
    for delay, batch in history:
        now += delay
        verdicts = database.run(batch, now)
        expected = [model.settle(sent, next(sequences), now) for sent in batch]
        answers = [{"reason": None, **answer} for answer in expected]
        assert [exact(told(verdict)) for verdict in verdicts] == [exact(a) for a in answers]
    changes = [each for _, _, verdict, _ in database.journal for each in changes_of(verdict)]
    assert [
        exact([change.previous_version, change.changed, change.state]) for change in changes
    ] == [exact([row["previous"], row["changed"], row["state"]]) for row in model.journal]
    assert {k: exact(s) for k, s in database.candidates.items()} == {
        k: exact(s) for k, s in model.states.items()
    }
    assert database.erased == model.erased


# Each row of the table of outcomes and reasons.


def only(batch: Sequence[Sent], database: Database | None = None) -> Verdict:
    """The verdict on the last one."""
    return (database or Database()).run(batch)[-1]


def test_decide__create_applies() -> None:
    verdict = only([create(tags=["x"], phone=None)])
    assert (verdict.outcome, verdict.version, verdict.previous_version) == ("applied", 1, None)
    assert verdict.change is not None
    assert verdict.change.state == {
        "organization_id": ORGANIZATION,
        "candidate_id": CANDIDATE,
        **PERSON,
        "phone": None,
        "status": "new",
        "pipeline_stage": None,
        "rating": None,
        "source": None,
        "tags": ["x"],
        "attributes": {},
        "version": 1,
        "created_at": "2026-11-23T12:00:00.000000Z",
        "updated_at": "2026-11-23T12:00:00.000000Z",
    }


def test_decide__update_applies_and_names_from_and_to() -> None:
    verdict = only([create(rating=1), update("u", {"rating": None, "first_name": "Ada"})])
    assert (verdict.outcome, verdict.version, verdict.previous_version) == ("applied", 2, 1)
    assert verdict.change is not None
    assert verdict.change.changed == {"rating": {"from": 1, "to": None}}


def test_decide__erase_is_accepted_with_the_tombstone_as_the_last_version() -> None:
    verdict = only([create(), update("u", {"rating": 1}), erase()])
    told = (verdict.outcome, verdict.reason, verdict.version, verdict.previous_version)
    assert told == ("accepted", None, 3, 2)
    assert verdict.change is None
    assert verdict.erasure == Erasure(KEY, None, "asked")


def test_decide__an_erased_id_is_blocked_in_its_batch_and_in_later_ones() -> None:
    database = Database()
    after = [create("c2"), update("u", {"rating": 1}), erase("e2")]
    [_, erasure, *blocked] = database.run([create(), erase(), *after])
    blocked += database.run([each._replace(id=f"again {each.id}") for each in after])
    assert erasure.outcome == "accepted"
    assert {(each.outcome, each.reason) for each in blocked} == {("rejected", "erased")}
    [again] = database.run([erase()])
    assert again.outcome == "duplicate"
    [other] = database.run([bulk("b", {"rating": 1}, ids=[CANDIDATE])])
    assert told(other)["failed"] == {CANDIDATE: "not_found"}


def test_decide__erase_of_nobody_is_not_found() -> None:
    assert only([erase()]).reason == "not_found"
    assert only([erase(reason=" ")]).reason == "invalid"


def test_decide__same_values_are_unchanged() -> None:
    verdict = only([create(tags=["x"]), update("u", {"tags": ["x"], "status": "new"})])
    assert (verdict.outcome, verdict.version, verdict.change) == ("unchanged", 1, None)


def test_decide__true_is_not_one() -> None:
    verdict = only([create(attributes={"a": 1}), update("u", {"attributes": {"a": True}})])
    assert verdict.outcome == "applied"


def test_decide__unchanged_is_settled_too() -> None:
    same = update("u", {"status": "new"})
    verdict = only([create(), same, update("v", {"status": "hired"}), same])
    assert verdict.outcome == "duplicate"
    assert verdict.original is not None
    assert verdict.original[2:] == (2, "unchanged", None, 1)


@pytest.mark.parametrize("batches", [[3], [1, 1, 1], [2, 1], [1, 2]])
def test_decide__duplicate_tells_the_original(batches: list[int]) -> None:
    database, sent = Database(), [create("x"), create("y"), create("y")]
    for size in batches:
        verdict = database.run([sent.pop(0) for _ in range(size)])[-1]
    assert (verdict.outcome, verdict.reason, verdict.change) == ("duplicate", None, None)
    assert verdict.original is not None
    assert verdict.original[1:] == (LANE, 2, "rejected", "already_exists", None)


def test_decide__duplicate_whatever_the_order_of_keys() -> None:
    sent = create()
    turned = sent._replace(data=dict(reversed(sent.data.items())))
    assert only([sent, turned]).outcome == "duplicate"


def test_decide__id_reused_and_the_first_answer_stays() -> None:
    database = Database()
    reused = update("c", {"rating": 1})
    first, second, third, again = database.run([create("c"), reused, reused, create("c")])
    assert (first.outcome, second.reason, third.reason) == ("applied", "id_reused", "id_reused")
    assert again.original is not None
    assert again.original.result_sequence == 1
    assert database.run([reused])[0].reason == "id_reused"


def test_decide__id_reused_by_type_alone() -> None:
    sent = create("c")
    assert only([sent, sent._replace(type="candidate.update.v1")]).reason == "id_reused"


def test_decide__identity_is_organization_source_and_id() -> None:
    other = (ORGANIZATIONS[1], CANDIDATE)
    verdicts = Database().run([create("c"), create("c", sender="/t"), create("c", key=other)])
    assert [v.outcome for v in verdicts] == ["applied", "rejected", "applied"]
    assert verdicts[1].reason == "already_exists"


def test_decide__invalid_lists_errors_and_is_settled() -> None:
    bad = update("u", {"rating": 9})
    _, verdict, again = Database().run([create(), bad, bad])
    assert (verdict.outcome, verdict.reason) == ("rejected", "invalid")
    [error] = (verdict.details or {})["errors"]
    assert error.keys() == {"pointer", "code", "detail"}
    assert error["pointer"] == "/changes/rating"
    assert again.outcome == "duplicate"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"tags": {"add": ["one-too-many"]}}, "/changes/tags"),
        ({"attributes": {"large": "x" * 9000}}, "/changes/attributes"),
    ],
)
def test_decide__invalid_as_only_the_merge_can_tell(changes: Json, pointer: str) -> None:
    full = create(tags=[str(n) for n in range(50)], attributes={"there": "x" * 9000})
    database = Database()
    _, verdict = database.run([full, update("u", changes | {"rating": 1})])
    assert (verdict.reason, verdict.change) == ("invalid", None)
    assert [error["pointer"] for error in (verdict.details or {})["errors"]] == [pointer]
    assert database.candidates[KEY]["version"] == 1


def test_decide__not_found() -> None:
    verdict = only([update("u", {"rating": 1}, expected_version=7)])
    assert (verdict.outcome, verdict.reason) == ("rejected", "not_found")


def test_decide__already_exists() -> None:
    verdict = only([create("c"), create("d", first_name="Eve")])
    assert (verdict.outcome, verdict.reason, verdict.change) == ("rejected", "already_exists", None)


def test_decide__not_found_stays_settled_once_the_candidate_is_there() -> None:
    early = update("u", {"rating": 1})
    database = Database()
    database.run([early])
    _, again, fresh = database.run([create(), early, update("v", {"rating": 1})])
    assert again.original is not None
    assert again.original.reason == "not_found"
    assert fresh.outcome == "applied"


@pytest.mark.parametrize(
    ("age", "reason"),
    [(HORIZON, None), (HORIZON + timedelta(milliseconds=1), "too_old"), (-HORIZON, None)],
)
def test_decide__too_old_by_its_uuid7(age: timedelta, reason: str | None) -> None:
    assert only([create(uuid7(NOW - age))]).reason == reason


def test_decide__too_old_comes_before_everything() -> None:
    sent = create(uuid7(NOW - timedelta(days=34)))
    database = Database()
    database.run([sent])
    bad = sent._replace(data={**sent.data, "candidate": {}})
    later = NOW + timedelta(days=2)
    verdicts = database.run([sent, bad], later)
    assert [verdict.reason for verdict in verdicts] == ["too_old", "too_old"]


@pytest.mark.parametrize(
    "command_id", ["0192f0c1-7c1e-4abc-8def-0123456789ab", "x", "7" * 36, "7" * 200]
)
def test_decide__only_a_uuid7_is_too_old(command_id: str) -> None:
    assert only([create(command_id)]).outcome == "applied"


# Versions expected.

HISTORY = [
    create(),
    update("v2", {"rating": 2}),
    update("v3", {"status": "hired", "source": "fair"}),
]


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    ("expected", "how", "changes", "answer"),
    [
        (3, "reject", {"rating": 5}, "applied"),
        (3, "merge", {"rating": 5}, "applied"),
        (3, "overwrite", {"rating": 5}, "applied"),
        (3, "merge", {"rating": 2}, "unchanged"),
        (2, "reject", {"phone": "+442079460958"}, ["phone"]),
        (2, "reject", {"rating": 2}, ["rating"]),
        (2, "overwrite", {"status": "new"}, "applied"),
        (2, "overwrite", {"status": "hired"}, "unchanged"),
        (2, "merge", {"rating": 5}, "merged"),
        (2, "merge", {"rating": 2}, "unchanged"),
        (2, "merge", {"status": "offer", "rating": 5}, ["status"]),
        (2, "merge", {"status": "hired"}, ["status"]),
        (1, "merge", {"rating": 5}, ["rating"]),
        (1, "merge", {"rating": 5, "phone": None, "source": "x"}, ["rating", "source"]),
        (1, "merge", {"tags": {"add": ["t"]}, "attributes": {"a": 1}}, "merged"),
        (4, "reject", {"rating": 5}, ["rating"]),
        (4, "merge", {"phone": "+442079460958"}, ["phone"]),
        (4, "overwrite", {"rating": 5}, "applied"),
    ],
)
def test_decide__expected_version(
    expected: int, how: str, changes: Json, answer: Any, split: bool
) -> None:
    database = Database()
    last = update("last", changes, expected_version=expected, on_conflict=how)
    if split:
        database.run(HISTORY)
        [verdict] = database.run([last])
    else:
        verdict = database.run([*HISTORY, last])[-1]
    if isinstance(answer, str):
        assert (verdict.outcome, verdict.reason) == (answer, None)
        assert verdict.version == (3 if answer == "unchanged" else 4)
    else:
        assert (verdict.outcome, verdict.reason) == ("rejected", "version_conflict")
        assert verdict.details == {"current_version": 3, "fields": answer}
        assert verdict.change is None


def test_decide__reject_is_the_default() -> None:
    verdict = only([*HISTORY, update("u", {"rating": 5}, expected_version=1)])
    assert verdict.reason == "version_conflict"


def at_version(version: int, history: dict[int, frozenset[str]]) -> Snapshot:
    database = Database()
    database.run([create()])
    state = cast(CandidateState, {**database.candidates[KEY], "version": version})
    return Snapshot({}, {KEY: state}, {KEY: history})


@pytest.mark.parametrize(
    ("version", "missing", "outcome"),
    [(1001, None, "merged"), (1002, None, "rejected"), (11, 5, "rejected"), (11, 11, "rejected")],
)
def test_decide__merge_needs_the_whole_history_of_at_most_a_thousand_versions(
    version: int, missing: int | None, outcome: str
) -> None:
    steps = {step: frozenset({"rating"}) for step in range(2, version + 1) if step != missing}
    sent = update("u", {"status": "hired"}, expected_version=1, on_conflict="merge")
    [verdict] = decide(
        [submission(sent)],
        at_version(version, steps),
        lane=LANE,
        result_sequences=[1],
        recorded_at=NOW,
        recorded_at_text=timestamp_text(NOW),
        deduplication_horizon=HORIZON,
    ).verdicts
    assert verdict.outcome == outcome
    if outcome == "rejected":
        assert verdict.details == {"current_version": version, "fields": ["status"]}


def test_decide__writes_a_hot_candidate_once() -> None:
    database = Database()
    database.run([create()])
    batch = [update(str(n), {"rating": n % 6}) for n in range(1, 50)]
    before = {key: _read(state) for key, state in database.candidates.items()}
    verdicts = database.run(batch)
    assert [verdict.version for verdict in verdicts] == list(range(2, 51))
    assert before[KEY]["version"] == 1
    assert database.candidates[KEY]["version"] == 50


def test_decide__leaves_the_snapshot_alone() -> None:
    database = Database()
    database.run([create(attributes={"a": {"b": 1}}, tags=["x"])])
    snapshot = Snapshot({}, dict(database.candidates), {})
    before = exact(snapshot.candidates[KEY])
    edit = update("u", {"attributes": {"a": {"b": None, "c": 2}}, "tags": {"remove": ["x"]}})
    decide(
        [submission(edit)],
        snapshot,
        lane=LANE,
        result_sequences=[1],
        recorded_at=NOW,
        recorded_at_text=timestamp_text(NOW),
        deduplication_horizon=HORIZON,
    )
    assert (exact(snapshot.candidates[KEY]), snapshot.settled) == (before, {})


def test_decide__nothing() -> None:
    assert Database().run([]) == []
