"""`funnel send` and `funnel import`, as a process, against a real broker."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from contract.envelope import Envelope, read_envelope
from contract.record import SourceRecord
from contract.topics import Topics
from tests.settling import Settler, read_all

Kafka = dict[str, Any]
ORGANIZATION = "00000000-0000-4000-8000-00000000000a"
CANDIDATE = "00000000-0000-4000-8000-0000000000c1"
CREATE = {
    "organization_id": ORGANIZATION,
    "candidate_id": CANDIDATE,
    "actor": "ats",
    "candidate": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
}


@dataclass(frozen=True)
class Ended:
    code: int | None
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.out.splitlines()]


Funnel = Callable[..., Coroutine[Any, Any, Ended]]


@pytest.fixture
def funnel(kafka_options: Kafka, topics: Topics, tmp_path: Path) -> Funnel:
    """Runs `funnel` with arguments, standard input, another place for errors, more environment."""

    async def run(
        *arguments: str,
        stdin: bytes = b"",
        stderr: int = asyncio.subprocess.PIPE,
        **environment: str,
    ) -> Ended:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from funnel.cli import main; main()",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "KAFKA_BOOTSTRAP_SERVERS": str(kafka_options["bootstrap_servers"]),
                "FUNNEL_TOPIC_PREFIX": topics.prefix,
                **environment,
            },
            cwd=tmp_path,
        )
        out, err = await process.communicate(stdin)
        return Ended(process.returncode, out.decode(), (err or b"").decode())

    return run


@pytest.fixture
async def settler(kafka_options: Kafka, topics: Topics) -> AsyncIterator[Settler]:
    async with Settler(kafka_options, topics) as settler:
        yield settler


async def received(kafka: Kafka, topics: Topics, total: int) -> list[Envelope]:
    records = await read_all(kafka, topics.commands, total=total)
    return [
        read_envelope(SourceRecord(r.key, r.value, tuple(r.headers), r.timestamp)) for r in records
    ]


def lines(*objects: object) -> bytes:
    return b"\n".join(orjson.dumps(each) for each in objects)


async def test_send_create__says_where_it_went(
    funnel: Funnel, kafka_options: Kafka, topics: Topics
) -> None:
    ended = await funnel(
        *("send", "create", "--organization", ORGANIZATION, "--actor", "ann", "--json"),
        *("first_name=Ada", "last_name=King=Noel", "email=ada@example.com", "rating=4"),
        *("tags=math; engines", "attribute.visa=yes", "attributes:={}", "attribute.age:=36"),
    )
    assert (ended.code, ended.err) == (0, "")
    [told] = ended.json
    [envelope] = await received(kafka_options, topics, 1)
    assert told["command_id"] == envelope.command_id
    assert envelope.source == "/gulf-funnel/cli"
    assert envelope.data == {
        "organization_id": ORGANIZATION,
        "candidate_id": told["candidate_id"],
        "actor": "ann",
        "candidate": {
            "first_name": "Ada",
            "last_name": "King=Noel",
            "email": "ada@example.com",
            "rating": 4,
            "tags": ["math", "engines"],
            "attributes": {"age": 36},
        },
    }


async def test_send_update__waits_for_the_result(funnel: Funnel, settler: Settler) -> None:
    ended = await funnel(
        *("send", "update", CANDIDATE, "--organization", ORGANIZATION, "--wait", "--id", "u1"),
        *("phone=", "tags.add=go", "tags.add=sql", "tags.remove=php"),
        *("--expected-version", "3", "--on-conflict", "merge"),
    )
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"applied candidate {CANDIDATE} version 1 command u1\n"
    assert settler.envelopes[0].data == {
        "organization_id": ORGANIZATION,
        "candidate_id": CANDIDATE,
        "actor": "cli",
        "changes": {"phone": None, "tags": {"add": ["go", "sql"], "remove": ["php"]}},
        "expected_version": 3,
        "on_conflict": "merge",
    }


async def test_send_update__a_rejection_is_65(
    funnel: Funnel, kafka_options: Kafka, topics: Topics
) -> None:
    def conflict(_envelope: Envelope) -> dict[str, Any]:
        details = {"current_version": 9, "fields": ["rating"]}
        return {"outcome": "rejected", "reason": "version_conflict", "details": details}

    update = ("send", "update", CANDIDATE, "--organization", ORGANIZATION, "rating=1", "--wait")
    async with Settler(kafka_options, topics, conflict):
        text = await funnel(*update, "--id", "u1")
        json = await funnel(*update, "--json")
    assert text.code == json.code == 65
    assert text.out == (
        f"rejected version_conflict candidate {CANDIDATE} version 9 fields rating command u1\n"
    )
    assert json.json[0]["reason"] == "version_conflict"


async def test_send_update__not_settled_in_time_is_75(funnel: Funnel) -> None:
    ended = await funnel(
        *("send", "update", CANDIDATE, "--organization", ORGANIZATION, "rating=1"),
        *("--wait", "--timeout", "0.1", "--id", "u1"),
    )
    assert ended.code == 75
    assert "Command u1 is not settled yet" in ended.err


async def test_send_update__kafka_away_is_69(funnel: Funnel) -> None:
    ended = await funnel(
        *("send", "update", CANDIDATE, "--organization", ORGANIZATION, "rating=1"),
        KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1",
    )
    assert ended.code == 69
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (["rating=9"], "changes/rating"),
        (["phone=call me"], "changes/phone"),
        (["tags:=7"], "changes/tags"),
    ],
)
async def test_send_update__checked_here(funnel: Funnel, fields: list[str], problem: str) -> None:
    ended = await funnel("send", "update", CANDIDATE, "--organization", ORGANIZATION, *fields)
    assert ended.code == 65
    assert problem in ended.err


async def test_send_update__not_a_field_is_usage(funnel: Funnel) -> None:
    ended = await funnel("send", "update", CANDIDATE, "--organization", ORGANIZATION, "height=9")
    assert ended.code == 2
    assert "height: there is no such field" in ended.err


async def test_send_update__unchecked_goes_out_as_it_is(
    funnel: Funnel, kafka_options: Kafka, topics: Topics
) -> None:
    ended = await funnel(
        *("send", "update", CANDIDATE, "--organization", ORGANIZATION, "rating=9", "--no-check")
    )
    [envelope] = await received(kafka_options, topics, 1)
    assert ended.code == 0
    assert ended.out.startswith(f"sent command {envelope.command_id} candidate {CANDIDATE}")
    assert envelope.data["changes"] == {"rating": 9}


async def test_send_bulk__builds_the_command(
    funnel: Funnel, kafka_options: Kafka, topics: Topics
) -> None:
    bulk = ("send", "bulk", "--organization", ORGANIZATION, "--no-check", "status=hired")
    assert (await funnel(*bulk, "--candidate", CANDIDATE, "--dry-run")).code == 0
    assert (await funnel(*bulk, "--filter", '{"status": "offer"}')).code == 0
    assert (await funnel(*bulk, "--filter", "offer")).code == 2
    named, filtered = await received(kafka_options, topics, 2)
    assert named.type == "candidate.bulk-update.v1"
    assert named.data == {
        "organization_id": ORGANIZATION,
        "actor": "cli",
        "changes": {"status": "hired"},
        "candidate_ids": [CANDIDATE],
        "dry_run": True,
    }
    assert filtered.data["filter"] == {"status": "offer"}


@pytest.mark.parametrize(
    ("arguments", "ids", "code", "problem"),
    [
        (["rating=1"], None, 65, "candidate_ids"),
        (["rating=1", "--ids-file", "ids"], "", 65, "candidate_ids"),
        (["rating=1", "--ids-file", "ids"], "no id", 65, "candidate_ids/0"),
        (["rating=1", "--ids-file", "absent"], None, 2, "--ids-file"),
        (
            ["rating=1", "--ids-file", "ids"],
            "\n".join(str(UUID(int=number)) for number in range(20_001)),
            65,
            "candidate_ids",
        ),
        (["rating=1", "--candidate", "x"], None, 2, "--candidate"),
        (["rating=1", "--candidate", CANDIDATE, "--filter", '{"status": "new"}'], None, 65, "one"),
        (["rating=1", "--filter", "{}"], None, 65, "filter"),
        (["rating=1", "--filter", '{"stage": "a"}'], None, 65, "filter/stage"),
        (["rating=many", "--candidate", CANDIDATE], None, 2, "rating"),
        (["rating=9", "--candidate", CANDIDATE], None, 65, "changes/rating"),
        (["email=a@b.example", "--candidate", CANDIDATE], None, 65, "changes/email"),
        (["height=9", "--candidate", CANDIDATE], None, 2, "height"),
    ],
    ids=lambda each: str(each)[:40],
)
async def test_send_bulk__bad_input_is_told_and_not_sent(
    funnel: Funnel, tmp_path: Path, arguments: list[str], ids: str | None, code: int, problem: str
) -> None:
    if ids is not None:
        (tmp_path / "ids").write_text(ids)
    # Were it sent, the exit code would be 69.
    ended = await funnel(
        *("send", "bulk", "--organization", ORGANIZATION, *arguments),
        KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1",
    )
    assert (ended.code, ended.out) == (code, "")
    assert problem in ended.err


async def test_send__neither_file_nor_command_is_usage(funnel: Funnel) -> None:
    assert (await funnel("send")).code == 2


async def test_send_file__every_line(
    funnel: Funnel, kafka_options: Kafka, topics: Topics, tmp_path: Path
) -> None:
    file = tmp_path / "commands.jsonl"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    file.write_bytes(
        lines(
            {"type": "candidate.create.v1", "data": CREATE, "id": "a", "source": "/ats"},
            {"type": "candidate.create.v1", "data": CREATE, "traceparent": trace},
        )
        + b"\n\n"
    )
    ended = await funnel("send", "--file", str(file))
    first, second = await received(kafka_options, topics, 2)
    assert (ended.code, ended.out) == (0, "2 commands sent\n")
    assert (first.command_id, first.source, first.data) == ("a", "/ats", CREATE)
    assert (UUID(second.command_id).version, second.traceparent) == (7, trace)


async def test_send_file__standard_input_and_results(funnel: Funnel, settler: Settler) -> None:
    commands = [
        {"type": "candidate.create.v1", "data": CREATE, "id": f"c{number}"}
        for number in range(1200)
    ]
    ended = await funnel("send", "--file", "-", "--wait", "--json", stdin=lines(*commands))
    assert ended.code == 0
    assert [each["command_id"] for each in ended.json] == [each["id"] for each in commands]
    assert ended.err == "1,200 settled: 1,200 applied\n"
    assert len(settler.envelopes) == 1200


async def test_send_file__a_bad_line_and_nothing_is_sent(
    funnel: Funnel, kafka_options: Kafka, topics: Topics
) -> None:
    good = {"type": "candidate.create.v1", "data": CREATE, "id": "good"}
    bad = await funnel("send", "--file", "-", stdin=lines(good, 7))
    assert (bad.code, bad.out) == (65, "")
    assert bad.err == (
        "line 2: not a JSON object\nfunnel: 1 of 2 lines are bad, nothing was sent\n"
    )
    assert (await funnel("send", "--file", "-", stdin=lines(good | {"id": "next"}))).code == 0
    [envelope] = await received(kafka_options, topics, 1)
    assert envelope.command_id == "next"


async def test_send_file__absent(funnel: Funnel) -> None:
    ended = await funnel("send", "--file", "absent.jsonl")
    assert (ended.code, ended.err) == (65, "funnel: absent.jsonl: No such file or directory\n")


HEADER = "first_name,last_name,email,rating,tags,attribute.visa,external_id\n"
ROWS = (
    HEADER
    + "Ada,Lovelace,ada@example.com,4,python; sql,yes,\n"
    + 'Grace,"Hopper\nMurray",grace@example.com,,,,E-7\n'
)


async def test_import__rows_become_creates(
    funnel: Funnel, kafka_options: Kafka, topics: Topics, tmp_path: Path
) -> None:
    file = tmp_path / "people.csv"
    file.write_text("\ufeff" + ROWS)
    first = await funnel("import", str(file), "--organization", ORGANIZATION)
    second = await funnel("import", "-", "--organization", ORGANIZATION, stdin=ROWS.encode())
    assert (first.out, first.err, first.code) == ("2 commands sent\n", "", 0)
    assert second.out == first.out
    ada, grace, *again = await received(kafka_options, topics, 4)
    assert [(each.command_id, each.data) for each in again] == [
        (each.command_id, each.data) for each in (ada, grace)
    ]
    assert ada.data["candidate"] == {
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": "ada@example.com",
        "rating": 4,
        "tags": ["python", "sql"],
        "attributes": {"visa": "yes"},
    }
    assert grace.data["candidate"]["last_name"] == "Hopper\nMurray"
    assert ada.data["candidate_id"] != grace.data["candidate_id"]
    assert ada.source == "/gulf-funnel/import"


async def test_import__same_person_other_content_is_another_command_for_the_same_candidate(
    funnel: Funnel, kafka_options: Kafka, topics: Topics
) -> None:
    for row in ("A,B,ada@example.com,4,,,", "A,B,ADA@example.com,5,,,"):
        ended = await funnel(
            *("import", "-", "--organization", ORGANIZATION), stdin=(HEADER + row).encode()
        )
        assert ended.code == 0
    first, second = await received(kafka_options, topics, 2)
    assert first.data["candidate_id"] == second.data["candidate_id"]
    assert first.command_id != second.command_id


BAD_ROWS = HEADER.encode() + b"\n".join(
    [
        b"A,B,good@example.com,,,,",
        b"A,B,bad,,,,",
        b"A,B",
        b"A,B,c@example.com,high,,,",
        b"A,B,,,,,",
        b"A,B\xff,c@example.com,,,,",
        b"\xc3\x85sa,B,fine@example.com,,,,",
    ]
)


async def test_import__bad_rows_are_named_and_nothing_is_sent(funnel: Funnel) -> None:
    ended = await funnel("import", "-", "--organization", ORGANIZATION, stdin=BAD_ROWS)
    assert ended.code == 65
    assert [line.partition(":")[0] for line in ended.err.splitlines()] == [
        *("line 3", "line 4", "line 5", "line 6", "line 7", "funnel")
    ]


async def test_import__skip_bad_sends_the_rest(
    funnel: Funnel, kafka_options: Kafka, topics: Topics
) -> None:
    ended = await funnel(
        *("import", "-", "--organization", ORGANIZATION, "--skip-bad"), stdin=BAD_ROWS
    )
    assert (ended.code, ended.out) == (0, "2 commands sent\n")
    names = {e.data["candidate"]["first_name"] for e in await received(kafka_options, topics, 2)}
    assert names == {"A", "Åsa"}


async def test_import__a_header_that_means_nothing(funnel: Funnel) -> None:
    ended = await funnel("import", "-", "--organization", ORGANIZATION, stdin=b"email,shoe_size")
    assert ended.code == 65
    assert ended.err == "funnel: column 'shoe_size': there is no such field\n"


async def test_import__many_bad_rows_are_not_all_told(funnel: Funnel) -> None:
    rows = HEADER + "A,B,bad,,,,\n" * 50
    ended = await funnel("import", "-", "--organization", ORGANIZATION, stdin=rows.encode())
    assert len(ended.err.splitlines()) == 22
    assert "50 of 50 lines are bad" in ended.err
