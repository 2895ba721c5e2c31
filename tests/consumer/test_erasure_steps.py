"""An erasure's steps in the database: bounded whatever there is, and nobody else's letters."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from contract.dead_letters import was_erased
from contract.record import SourceRecord, pack, unpack

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ORGANIZATION, CANDIDATE, OTHER = str(uuid4()), str(uuid4()), str(uuid4())
STRANGER = str(uuid4())
"""Another organization, which may hold a candidate with the same id."""
ROWS_MAX, BYTES_MAX = 20, 100_000
BIG = 30_000

FILL = f"""
INSERT INTO lanes (lane, partitions_total, commands_topic, cluster_id, result_sequence,
                   published_result_sequence)
SELECT lane, 4, 't', 'c', 1000000, 1000000 FROM generate_series(0, 3) AS lane;

INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence, change_sequence, kind,
    source_offset, organization_id, candidate_id, actor, outcome, version, change, builder)
SELECT now() + n * interval '1 microsecond', 0, n, n, n, 'command', n, '{ORGANIZATION}',
    CASE WHEN n % 20 = 0 THEN '{CANDIDATE}' ELSE '{OTHER}' END::uuid, 'ann', 'applied', n,
    '{{"state": {{}}}}', 1
FROM generate_series(1, 4000) AS n;

INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence, kind, source_offset,
    organization_id, candidate_id, actor, details, forward, builder)
SELECT now() + n * interval '1 microsecond', 1 + n % 3, n, n, 'reroute', n, '{ORGANIZATION}',
    CASE WHEN n % 20 = 0 THEN '{CANDIDATE}' ELSE '{OTHER}' END::uuid, 'ann', '{{}}',
    convert_to(repeat('x', {BIG}), 'UTF8'), 1
FROM generate_series(1, 1200) AS n;

INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence, kind, source_offset,
    organization_id, operation_id, outcome, details, builder)
SELECT now() + n * interval '1 microsecond', 0, 5000 + n, 5000 + n, 'command', n,
    '{ORGANIZATION}', gen_random_uuid(), 'unchanged',
    jsonb_build_object('differences', jsonb_build_array(jsonb_build_object(
        'candidate_id', CASE WHEN n % 10 = 0 THEN '{CANDIDATE}' ELSE '{OTHER}' END))), 1
FROM generate_series(1, 200) AS n;

INSERT INTO bulk_operations (organization_id, operation_id, lane, command_id, command_source, actor,
    type, changes, filter, on_conflict, dry_run, status, total, applied, pending, created_at,
    updated_at, completed_at)
SELECT '{ORGANIZATION}', md5('o' || n)::uuid, 0, 'c', '/s', 'ann', 't', '{{"rating": 1}}',
    '{{"q": "zephyrine", "status": "new"}}', 'reject', false, 'completed', 2000, 2000, 0, now(),
    now(), now()
FROM generate_series(1, 8) AS n;
INSERT INTO bulk_operation_items
SELECT organization_id, operation_id, k,
    CASE WHEN k = 1999 AND operation_id = md5('o3')::uuid THEN '{CANDIDATE}'
         ELSE md5(k::text) END::uuid, 'applied', 2
FROM bulk_operations, generate_series(0, 1999) AS k;

INSERT INTO erasures (organization_id, candidate_id, lane, result_sequence, version, command_id,
    command_source, actor, reason, accepted_at, looked_at, result_sequences)
VALUES ('{ORGANIZATION}', '{CANDIDATE}', 0, 6000, 4001, 'e', '/s', 'ann', 'asked',
        now() + interval '1 second', now(), '{{6000,6000,6000,6000}}');
ANALYZE;
"""
READ = """
SELECT CASE WHEN relname LIKE 'journal_2%' THEN 'journal' ELSE relname END AS name,
       sum(seq_scan) AS scans, sum(coalesce(idx_tup_fetch, 0)) AS fetched
FROM pg_stat_xact_user_tables GROUP BY 1
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url, timeout=10)
    yield connection
    await connection.close(timeout=5)


async def add_letters(
    database: Connection, letters: Sequence[tuple[str | None, bytes | None, bytes | None]]
) -> None:
    """Dead letters on lane 2: organization read from the data, key, value."""
    await database.executemany(
        "INSERT INTO dead_letters (lane, result_sequence, recorded_at, source_offset, error_code,"
        " error_detail, organization_id, record) VALUES (2, $1, now(), 0, 'not_json', '', $2, $3)",
        [
            (number, organization, pack(SourceRecord(key, value, (("h", None),), 1)))
            for number, (organization, key, value) in enumerate(letters, 1)
        ],
    )


async def step(database: Connection, **bounds: int) -> tuple[asyncpg.Record, dict[str, int]]:
    """One step as the consumer takes it; the rows that it fetched of each table."""
    chosen = {"rows_max": ROWS_MAX, "bytes_max": BYTES_MAX} | bounds
    async with database.transaction():
        await database.execute("SET LOCAL ROLE funnel_consumer")
        before = {each["name"]: each for each in await database.fetch(READ)}
        row = await database.fetchrow(
            "SELECT * FROM erase_step(0, now(), $1, $2)", chosen["rows_max"], chosen["bytes_max"]
        )
        after = {each["name"]: each for each in await database.fetch(READ)}
    assert row is not None
    for table in ("journal", "dead_letters", "bulk_operations", "bulk_operation_items"):
        assert after[table]["scans"] == before[table]["scans"], table
    return row, {name: int(after[name]["fetched"] - before[name]["fetched"]) for name in after}


async def test_steps__are_bounded_in_rows_and_bytes_and_go_on_where_the_last_one_ended(
    database: Connection,
) -> None:
    await database.execute(FILL)
    letter = ORGANIZATION.encode(), b"{" + CANDIDATE.encode() + b"x" * BIG
    foreign = STRANGER.encode(), letter[1]
    await add_letters(database, [(None, *letter)] * 40 + [(None, *foreign)] * 200)
    places: list[tuple[object, ...]] = []
    while True:
        row, read = await step(database)
        assert not row["idle"]
        # Of each row that is gone through: found, hashed, emptied.
        assert read.get("journal", 0) <= 4 * ROWS_MAX
        assert read.get("dead_letters", 0) <= 3 * ROWS_MAX
        assert read.get("bulk_operations", 0) <= 4 * ROWS_MAX
        assert read.get("bulk_operation_items", 0) <= 20 * (ROWS_MAX + 1)
        if row["completed"]:
            break
        place = await database.fetchrow(
            "SELECT phase, place_at, place_lane, place_sequence, place_operation, letters_lane,"
            " letters_sequence FROM erasures"
        )
        assert place is not None
        assert tuple(place) not in places
        places.append(tuple(place))
    # 200 versions, 60 records of 30 kB (4 a step), 40 letters of as much; 16,000 items.
    phases = [place[0] for place in places]
    assert phases.count("versions") >= 200 // ROWS_MAX - 1
    assert phases.count("others") >= 60 // 4 - 1
    assert phases.count("letters") >= 40 // 4 - 1
    assert phases.count("operations") >= 16_000 // (20 * ROWS_MAX) - 1
    assert (row["journal_rows"], row["operations"], row["dead_letters"]) == (280, 1, 40)
    of_candidate = f"FROM journal WHERE candidate_id = '{CANDIDATE}'"
    assert await database.fetchval(
        f"SELECT count(*) {of_candidate} AND num_nonnulls(actor, change, forward) > 0"
    ) == 0  # fmt: skip
    assert await database.fetchval(
        f"SELECT count(actor) FROM journal WHERE candidate_id = '{OTHER}'"
    ) == 4000 + 1200 - 260  # fmt: skip
    told = "SELECT count(*) FROM journal WHERE details::text LIKE $1"
    assert await database.fetchval(told, f"%{CANDIDATE}%") == 0
    assert await database.fetchval(told, f"%{OTHER}%") == 180
    assert [
        row["named"]
        for row in await database.fetch(
            "SELECT filter ->> 'q' AS named FROM bulk_operations"
            " ORDER BY operation_id = md5('o3')::uuid"
        )
    ] == ["zephyrine"] * 7 + [None]


async def test_letters__only_of_the_organization_whatever_id_another_one_gave_its_candidate(
    database: Connection,
) -> None:
    await database.execute(FILL)
    mine, theirs, named = ORGANIZATION.encode(), STRANGER.encode(), CANDIDATE.encode()
    erased = [
        (ORGANIZATION, None, b'{"candidate_id": "%s"}' % named),
        (ORGANIZATION, theirs, b'{"candidate_id": "%s"}' % named),
        (None, mine, b"{no json, but %s" % named.upper()),
        (None, mine.upper(), named),
    ]
    kept = [
        (STRANGER, theirs, b'{"candidate_id": "%s"}' % named),
        (STRANGER, mine, b'{"candidate_id": "%s"}' % named),
        (None, theirs, b"{no json, but %s" % named),
        (None, theirs, b"{no json, but %s of %s" % (named, mine)),
        (None, None, b"[%s of %s, %s of %s]" % (named, mine, named, theirs)),
        (None, named, named),
        (None, b"\xff" * 36, named),
        (None, mine + b"/" + named, None),
        (ORGANIZATION, mine, b"{another one}"),
        (None, mine, None),
    ]
    await add_letters(database, erased + kept)
    before = await records(database)
    while not (await step(database, rows_max=500))[0]["completed"]:
        pass
    after = await records(database)
    assert [was_erased(unpack(record)) for record in after[: len(erased)]] == [True] * len(erased)
    assert after[len(erased) :] == before[len(erased) :]


async def test_steps__organizations_take_turns(database: Connection) -> None:
    """Who erases many at once does not keep another organization waiting for all of them."""
    await database.execute(FILL)
    await database.execute(
        "INSERT INTO erasures (organization_id, candidate_id, lane, result_sequence, version,"
        " command_id, command_source, actor, reason, accepted_at, looked_at, result_sequences)"
        " SELECT organization_id, gen_random_uuid(), lane, result_sequence, 1, 'e', '/s', 'ann',"
        " 'asked', accepted_at, looked_at - n * interval '1 hour', result_sequences"
        " FROM erasures, generate_series(1, 50) AS n"
    )
    await database.execute(
        "INSERT INTO erasures (organization_id, candidate_id, lane, result_sequence, version,"
        " command_id, command_source, actor, reason, accepted_at, looked_at, result_sequences)"
        f" VALUES ('{STRANGER}', gen_random_uuid(), 0, 6000, 1, 'e', '/s', 'ann', 'asked', now(),"
        " now(), '{6000,6000,6000,6000}')"
    )
    turns, last = [], "00000000-0000-0000-0000-000000000000"
    for _ in range(2):
        last = await database.fetchval(
            "SELECT organization_id FROM erase_step(0, now(), 20, 100000, $1)", last
        )
        turns.append(str(last))
    assert sorted(turns) == sorted([ORGANIZATION, STRANGER])


async def records(database: Connection) -> list[bytes]:
    return [
        row["record"]
        for row in await database.fetch("SELECT record FROM dead_letters ORDER BY result_sequence")
    ]
