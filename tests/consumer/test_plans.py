"""The hot statements as the lane's sessions run them: by index, whatever the tables have grown to.

50,000 candidates and a journal over three months; batches of a thousand.
"""

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from hashlib import md5
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest

import consumer.sqlfiles
import producer.sqlfiles
from consumer.filter_sql import conditions
from consumer.store import open_pool
from stack.servers import Servers
from tests.conftest import url_of

Node = dict[str, Any]

FILL = """
INSERT INTO lanes (lane, partitions_total, commands_topic, cluster_id, result_sequence)
SELECT lane, 4, 't', 'c', 15000 FROM generate_series(0, 3) AS lane;

INSERT INTO candidates
SELECT md5((n % 97)::text)::uuid, md5(n::text)::uuid, 'Ada', 'Lovelace', 'a@b.c', NULL, 'new',
       'a.b', n % 6, NULL, '{x,y}', '{"k": [1, 2]}', 3, now(), now()
FROM generate_series(1, 50000) AS n;

INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence, change_sequence, kind,
    source_offset, identity, digest, organization_id, candidate_id, command_id, command_source,
    command_type, actor, outcome, version, previous_version, change, builder)
SELECT date_trunc('month', now()) + n * interval '2 minutes', n % 4, n / 4 + 1, n / 4 + 1, n,
    'command', n, md5('i' || n)::uuid, '\\x00', md5((n % 50000 % 97)::text)::uuid,
    md5((n % 50000)::text)::uuid, 'id-' || n, '/s', 'candidate.update.v1', 'me', 'applied',
    1 + n / 50000, NULL,
    '{"changed": {"rating": {"from": 1, "to": 2}}, "state": {}}', 1
FROM generate_series(1, 60000) AS n;

INSERT INTO erasures (organization_id, candidate_id, lane, result_sequence, version, command_id,
    command_source, actor, reason, accepted_at, looked_at, result_sequences, completed_at)
SELECT md5((n % 97)::text)::uuid, md5('new' || n)::uuid, n % 4, n, 2, 'e', '/s', 'me', 'asked',
       now(), now(), '{}', now()
FROM generate_series(1, 20000) AS n;

INSERT INTO bulk_operations (organization_id, operation_id, lane, command_id, command_source, actor,
    type, changes, on_conflict, dry_run, status, total, applied, pending, created_at, updated_at,
    completed_at)
SELECT md5((n % 97)::text)::uuid, md5('o' || n)::uuid, n % 4, 'c', '/s', 'me', 't', '{}', 'reject',
    false, CASE WHEN n % 50 = 0 THEN 'running' ELSE 'completed' END, 40,
    CASE WHEN n % 50 = 0 THEN 0 ELSE 40 END, CASE WHEN n % 50 = 0 THEN 40 ELSE 0 END,
    now() - interval '40 days' + n * interval '1 minute',
    now() - interval '40 days' + n * interval '1 minute',
    CASE WHEN n % 50 = 0 THEN NULL ELSE now() - interval '40 days' + n * interval '1 minute' END
FROM generate_series(1, 2000) AS n;

INSERT INTO bulk_operation_chunks
SELECT organization_id, operation_id, 0, array_agg(md5(k::text)::uuid)
FROM bulk_operations, generate_series(1, 40) AS k
WHERE status = 'running' GROUP BY organization_id, operation_id;

INSERT INTO bulk_operation_items
SELECT organization_id, operation_id, k, md5(k::text)::uuid,
    CASE WHEN k = 7 THEN 'conflict' ELSE 'applied' END, 2
FROM bulk_operations, generate_series(0, 39) AS k WHERE status = 'completed';

ANALYZE;
"""


def uuids(texts: Iterable[object]) -> str:
    return (
        "'{"
        + ",".join(md5(str(text).encode(), usedforsecurity=False).hexdigest() for text in texts)
        + "}'"
    )


# The arrays of a batch of a thousand: its candidates, their new state, its identity keys.
BATCH = range(1, 1001)
ORGANIZATIONS = uuids(n % 97 for n in BATCH)
KEYS = f"{ORGANIZATIONS}, {uuids(BATCH)}"
NEW_KEYS = f"{ORGANIZATIONS}, {uuids(f'new{n}' for n in BATCH)}"
IDENTITIES = uuids(f"i{n}" for n in BATCH)
NOW = "date_trunc('month', now()) + interval '80 days'"
RANGES = "array_fill(0::bigint, ARRAY[1000]), array_fill(9::bigint, ARRAY[1000])"
STATE = """
    array_fill('A'::text, ARRAY[1000]), array_fill('B'::text, ARRAY[1000]),
    array_fill('a@b.c'::text, ARRAY[1000]), array_fill(NULL::text, ARRAY[1000]),
    array_fill('new'::text, ARRAY[1000]), array_fill(NULL::text, ARRAY[1000]),
    array_fill(NULL::smallint, ARRAY[1000])::text, array_fill(NULL::text, ARRAY[1000]),
    array_fill('{}'::text, ARRAY[1000]), array_fill('{}'::text, ARRAY[1000]),
    array_fill(4::bigint, ARRAY[1000])::text, now()"""

# Statement, its arguments as SQL, the indexes it must use, and how many rows it finds or writes.
CONSUMER = [
    ("candidates", KEYS, {"candidates_pkey"}, 1000),
    ("settled", f"{IDENTITIES}, {NOW} - interval '85 days', {NOW}", {"journal_identity"}, 1000),
    ("history", f"{KEYS}, {RANGES}", {"journal_candidate_versions"}, 2000),
    (
        "update_candidates",
        f"{KEYS}, {STATE}, array_fill(3::bigint, ARRAY[1000])::text",
        {"candidates_pkey"},
        1000,
    ),
    ("insert_candidates", f"{NEW_KEYS}, {STATE}", set(), 1000),
    ("erased", NEW_KEYS, {"erasures_pkey"}, 1000),
    (
        "erase_again",
        f"{NEW_KEYS}, array_fill(2::smallint, ARRAY[1000])",
        {"erasures_pkey"},
        1000,
    ),
    (
        "delete_candidates",
        f"{KEYS}, array_fill(3::bigint, ARRAY[1000])",
        {"candidates_pkey"},
        1000,
    ),
]
BULK_VALUES = "NULL, 'offer', false, NULL, true, 4::smallint, false, NULL, now()"
BULK_PLACES = "array_fill('(0,1)'::tid, ARRAY[400])::text"
BULK_VERSIONS = "array_fill(3::bigint, ARRAY[400])::text"
IDS = uuids(97 * n for n in range(1, 401))
ORGANIZATION = uuids(["0"]).replace("{", "").replace("}", "")
OPERATION = uuids(["o97"]).replace("{", "").replace("}", "")
KEY = f"{ORGANIZATION}, {OPERATION}"
PENDING = uuids(["o100"]).replace("{", "").replace("}", "")
OPERATIONS = f"array_fill({ORGANIZATION}::uuid, ARRAY[1]), ARRAY[{OPERATION}::uuid]"
BULK = [
    ("operations", f"{OPERATIONS}, now()", {"bulk_operations_pkey"}),
    ("candidates_in_bulk", f"{ORGANIZATION}, {IDS}", {"candidates_pkey"}),
    (
        "update_in_bulk",
        f"{ORGANIZATION}, {IDS}, {BULK_PLACES}, {BULK_VERSIONS}, {BULK_VALUES}",
        {"Tid Scan"},
    ),
    ("next_chunk", f"0, {ORGANIZATION}", {"bulk_operations_open", "bulk_operation_chunks_pkey"}),
    ("chunk_at", f"{KEY}, 0", {"bulk_operation_chunks_pkey"}),
    (
        "candidates_of_chunk",
        f"{KEY}, 0",
        {"bulk_operation_chunks_pkey", "candidates_pkey"},
    ),
    (
        "advance_operation",
        f"{KEY}, 'running', 1, 0, 0, 0, 0, 0, 39, 1, NULL, now(), NULL, 0, 20",
        {"bulk_operations_pkey", "bulk_operation_chunks_pkey"},
    ),
    ("steer_operation", f"{KEY}, 'paused', now()", {"bulk_operations_pkey"}),
    ("admit_failed", f"{ORGANIZATION}, {PENDING}, {OPERATION}, 500", set()),
    ("expire_operations", "1, interval '30 days', 500", {"bulk_operations_ended"}),
]
LANE = [
    ("lock_lane", "2", 1),
    ("advance_lane", "2, 0, 0, 0, 9, 9, 15009, 9, 8, 0, '\\x00', now(), 0, 0", 1),
    ("note_published", "2, 0, 5, 6, true, true", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
async def filled(servers: Servers, template_database: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    postgres = await asyncpg.connect(url_of(servers, "postgres"))
    await postgres.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    superuser = await asyncpg.connect(url_of(servers, name))
    await superuser.execute(FILL)
    await superuser.close()
    yield url_of(servers, name)
    await postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await postgres.close()


async def executed(database_url: str, statement: str, arguments: str) -> list[Node]:
    """The nodes of its plan, the root first, as a lane's session ran it; nothing is kept."""
    pool = await open_pool(database_url, lease=timedelta(seconds=10), lanes_max=1)
    try:
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT current_user") == "funnel_consumer"
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(f"PREPARE hot AS {statement}")
                told = await connection.fetchval(
                    f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE hot ({arguments})"
                )
            finally:
                await transaction.rollback()
    finally:
        await pool.close()
    return list(_nodes(orjson.loads(told)[0]["Plan"]))


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def by_index(nodes: list[Node]) -> set[str]:
    """The indexes used, of a partition as of its parent; no table is read through."""
    reads = [node for node in nodes if "Relation Name" in node and "Scan" in node["Node Type"]]
    for node in reads:
        if re.match("candidates|journal|dead_letters|bulk_operation", node["Relation Name"]):
            assert node["Node Type"] in ("Index Scan", "Index Only Scan"), node
    return {_parents(node["Index Name"]) for node in nodes if "Index Name" in node}


def _parents(index: str) -> str:
    """journal_2026_11_identity_idx → journal_identity"""
    renamed = {
        "organization_id_candidate_id_version_idx": "candidate_versions",
        "identity_idx": "identity",
    }
    table, _, rest = re.sub(r"_\d{4}_\d\d", "", index).partition("_")
    return f"{table}_{renamed.get(rest, rest)}"


@pytest.mark.parametrize(("name", "arguments", "indexes", "rows"), CONSUMER)
async def test_plans__of_a_lane_transaction(
    filled: str, name: str, arguments: str, indexes: set[str], rows: int
) -> None:
    nodes = await executed(filled, consumer.sqlfiles.statement(name), arguments)
    assert by_index(nodes) >= indexes
    (root, *_) = nodes
    found = root if root["Node Type"] != "ModifyTable" else nodes[1]
    assert found["Actual Rows"] * found["Actual Loops"] == rows
    assert sum(node.get("Rows Removed by Filter", 0) for node in nodes) <= rows


@pytest.mark.parametrize(("name", "arguments", "ways"), BULK)
async def test_plans__of_bulk_operations(
    filled: str, name: str, arguments: str, ways: set[str]
) -> None:
    nodes = await executed(filled, consumer.sqlfiles.statement(name), arguments)
    kinds = {node["Node Type"] for node in nodes}
    assert {_parents(node["Index Name"]) for node in nodes if "Index Name" in node} | kinds >= ways
    assert "Seq Scan" not in kinds


@pytest.mark.parametrize(
    "chosen",
    [
        {"status": "new", "rating_min": 2, "source": "fair", "q": "ada"},
        {"pipeline_stage": "a", "tag": ["x", "y"], "attribute": {"k": "[1, 2]"}},
        {"updated_since": "2020-01-01T00:00:00Z", "created_since": "2020-01-01T00:00:00Z"},
    ],
)
async def test_plans__a_filter_reads_its_organization_only(filled: str, chosen: Any) -> None:
    sql, arguments = conditions(chosen, first_argument=6)
    statement = consumer.sqlfiles.statement("admit_filter").replace("{conditions}", sql)
    given = ", ".join(_sql_literal(argument) for argument in arguments)
    nodes = await executed(filled, statement, f"{KEY}, 100, 200000, NULL, {given}")
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}
    read = [node for node in nodes if node.get("Relation Name") == "candidates"]
    looked_at = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in read
    )
    assert looked_at <= 50_000 / 97 + 1


def _sql_literal(argument: object) -> str:
    if isinstance(argument, list):
        return "'{" + ",".join(argument) + "}'"
    return str(argument) if isinstance(argument, int) else f"'{argument}'"


@pytest.mark.parametrize(("name", "arguments", "rows"), LANE)
async def test_plans__of_the_lanes_row(filled: str, name: str, arguments: str, rows: int) -> None:
    nodes = await executed(filled, consumer.sqlfiles.statement(name), arguments)
    assert {node["Relation Name"] for node in nodes if "Relation Name" in node} == {"lanes"}
    assert nodes[-1]["Actual Rows"] == rows


async def test_plans__deduplication_opens_only_the_months_of_its_horizon(filled: str) -> None:
    nodes = await executed(
        filled,
        consumer.sqlfiles.statement("settled"),
        f"{IDENTITIES}, {NOW} - interval '10 days', {NOW}",
    )
    reads = [node for node in nodes if node.get("Relation Name", "").startswith("journal")]
    assert len({node["Relation Name"] for node in reads if node["Actual Loops"]}) == 1


@pytest.mark.parametrize("behind", [0, 10, 14_000])
async def test_plans__of_the_publisher_catching_up(filled: str, behind: int) -> None:
    """Rows in the order of the index, only as many as asked for, however many follow."""
    nodes = await executed(
        filled, producer.sqlfiles.statement("unpublished"), f"2, {15_000 - behind}, 2000"
    )
    assert "journal_pkey" in by_index(nodes)
    read = sum(
        node["Actual Rows"] * node["Actual Loops"]
        for node in nodes
        if node.get("Relation Name", "").startswith("journal")
    )
    assert min(behind, 2000) <= read <= 2010
    assert "Sort" not in {node["Node Type"] for node in nodes}
