"""Baseline (b), the ceiling: the service's own writes straight in SQL, from prepared arrays.

No Kafka, no decoding, no deciding, no deduplication: a batch's UPDATE from arrays, its journal
rows by COPY, its lane row, COMMIT. As many connections as there are lanes.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from bench.workload import Update
from consumer.store import LaneStore, open_pool
from contract.journal import JournalRow, timestamp_text
from contract.lanes import LaneRow
from domain.candidate import CandidateState
from domain.identity import Identity, home_lane


async def run_ceiling(
    *, database_url: str, updates: Sequence[Update], lanes_total: int, batch: int
) -> float:
    """Seconds, with everything in memory before the clock starts."""
    pool = await open_pool(database_url, lease=timedelta(seconds=60), lanes_max=lanes_total)
    try:
        async with pool.acquire() as connection:
            await connection.execute(
                "INSERT INTO lanes (lane, partitions_total, commands_topic, cluster_id)"
                " SELECT n, $1, 'bench', 'bench' FROM generate_series(0, $1 - 1) n"
                " ON CONFLICT DO NOTHING",
                lanes_total,
            )
        store = LaneStore(pool)
        await store.ensure_partitions(timedelta(days=40))
        prepared = await _prepare(store, updates, lanes_total, batch)
        started = time.perf_counter()
        await asyncio.gather(*(_write(store, lane, todo) for lane, todo in prepared.items()))
        return time.perf_counter() - started
    finally:
        await pool.close()


async def _write(store: LaneStore, lane: int, batches: Sequence[Any]) -> None:
    for updated, rows in batches:
        async with store.transaction() as connection:
            before = await store.lock(connection, lane)
            await store.write_candidates(
                connection, created=(), updated=updated, recorded_at=rows[0].recorded_at
            )
            await store.append(connection, rows)
            await store.advance(connection, before, _after(before, len(rows)))


def _after(before: LaneRow, total: int) -> LaneRow:
    return before._replace(
        next_offset=before.next_offset + total,
        journal_sequence=before.journal_sequence + total,
        result_sequence=before.result_sequence + total,
        change_sequence=before.change_sequence + total,
    )


async def _prepare(
    store: LaneStore, updates: Sequence[Update], lanes_total: int, batch: int
) -> dict[int, list[tuple[list[tuple[int, CandidateState]], list[JournalRow]]]]:
    """By lane: the states to write and their journal rows, a candidate at most once a batch."""
    now = datetime.now(UTC)
    keys = list({(update.organization_id, update.candidate_id) for update in updates})
    async with store.transaction() as connection:
        states = await store.candidates(connection, keys)
        done = {lane: await store.lock(connection, lane) for lane in range(lanes_total)}
    by_lane: dict[int, list[Update]] = {}
    for update in updates:
        by_lane.setdefault(home_lane(update.organization_id, lanes_total), []).append(update)
    prepared = {}
    for lane, own in by_lane.items():
        batches = []
        sequence = done[lane].journal_sequence
        for start in range(0, len(own), batch):
            written: dict[tuple[str, str], tuple[int, CandidateState]] = {}
            rows = []
            for update in own[start : start + batch]:
                key = update.organization_id, update.candidate_id
                old = states[key]
                new: Any = {
                    **old,
                    "rating": update.changes["rating"],
                    "status": update.changes["status"],
                    "version": old["version"] + 1,
                    "updated_at": timestamp_text(now),
                }
                states[key] = new
                seen = written[key][0] if key in written else old["version"]
                written[key] = seen, new
                sequence += 1
                rows.append(_row(now, lane, sequence, update, new))
            batches.append((list(written.values()), rows))
        prepared[lane] = batches
    return prepared


def _row(
    now: datetime, lane: int, sequence: int, update: Update, state: CandidateState
) -> JournalRow:
    command_id = f"bench-{lane}-{sequence}"
    changed = {name: {"from": None, "to": value} for name, value in update.changes.items()}
    change = orjson.dumps(
        {
            "organization_id": update.organization_id,
            "candidate_id": update.candidate_id,
            "version": state["version"],
            "previous_version": update.seen_version,
            "changed": changed,
            "state": state,
            "actor": "bench",
            "command_id": command_id,
            "command_source": "/bench",
            "sequence": sequence,
            "recorded_at": timestamp_text(now),
        }
    )
    identity = Identity(update.organization_id, "/bench", command_id)
    return JournalRow(
        now, lane, sequence, sequence, sequence, "command", sequence, identity.key, b"0" * 16,
        update.organization_id, update.candidate_id, command_id, "/bench", "candidate.update.v1",
        "bench", "applied", None, state["version"], update.seen_version, None, change, None, None,
        None,
    )  # fmt: skip
