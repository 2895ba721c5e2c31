"""Apply: one batch, one transaction; COMMIT is the only moment at which anything becomes true.

lock the lane → prefetch → decide → write candidates, journal → compare-and-set the lane.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, cast

import orjson

from consumer.bulk import BulkWrites, inline_candidates, opens_work, operator_of
from consumer.decode import Batch, DeadLetter, Item, Reroute
from consumer.erasure_store import accept, erased, note_named
from consumer.store import Connection, HistoryRange, LaneStore
from consumer.units import Place, item_rows
from contract.dead_letters import redrive_of
from contract.events import event_id
from contract.journal import JournalRow, Kind, timestamp_text
from contract.lanes import Hook, LaneRow, Published
from contract.record import pack
from contract.topics import Topics
from domain.candidate import CandidateState
from domain.commands import (
    ERASE,
    BulkUpdateCandidates,
    Command,
    CreateCandidate,
    EraseCandidate,
    UpdateCandidate,
)
from domain.decide import (
    CandidateKey,
    Change,
    Decision,
    Snapshot,
    Submission,
    Verdict,
    decide,
)
from domain.limits import MERGE_HISTORY_VERSIONS_MAX
from domain.merge import versions_to_merge
from domain.verdicts import InlineBulk

_SETTLED_LATE_MAX = timedelta(days=1)
"""How far a sender's clock may run ahead before an old UUIDv7 could slip past deduplication."""


class Attempt(NamedTuple):
    """What a transaction would make true; true only if the lane's row says `after`.

    `erases`: it accepts erasures, whose deferred part is to be done, or names who was erased;
    `opens`: bulk operations have something to do in chunks.
    """

    rows: list[JournalRow]
    after: LaneRow
    erases: bool = False
    opens: bool = False


class BatchTooLong(Exception):
    """It would read more of the journal than one transaction may: half of it may do."""


class Apply:
    """Settles batches of one deployment. Holds settings only."""

    def __init__(
        self,
        store: LaneStore,
        bulk: BulkWrites,
        *,
        topics: Topics,
        deduplication: timedelta,
        hook: Hook,
    ) -> None:
        self._store = store
        self._bulk = bulk
        self._results_topic = topics.results
        self._deduplication = deduplication
        self._hook = hook

    async def prepare(
        self,
        connection: Connection,
        lane: LaneRow,
        published: Published,
        *,
        batch: Batch,
        isolating: bool = False,
    ) -> Attempt:
        """Everything of the transaction but BEGIN and COMMIT. `lane` is locked.

        Args:
            isolating: find the candidates of bulk commands that the database refuses first.

        Raises:
            BatchTooLong: never of one item.
            DataRefused: PostgreSQL does not take a candidate.
            TryAgain: a guard did not hold.
        """
        submissions = [item.meaning for item in batch.items if isinstance(item.meaning, Submission)]
        snapshot = await self._prefetch(connection, lane, submissions, bulk=batch.bulk)
        self._hook("after_prefetch")
        decision = self._decide(lane, batch, submissions, snapshot)
        if isolating:
            refused = await self._store.refused(connection, decision.updated, lane.recorded_at)
            snapshot = snapshot._replace(refused=refused)
            decision = self._decide(lane, batch, submissions, snapshot)
        if batch.bulk:
            decision = await self._bulk.write(connection, lane, batch.items, decision)
            self._hook("after_write_operations")
        rows = self._rows(lane, batch.items, decision)
        named = _named_since(rows, snapshot.erased) if snapshot.erased else {}
        if named:
            rows = [_without_actor(row) if _key(row) in named else row for row in rows]
        after = _advanced(lane, batch, rows, published)
        self._hook("after_decide")
        await self._store.write_candidates(
            connection,
            created=decision.created,
            updated=decision.updated,
            recorded_at=lane.recorded_at,
        )
        self._hook("after_write_candidates")
        if decision.erased:
            await accept(connection, lane, decision.erased, rows)
            self._hook("after_write_erasures")
        if named:
            await note_named(connection, named)
        await self._store.append(connection, rows)
        self._hook("after_write_journal")
        await self._store.advance(connection, lane, after)
        opens = batch.bulk and opens_work(decision.verdicts)
        return Attempt(rows, after, erases=bool(decision.erased or named), opens=opens)

    def _decide(
        self,
        lane: LaneRow,
        batch: Batch,
        submissions: Sequence[Submission],
        snapshot: Snapshot,
    ) -> Decision:
        sequences = range(lane.result_sequence + 1, lane.result_sequence + len(batch.items) + 1)
        return decide(
            submissions,
            snapshot,
            lane=lane.lane,
            result_sequences=[
                sequence
                for sequence, item in zip(sequences, batch.items, strict=True)
                if isinstance(item.meaning, Submission)
            ],
            recorded_at=lane.recorded_at,
            recorded_at_text=timestamp_text(lane.recorded_at),
            deduplication_horizon=self._deduplication,
        )

    async def _prefetch(
        self,
        connection: Connection,
        lane: LaneRow,
        submissions: Sequence[Submission],
        *,
        bulk: bool,
    ) -> Snapshot:
        if not submissions:
            return Snapshot({}, {}, {})
        settled = await self._store.settled(
            connection,
            list({submission.key for submission in submissions}),
            since=lane.recorded_at - self._deduplication - _SETTLED_LATE_MAX,
            until=lane.recorded_at,
        )
        commands = [s.command for s in submissions if s.command is not None]
        keys, merging = _named_in_bulk(commands) if bulk else _named(commands)
        operations = await self._bulk.named(connection, lane, submissions) if bulk else {}
        invalid = {key for s in submissions if s.command is None and (key := s.candidate)}
        if not keys and not invalid:
            return Snapshot(settled, {}, {}, operations)
        candidates = await self._store.candidates(connection, list(keys)) if keys else {}
        ranges = merge_ranges(candidates, merging)
        if versions_total(ranges) > MERGE_HISTORY_VERSIONS_MAX:
            if len(submissions) > 1:
                raise BatchTooLong
            ranges = []  # a bulk that is taken on instead
        history = await self._store.history(connection, ranges) if ranges else {}
        missing = invalid if len(candidates) == len(keys) else invalid | keys - candidates.keys()
        blocked = await erased(connection, missing) if missing else ()
        return Snapshot(settled, candidates, history, operations, erased=blocked)

    def _rows(self, lane: LaneRow, items: Sequence[Item], decision: Decision) -> list[JournalRow]:
        """One row for each item and each candidate changed in bulk, behind the lane's last."""
        verdicts = iter(decision.verdicts)
        now = timestamp_text(lane.recorded_at)
        change_sequence = lane.change_sequence
        rows: list[JournalRow] = []
        for index, item in enumerate(items, 1):
            if not isinstance(item.meaning, Submission):
                rows.append(_set_aside(lane, index, item, item.meaning))
                continue
            verdict = next(verdicts)
            if isinstance(verdict.bulk, InlineBulk) and not verdict.bulk.order.dry_run:
                place = Place(
                    lane, 0, lane.result_sequence + index, change_sequence + 1, item.offset
                )
                operator = operator_of(item, verdict.bulk.operation_id)
                changed = item_rows(place, operator, verdict.bulk.items)
                rows += changed
                change_sequence += len(changed)
            change_sequence += verdict.change is not None or verdict.erasure is not None
            rows.append(self._settled(lane, index, item, verdict, change_sequence, now))
        if len(rows) > len(items):
            return [
                row._replace(journal_sequence=number)
                for number, row in enumerate(rows, lane.journal_sequence + 1)
            ]
        return rows

    def _settled(
        self,
        lane: LaneRow,
        index: int,
        item: Item,
        verdict: Verdict,
        change_sequence: int,
        now: str,
    ) -> JournalRow:
        submission = cast(Submission, item.meaning)
        changed = verdict.change is not None
        return JournalRow(
            lane.recorded_at,
            lane.lane,
            lane.journal_sequence + index,
            lane.result_sequence + index,
            change_sequence if changed or verdict.erasure is not None else None,
            "command",
            item.offset,
            submission.key if verdict.settles else None,
            submission.digest,
            item.organization_id,
            item.candidate_id,
            item.command_id,
            item.source,
            item.type,
            item.actor,
            verdict.outcome,
            verdict.reason,
            verdict.version,
            verdict.previous_version,
            self._details(verdict),
            _change_data(item, verdict, change_sequence, now) if changed else None,
            None,
            item.traceparent,
            item.tracestate,
            operation_id=None if verdict.bulk is None else verdict.bulk.operation_id,
        )

    def _details(self, verdict: Verdict) -> bytes | None:
        details: dict[str, Any] = {}
        if verdict.detail is not None:
            details["detail"] = verdict.detail
        if verdict.details is not None:
            details.update(verdict.details)
        if (original := verdict.original) is not None:
            told: dict[str, Any] = {
                "id": event_id(self._results_topic, original.lane, original.result_sequence),
                "outcome": original.outcome,
            }
            if original.reason is not None:
                told["reason"] = original.reason
            if original.version is not None:
                told["version"] = original.version
            details["original"] = told
        return orjson.dumps(details) if details else None


def _named_since(
    rows: Iterable[JournalRow], erased_before: Collection[CandidateKey]
) -> dict[CandidateKey, bool]:
    """Candidates that commands name although they were erased; True: to be erased once more."""
    named: dict[CandidateKey, bool] = {}
    for row in rows:
        key = _key(row)
        if key in erased_before:
            again = row.command_type == ERASE and row.reason == "erased"
            named[key] = named.get(key, False) or again
    return named


def _key(row: JournalRow) -> CandidateKey:
    return row.organization_id or "", row.candidate_id or ""


def _without_actor(row: JournalRow) -> JournalRow:
    """Of a command about somebody who was erased; a record that is set aside stays as it came."""
    return row._replace(actor=None) if row.kind == "command" else row


_SINGLE = UpdateCandidate | CreateCandidate | EraseCandidate  # the most frequent one first
_Named = tuple[set[CandidateKey], list[tuple[CandidateKey, int | None]]]
"""The candidates of a batch, and of which versions of some it must know what came after them."""


def _named(commands: Iterable[Command]) -> _Named:
    singles = [c for c in commands if isinstance(c, _SINGLE)]
    merging = [
        ((c.organization_id, c.candidate_id), c.expected_version)
        for c in singles
        if isinstance(c, UpdateCandidate) and c.on_conflict == "merge"
    ]
    return {(c.organization_id, c.candidate_id) for c in singles}, merging


def _named_in_bulk(commands: Sequence[Command]) -> _Named:
    """Of the singles and the bulk commands among them."""
    keys, merging = _named(commands)
    for command in commands:
        if isinstance(command, BulkUpdateCandidates):
            pairs = list(inline_candidates(command))
            keys.update(key for key, _ in pairs)
            merging += pairs if command.on_conflict == "merge" else []
    return keys, merging


def merge_ranges(
    candidates: Mapping[CandidateKey, CandidateState],
    merging: Iterable[tuple[CandidateKey, int | None]],
) -> list[HistoryRange]:
    """Of which versions it must be known what they changed: those behind the expected ones, as far
    back as `merge` looks."""
    firsts: dict[CandidateKey, int] = {}
    for key, expected in merging:
        version = candidates[key]["version"] if key in candidates else 0
        if behind := versions_to_merge(version, expected):
            firsts[key] = min(version - behind, firsts.get(key, version))
    return [(*key, after, candidates[key]["version"]) for key, after in firsts.items()]


def versions_total(ranges: Iterable[HistoryRange]) -> int:
    """How many versions these are."""
    return sum(last - after for _, _, after, last in ranges)


def _change_data(item: Item, verdict: Verdict, sequence: int, now: str) -> bytes:
    """The data of the change event: the bytes that are journaled and published."""
    change = cast(Change, verdict.change)
    return orjson.dumps(
        {
            "organization_id": item.organization_id,
            "candidate_id": item.candidate_id,
            "version": verdict.version,
            "previous_version": change.previous_version,
            "changed": change.changed,
            "state": change.state,
            "actor": item.actor,
            "command_id": item.command_id,
            "command_source": item.source,
            "sequence": sequence,
            "recorded_at": now,
        }
    )


def _set_aside(lane: LaneRow, index: int, item: Item, meaning: Reroute | DeadLetter) -> JournalRow:
    if isinstance(meaning, Reroute):
        kind: Kind = "reroute"
        details: dict[str, Any] = {"to_partition": meaning.home}
    else:
        kind = "dead_letter"
        details = {"error_code": meaning.code, "error_detail": meaning.detail}
        if (first_death := redrive_of(item.record)) is not None:
            details["redrive_of"] = first_death
    return JournalRow(
        lane.recorded_at, lane.lane, lane.journal_sequence + index, lane.result_sequence + index,
        None, kind, item.offset, None, None, item.organization_id, item.candidate_id,
        item.command_id, item.source, item.type, item.actor, None, None, None, None,
        orjson.dumps(details), None, pack(item.record), item.traceparent, item.tracestate,
    )  # fmt: skip


def _advanced(
    lane: LaneRow, batch: Batch, rows: Sequence[JournalRow], published: Published
) -> LaneRow:
    last = batch.items[-1]
    return lane.noting(published)._replace(
        next_offset=batch.next_offset,
        last_record_offset=last.offset,
        last_record_timestamp=last.record.timestamp,
        last_record_digest=batch.last_digest,
        journal_sequence=lane.journal_sequence + len(rows),
        result_sequence=rows[-1].result_sequence,
        change_sequence=lane.change_sequence + sum(row.change_sequence is not None for row in rows),
    )
