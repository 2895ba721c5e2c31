"""Commands about an id without `--organization`, as processes, against real servers."""

from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from uuid_utils.compat import uuid7

from audit.database import open_audit
from audit.sqlfiles import statement
from contract.topics import Topics
from domain.identity import Identity
from tests.funnel.test_cli_read import funnel
from tests.settling import Settler

Environment = dict[str, str]

ADA = UUID("00000000-0000-4000-8000-00000000000a")
BOB = UUID("00000000-0000-4000-8000-00000000000b")
CANDIDATE = UUID("00000000-0000-4000-8000-0000000000c1")
ERASED = UUID("00000000-0000-4000-8000-0000000000c2")
NOWHERE = UUID("00000000-0000-4000-8000-0000000000c3")
COMMAND = str(uuid7())


async def ask(*arguments: object, **environment: str) -> tuple[int | None, list[str], list[str]]:
    """Exit code, lines, lines of errors."""
    async with funnel(*map(str, arguments), **environment) as process:
        out, errors = await process.communicate()
    return process.returncode, out.decode().splitlines(), errors.decode().splitlines()


async def write(database_url: str, *organizations: UUID) -> None:
    """The candidate in each of these; in the first, also one that is erased."""
    connection = await asyncpg.connect(database_url)
    for organization in organizations:
        await connection.execute(
            """INSERT INTO candidates
               VALUES ($1, $2, 'Åsa', 'Ek', 'asa@example.com', NULL, 'offer', NULL, NULL, NULL,
                       '{}', '{}', 1, now(), now())""",
            organization, CANDIDATE,
        )  # fmt: skip
        for candidate, number, change in (
            (CANDIDATE, 1, {"version": 1, "actor": "me", "changed": {}}),
            (ERASED, 2, None),
        ):
            await connection.execute(
                """INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence,
                       change_sequence, kind, source_offset, identity, organization_id,
                       candidate_id, command_id, command_source, command_type, outcome, version,
                       change, builder)
                   VALUES (now(), $1, $2, $2, $2, 'command', $2, $3, $4, $5, $6, '/s',
                       'candidate.create.v1', 'applied', 1, $7, 1)""",
                list(organizations).index(organization), number,
                UUID(Identity(str(organization), f"/s{number}", COMMAND).key), organization,
                candidate, COMMAND if candidate == CANDIDATE else "another",
                None if change is None else orjson.dumps(change).decode(),
            )  # fmt: skip
    await connection.execute(
        """INSERT INTO erasures (organization_id, candidate_id, lane, result_sequence, version,
               command_id, command_source, actor, reason, accepted_at, looked_at,
               result_sequences)
           VALUES ($1, $2, 0, 2, 2, 'e', '/s', 'me', 'asked', now(), now(), '{}')""",
        organizations[0], ERASED,
    )  # fmt: skip
    await connection.close()


async def test_one_organization_has_it__needs_no_naming(database_url: str) -> None:
    await write(database_url, ADA)
    at = {"DATABASE_URL": database_url}

    now = await ask("get", CANDIDATE, "--json", **at)
    then = await ask("get", CANDIDATE, "--version", 1, **at)
    history = await ask("history", CANDIDATE, "--json", **at)
    erased = await ask("history", ERASED, "--json", **at)
    explained = await ask("explain", COMMAND, "--no-offsets", "--json", **at)

    assert (now[0], orjson.loads(now[1][0])["organization_id"]) == (0, str(ADA))
    assert then == (65, [], [f"funnel: there is no candidate {CANDIDATE} then"])
    assert (history[0], orjson.loads(history[1][0])["version"]) == (0, 1)
    assert (erased[0], orjson.loads(erased[1][0])["changed"]) == (0, None)
    assert (explained[0], orjson.loads(explained[1][0])["candidate_id"]) == (0, str(CANDIDATE))


@pytest.mark.parametrize(
    "asked",
    [
        ("get", CANDIDATE),
        ("get", CANDIDATE, "--version", 1),
        ("history", CANDIDATE),
        ("erase", CANDIDATE, "--reason", "asked"),
        ("explain", COMMAND, "--no-offsets"),
    ],
)
async def test_several_organizations_have_it__are_listed_in_one_line(
    database_url: str, asked: tuple[object, ...]
) -> None:
    await write(database_url, ADA, BOB)

    code, lines, errors = await ask(
        *asked, DATABASE_URL=database_url, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"
    )

    what = "command" if asked[0] == "explain" else "candidate"
    assert (code, lines) == (2, [])
    told = f"funnel: several organizations have a {what} {asked[1]}: {ADA}, {BOB}; "
    assert errors == [told + "choose with --organization"]


_NO_KAFKA = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


async def test_no_organization_has_it__is_65(database_url: str) -> None:
    await write(database_url, ADA)
    unknown = str(uuid7())

    for asked in (("get", NOWHERE), ("history", NOWHERE), ("erase", NOWHERE, "--reason", "x")):
        code, _, errors = await ask(*asked, DATABASE_URL=database_url, **_NO_KAFKA)
        assert (code, errors) == (65, [f"funnel: no organization has a candidate {NOWHERE}"])
    code, _, errors = await ask("explain", unknown, DATABASE_URL=database_url, **_NO_KAFKA)
    assert (code, errors) == (65, [f"funnel: no organization has a command {unknown}"])


async def test_explain__of_an_id_that_no_index_finds_asks_for_the_organization(
    database_url: str,
) -> None:
    code, _, errors = await ask("explain", "order-17", DATABASE_URL=database_url, **_NO_KAFKA)

    assert code == 2
    assert errors == [
        "funnel: this id is no UUIDv7, so that it is found with its --organization only"
    ]


async def test_erase__is_sent_for_the_organization_that_has_it(
    database_url: str, kafka_options: dict[str, Any], topics: Topics
) -> None:
    await write(database_url, BOB)

    async with Settler(kafka_options, topics) as settler:
        code, _, errors = await ask(
            "erase", CANDIDATE, "--reason", "asked",
            DATABASE_URL=database_url,
            KAFKA_BOOTSTRAP_SERVERS=str(kafka_options["bootstrap_servers"]),
            FUNNEL_TOPIC_PREFIX=topics.prefix,
        )  # fmt: skip

    assert (code, errors) == (0, [])
    assert [each.data["organization_id"] for each in settler.envelopes] == [str(BOB)]


FILL = """
INSERT INTO candidates
SELECT md5('o' || o)::uuid, md5(o || '-' || n)::uuid, 'Ada', 'Lovelace', 'a@b.c', NULL, 'new', NULL,
       NULL, NULL, '{}', '{}', 1, now(), now()
FROM generate_series(1, 10) AS o, generate_series(1, 3000) AS n;

INSERT INTO erasures (organization_id, candidate_id, lane, result_sequence, version, command_id,
    command_source, actor, reason, accepted_at, looked_at, result_sequences, completed_at)
SELECT md5('o' || o)::uuid, md5(o || '-e' || n)::uuid, 0, n, 2, 'e', '/s', 'me', 'asked', now(),
       now(), '{}', now()
FROM generate_series(1, 10) AS o, generate_series(1, 3000) AS n;

INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence, kind, source_offset,
    identity, organization_id, command_id, command_source, command_type, outcome, builder)
SELECT now(), 0, n, n, 'command', n, CASE WHEN n % 10 > 0 THEN md5('i' || n)::uuid END,
    md5('o' || n % 10)::uuid, 'c' || n, '/s', 'candidate.update.v1', 'unchanged', 1
FROM generate_series(1, 30000) AS n;
"""


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("organizations_of_candidate", (CANDIDATE,)),
        ("organizations_of_command", (COMMAND, UUID(int=1 << 80), UUID(int=2 << 80))),
    ],
)
async def test_plan__skips_from_organization_to_organization(
    database_url: str, name: str, arguments: tuple[object, ...]
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(FILL)
    for table in ("candidates", "erasures", "journal"):
        await connection.execute(f"VACUUM ANALYZE {table}")
    await connection.close()

    async with open_audit(database_url) as connection:
        lines = [
            row[0]
            for row in await connection.fetch(f"EXPLAIN ANALYZE {statement(name)}", *arguments)
        ]

    scans = [line for line in lines if "Scan" in line and "cost=0.00..0.00 " not in line]
    assert all("Scan using" in line for line in scans), "\n".join(lines)
    searches = [int(line.rpartition(": ")[2]) for line in lines if "Index Searches: " in line]
    # Some two for each of ten organizations, instead of all leaves of an index.
    assert 0 < max(searches) <= 30
