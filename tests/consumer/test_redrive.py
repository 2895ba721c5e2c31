"""Dead letters are worked as a queue: redriven as they were, followed, and never in a loop."""

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from audit.dead_letters import (
    Filter,
    Letter,
    UnknownLetter,
    read_letter,
    read_page,
)
from audit.operators import Operators, open_operators
from audit.redrive import RecordNotSent, Redriven, RedriveRefused, Redrives
from audit.redrive_campaign import Pace, planned, queued, redrive_all
from contract.dead_letters import DeadLetterId
from contract.record import SourceRecord, pack
from funnel.redriving import RedriveSender
from producer.forward import Forwarder
from tests.consumer.conftest import PARTITIONS, WITHIN_SECONDS, Bed, Command, create, new_key

FUNNEL = Path(sys.executable).with_name("funnel")
LANE = 2
PACE = Pace(per_second=1000, wait=timedelta(seconds=WITHIN_SECONDS))
REFUSE = "ALTER TABLE candidates ADD CONSTRAINT refused CHECK (last_name <> 'Refused')"
ACCEPT = "ALTER TABLE candidates DROP CONSTRAINT refused"


@pytest.fixture
async def operators(own_bed: Bed) -> AsyncIterator[Operators]:
    async with open_operators(own_bed.database_url) as operators:
        yield operators


@pytest.fixture
async def redrives(own_bed: Bed, operators: Operators) -> AsyncIterator[Redrives]:
    forwarder = Forwarder(kafka=own_bed.kafka, topic=own_bed.topics.commands)
    async with forwarder.running():
        yield Redrives(operators, RedriveSender(forwarder), requested_by="ops@night")


async def letters_of(operators: Operators, **wanted: Any) -> list[Letter]:
    return await read_page(operators, Filter(**wanted), after=None, letters_max=200)


async def refused(bed: Bed, total: int) -> list[Command]:
    """Commands that are valid, and that the database does not take: each a dead letter."""
    await bed.database.execute(REFUSE)
    commands = [create(new_key(), last_name="Refused") for _ in range(total)]
    places = [(each.lane, (await bed.send(each))[0]) for each in commands]
    for place in places:
        await bed.notice(*place)
    return commands


async def redriven_one(
    redrives: Redrives, letter: DeadLetterId, *, again: bool = False
) -> Redriven:
    sent = await redrives.send(letter, again=again)
    (ended,) = await redrives.followed([sent], within=timedelta(seconds=WITHIN_SECONDS))
    return ended


async def test_campaign__stops_at_its_canary_and_then_applies_the_rest(
    own_bed: Bed, operators: Operators, redrives: Redrives
) -> None:
    bed = own_bed
    async with bed.consuming():
        commands = await refused(bed, 13)
        first, *rest = await letters_of(operators, codes=("apply_failed",))
        assert len(rest) == 12
        waiting = Filter(codes=("apply_failed",), redriven=False)
        assert (await planned(queued(operators, waiting))).letters == 13

        summary = await redrive_all(redrives, queued(operators, waiting), again=False, pace=PACE)
        assert (summary.sent, summary.outcomes) == (1, {"dead_lettered": 1})
        assert summary.stopped is not None
        (failure,) = summary.failures
        assert (failure.letter_id, failure.reason) == (first.id, "apply_failed")
        # The second death tells of the first, and neither is sent again just like that.
        (second,) = [each for each in await letters_of(operators) if each.redrive_of is not None]
        assert (second.id, second.redrive_of) == (failure.ended, str(first.id))
        for each in (first.id, second.id):
            with pytest.raises(RedriveRefused) as told:
                await redrives.send(each, again=False)
            assert told.value.why == "redriven_before"

        await bed.database.execute(ACCEPT)
        reported: list[int] = []
        summary = await redrive_all(
            redrives, queued(operators, waiting), again=False, pace=PACE, report=reported.append
        )
        assert summary.outcomes == {"applied": 12}
        assert summary.skipped == {"redriven_before": 1}  # the second death
        assert (summary.stopped, reported[-1]) == (None, 13)
        # Not settled by its deaths, it applies now; after that it is a duplicate.
        ended = await redriven_one(redrives, second.id, again=True)
        assert ended.outcome == "applied"
        assert (await redriven_one(redrives, first.id, again=True)).outcome == "duplicate"
        for command in commands:
            key = command.data["organization_id"], command.data["candidate_id"]
            assert (await bed.state(key) or {})["version"] == 1
    trail = await bed.database.fetch("SELECT * FROM redrives")
    assert {row["requested_by"] for row in trail} == {"ops@night"}
    assert all(row["ended_at"] is not None and row["sent_offset"] is not None for row in trail)
    assert len(trail) == 1 + 12 + 2


async def test_redrive__keeps_the_record_and_adds_one_header(
    own_bed: Bed, operators: Operators, redrives: Redrives
) -> None:
    bed = own_bed
    headers = [("twice", b"\xff"), ("twice", None), ("x-redrive-of", b"0-1"), ("a", b"")]
    async with bed.consuming():
        offset = await bed.send_raw(LANE, b"\x00 no json", headers, key=b"\xff")
        empty = await bed.send_raw(LANE, None, ())
        await bed.notice(LANE, offset)
        await bed.notice(LANE, empty)
        bytes_letter, empty_letter = await letters_of(operators)
        # Anybody can write such a header: it is believed only of what was redriven.
        assert bytes_letter.redrive_of is None
        for letter, value in ((bytes_letter, b"\x00 no json"), (empty_letter, None)):
            ended = await redriven_one(redrives, letter.id)
            assert (ended.outcome, ended.reason) == ("dead_lettered", letter.error_code)
            assert ended.ended is not None
            place = await bed.database.fetchval(
                "SELECT source_offset FROM dead_letters WHERE lane = $1 AND result_sequence = $2",
                *ended.ended,
            )
            record = await bed.dead_letter(LANE, place)
            assert record.value == value
            ours = ("x-redrive-of", str(letter.id).encode())
            kept = [each for each in headers if each[0] != "x-redrive-of"] if value else []
            assert list(record.headers[: len(kept) + 1]) == [*kept, ours]
            assert record.key == (b"\xff" if value else None)


async def test_redrive__of_what_only_postgresql_could_keep(
    own_bed: Bed, operators: Operators, redrives: Redrives
) -> None:
    """It came compressed, no topic takes it otherwise, and so it is sent again."""
    bed = own_bed
    value = b'{"a": "' + b"x" * (6 << 20) + b'"}'
    async with bed.consuming():
        sent = await redrives._sender.send(LANE, SourceRecord(b"key", value, (), 0))
        assert (await bed.dead_letter(LANE, sent)).value is None
        (letter,) = await letters_of(operators, codes=("too_large",))
        ended = await redriven_one(redrives, letter.id)
        assert (ended.outcome, ended.reason) == ("dead_lettered", "too_large")
        assert ended.ended is not None
        whole = await read_letter(operators, ended.ended)
        assert (whole.redrive_of, whole.record and whole.record.value) == (str(letter.id), value)


async def test_redrive__is_followed_where_it_is_sent_on(
    own_bed: Bed, operators: Operators, redrives: Redrives
) -> None:
    """As when a later version can tell whose a record is, and an earlier one could not."""
    bed = own_bed
    command, dying = create(new_key(LANE + 1)), create(new_key(LANE + 1), last_name="Refused")
    await bed.database.execute(REFUSE)
    async with bed.consuming():
        for each, outcome in ((command, "applied"), (dying, "dead_lettered")):
            offset = await bed.send_raw(LANE, b"{", ())
            notice = await bed.notice(LANE, offset)
            letter = DeadLetterId(LANE, notice.data["sequence"])
            record = SourceRecord(b"key", orjson.dumps(each.data), tuple(each.headers.items()), 0)
            await bed.database.execute(
                "UPDATE dead_letters SET record = $3 WHERE lane = $1 AND result_sequence = $2",
                *letter, pack(record),
            )  # fmt: skip
            ended = await redriven_one(redrives, letter)
            assert ended.outcome == outcome
            assert ended.ended is not None
            assert ended.ended.lane == LANE + 1


async def test_redrive__one_at_a_time_noted_first_and_sent_home(
    own_bed: Bed, operators: Operators, redrives: Redrives
) -> None:
    bed = own_bed
    command = create(new_key())._replace(type="candidate.praise.v1")
    elsewhere = (command.lane + 1) % PARTITIONS
    async with bed.consuming():
        (offset,) = await bed.send(command, lane=elsewhere)
        await bed.notice(elsewhere, offset)
        (letter,) = await letters_of(operators, organization_id=command.data["organization_id"])

        class Away:
            async def send(self, _lane: int, _record: SourceRecord) -> int:
                raise RecordNotSent("KafkaConnectionError")

        away = Redrives(operators, Away(), requested_by="ops@night")
        assert (await away.send(letter.id, again=False)).outcome == "send_failed"

        both = await asyncio.gather(
            *(redrives.send(letter.id, again=False) for _ in range(2)), return_exceptions=True
        )
        (sent,) = [each for each in both if isinstance(each, Redriven)]
        (other,) = [each for each in both if isinstance(each, RedriveRefused)]
        assert other.why in ("under_way", "redriven_before")
        with pytest.raises(UnknownLetter):
            await redrives.send(DeadLetterId(0, 999), again=True)
        # What an erasure has emptied is not sent, however often it is asked for.
        lost = await bed.send_raw(LANE, b"{", ())
        erased = DeadLetterId(LANE, (await bed.notice(LANE, lost)).data["sequence"])
        await bed.database.execute(
            "UPDATE dead_letters SET record = $3 WHERE lane = $1 AND result_sequence = $2",
            *erased, pack(SourceRecord(None, None, (("x-erased", b"true"),), 0)),
        )  # fmt: skip
        for _ in range(2):
            with pytest.raises(RedriveRefused) as told:
                await redrives.send(erased, again=False)
            assert told.value.why == "nothing_to_send"
        # Who sent it goes away: whoever comes next notes the end.
        await bed.until(
            lambda: len([each for each in bed.results if "error_code" in each.data]) == 3
        )
        # So does who has gone away before it was sent; but not at once.
        for age in ("1 minute", "1 hour"):
            await bed.database.execute(
                "INSERT INTO redrives (redrive_id, lane, result_sequence, requested_by, again,"
                " requested_at) VALUES (gen_random_uuid(), 0, $1, 'gone', false,"
                f" now() - interval '{age}')", len(age),
            )  # fmt: skip
        await redrives.finish_open()
    gone = await bed.database.fetch(
        "DELETE FROM redrives WHERE requested_by = 'gone' RETURNING outcome, reason"
    )
    assert {tuple(row) for row in gone} == {(None, None), ("send_failed", "interrupted")}
    rows = await bed.database.fetch(
        "SELECT * FROM redrives WHERE (lane, result_sequence) = ($1, $2) ORDER BY requested_at",
        *letter.id,
    )
    assert [row["outcome"] for row in rows] == ["send_failed", "dead_lettered"]
    assert [row["sent_lane"] for row in rows] == [None, command.lane]
    assert rows[1]["redrive_id"] == sent.redrive_id


async def test_retention__forgets_old_letters_but_none_unpublished_or_under_way(
    own_bed: Bed, operators: Operators, redrives: Redrives, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = own_bed
    monkeypatch.setattr("consumer.retention.EXPIRE_EVERY_SECONDS", 0.05)
    monkeypatch.setattr("consumer.retention.EXPIRED_LETTERS_MAX", 1)
    async with bed.consuming():
        offsets = [await bed.send_raw(LANE, b"{", ()) for _ in range(6)]
        await bed.notice(LANE, offsets[-1])
    ids = [each.id for each in await letters_of(operators)]
    await redrives.send(ids[0], again=False)
    await bed.database.execute(
        "UPDATE dead_letters SET recorded_at = now() - interval '91 days' "
        "WHERE result_sequence < $1", ids[5].result_sequence,
    )  # fmt: skip
    await bed.database.execute(
        "UPDATE lanes SET published_result_sequence = $1 WHERE lane = $2",
        ids[3].result_sequence, LANE,
    )  # fmt: skip
    expire = "SELECT expire_dead_letters(now() - interval '90 days', 100)"
    assert await bed.database.fetchval(expire) == 3
    assert {each.id for each in await letters_of(operators)} == {ids[0], ids[4], ids[5]}
    async with bed.consuming():
        await bed.until(lambda: len(bed.dead_letters) == 7)  # the redriven one died again
        await redrives.finish_open()
        async with asyncio.timeout(WITHIN_SECONDS):
            while len(await letters_of(operators)) > 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert ids[5] in {each.id for each in await letters_of(operators)}


Funnel = Callable[..., Awaitable[tuple[int, list[str], str]]]


@pytest.fixture
def funnel(own_bed: Bed, tmp_path: Path) -> Funnel:
    """`funnel dead-letters …`: exit code, lines and error output."""

    async def run(*arguments: str) -> tuple[int, list[str], str]:
        process = await asyncio.create_subprocess_exec(
            FUNNEL, "dead-letters", *arguments, cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={
                "DATABASE_URL": own_bed.database_url,
                "KAFKA_BOOTSTRAP_SERVERS": str(own_bed.kafka["bootstrap_servers"]),
                "FUNNEL_TOPIC_PREFIX": own_bed.topics.prefix,
            },
        )  # fmt: skip
        out, errors = await process.communicate()
        return process.returncode or 0, out.decode().splitlines(), errors.decode()

    return run


async def test_command_line__list_show_and_redrive(
    own_bed: Bed, operators: Operators, funnel: Funnel
) -> None:
    bed = own_bed
    async with bed.consuming():
        commands = await refused(bed, 2)
        await bed.notice(LANE, await bed.send_raw(LANE, b"{secret", {"who": b"secret"}))
        first, _, broken = await letters_of(operators)

        code, lines, errors = await funnel("list", "--json", "--limit", "2")
        assert (code, len(lines)) == (0, 2), errors
        listed = orjson.loads(lines[0])
        assert (listed["id"], listed["error_code"]) == (str(first.id), "apply_failed")
        more = errors.split()[-1]
        code, lines, _ = await funnel("list", "--after", more, "--lane", str(LANE))
        assert code == 0
        assert [line.split()[0] for line in lines] == [str(broken.id)]

        code, lines, _ = await funnel("show", str(first.id), "--json")
        shown = orjson.loads(lines[0])
        told = {shown["command"]["id"]: shown["value"]["candidate_id"]}
        assert told.items() <= {each.id: each.data["candidate_id"] for each in commands}.items()
        assert "Refused" not in lines[0]
        assert "ada@example.com" not in lines[0]

        code, lines, _ = await funnel("redrive", "--all", "--code", "apply_failed", "--dry-run")
        assert (code, lines[0].split()[:2]) == (0, ["2", "letters,"])
        code, lines, errors = await funnel("redrive", str(broken.id), "0-999", "--json")
        assert code == 65, errors
        told = orjson.loads(lines[0])
        assert (told["outcomes"], told["skipped"]) == ({"dead_lettered": 1}, {"unknown": 1})
        await bed.database.execute(ACCEPT)
        code, lines, errors = await funnel("redrive", "--all", "--code", "apply_failed")
        assert (code, lines[-1]) == (0, "2 sent: 2 applied"), errors
        redriven = await letters_of(operators, redriven=True)
        assert [each.outcome for each in redriven].count("applied") == 2


async def test_command_line__stops_in_its_canary_and_sends_again_when_told(
    own_bed: Bed, operators: Operators, funnel: Funnel
) -> None:
    """The first letter is good by now, the ten behind it are not: the others are not tried."""
    bed = own_bed
    async with bed.consuming():
        await bed.database.execute(
            "ALTER TABLE candidates ADD CONSTRAINT not_bad CHECK (last_name <> 'Bad')"
        )
        await refused(bed, 1)
        for _ in range(14):
            bad = create(new_key(), last_name="Bad")
            await bed.notice(bad.lane, (await bed.send(bad))[0])
        await bed.database.execute(ACCEPT)

        arguments = ("redrive", "--all", "--code", "apply_failed")
        code, lines, errors = await funnel(*arguments, "--json")
        told = orjson.loads(lines[0])
        assert code == 65, errors
        assert told["outcomes"] == {"applied": 1, "dead_lettered": 10}
        assert told["stopped"] == "10 of 11 failed, more than 10%"

        # What has died of a redrive is sent once more only when told to.
        died = await letters_of(operators, redriven=True)
        dead = next(each for each in died if each.outcome == "dead_lettered")
        code, lines, errors = await funnel("redrive", str(dead.id))
        assert (code, lines[0]) == (65, "0 sent"), errors
        assert "1 not sent: redriven_before (--again sends them once more)" in lines
        await bed.database.execute("ALTER TABLE candidates DROP CONSTRAINT not_bad")
        code, lines, errors = await funnel(*arguments, "--json")
        assert code == 0, errors
        told = orjson.loads(lines[0])
        assert (told["outcomes"], told["skipped"]) == ({"applied": 4}, {"redriven_before": 10})
        code, lines, errors = await funnel(*arguments, "--again", "--json")
        assert code == 0, errors
        assert orjson.loads(lines[0])["outcomes"] == {"duplicate": 15, "applied": 10}
    assert await bed.database.fetchval("SELECT count(*) FROM candidates") == 15


async def test_command_line__sends_no_faster_than_its_rate_under_a_bar(
    own_bed: Bed, operators: Operators, tmp_path: Path
) -> None:
    bed, rate, total = own_bed, 20, 12
    async with bed.consuming():
        await refused(bed, total)
        await bed.database.execute(ACCEPT)
        code, shown = await on_a_terminal(
            bed, tmp_path, "redrive", "--all", "--rate", str(rate), "--json"
        )
        assert code == 0, shown
    assert f"{total}/{total}" in shown
    assert "redrive" in shown
    assert "/s" in shown
    gaps = await bed.database.fetch(
        "SELECT extract(epoch FROM requested_at - lag(requested_at) OVER (ORDER BY requested_at))"
        " AS seconds FROM redrives ORDER BY requested_at OFFSET 1"
    )
    assert len(gaps) == total - 1
    assert min(float(row["seconds"]) for row in gaps) > 0.9 / rate


async def on_a_terminal(bed: Bed, folder: Path, *arguments: str) -> tuple[int, str]:
    """`funnel dead-letters …` with a terminal for its error output: exit code, what that showed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    process = await asyncio.create_subprocess_exec(
        FUNNEL, "dead-letters", *arguments, cwd=folder,
        stdout=asyncio.subprocess.DEVNULL, stderr=theirs,
        env={
            "DATABASE_URL": bed.database_url,
            "KAFKA_BOOTSTRAP_SERVERS": str(bed.kafka["bootstrap_servers"]),
            "FUNNEL_TOPIC_PREFIX": bed.topics.prefix,
            "TERM": "xterm",
        },
    )  # fmt: skip
    os.close(theirs)
    shown = asyncio.to_thread(_read_all, ours)
    try:
        told, code = await asyncio.gather(shown, process.wait())
    finally:
        os.close(ours)
    return code, told.decode(errors="replace")


def _read_all(terminal: int) -> bytes:
    told = b""
    while True:
        try:
            told += os.read(terminal, 65536)
        except OSError:  # the other end is closed: this is how a terminal says it
            return told
