"""Erasure end to end: what is gone, what stays, and that nothing readable is left anywhere."""

import asyncio
from datetime import timedelta

import asyncpg
import orjson
import pytest

from audit.outputs import Output
from audit.seal import seal
from audit.verify import verify
from contract.dead_letters import was_erased
from contract.record import unpack
from funnel.cli.erasing import EraseRun
from funnel.exits import BAD_DATA
from producer.client import OutgoingCommand
from stack.postgres import postgres_programs
from tests.consumer.bulk import bulk, ended
from tests.consumer.conftest import Bed, Event, Json, Key, create, erase, new_key, update

NAME, EMAIL, PHONE = "Zephyrine", "zephyrine.q@example.org", "+442079460123"
PERSON = {"first_name": NAME, "last_name": "Quillfeather", "email": EMAIL, "phone": PHONE}
TRACES = (NAME.lower(), "quillfeather", "79460123", "shoesize", "left-handed")


async def dump(database_url: str) -> str:
    """Everything in the database, as pg_dump writes it."""
    process = await asyncio.create_subprocess_exec(
        postgres_programs() / "pg_dump", "--data-only", database_url,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    text, _ = await process.communicate()
    assert process.returncode == 0
    return text.decode()


def traces(text: str) -> list[str]:
    """Which of the person's data is in a text, as it is or in hexadecimal as bytes are dumped."""
    text = text.lower()
    return [each for each in TRACES if each in text or each.encode().hex() in text]


async def erased(bed: Bed, key: Key) -> Event:
    """`candidate.erased.v1` of a candidate, waited for."""
    found: list[Event] = []

    def came() -> bool:
        found[:] = [
            event
            for event in bed.results
            if event.type == "candidate.erased.v1" and event.data["candidate_id"] == key[1]
        ]
        return bool(found)

    await bed.until(came)
    [event] = found
    return event


async def row_of(bed: Bed, key: Key) -> Json:
    row = await bed.database.fetchrow(
        "SELECT * FROM erasures WHERE organization_id = $1 AND candidate_id = $2", *key
    )
    assert row is not None
    return dict(row)


async def test_erase__leaves_no_trace_and_the_id_is_blocked(own_bed: Bed) -> None:
    """Of one who is in the state, the journal, on another lane, in bulk work and a dead letter."""
    bed = own_bed
    async with bed.consuming():
        key = new_key(0)
        other = (key[0], new_key()[1])
        first = create(key, **PERSON, attributes={"shoesize": 38})
        await bed.settle(first, lane=1)  # rerouted: its record is in another lane's journal
        await bed.settle(create(other), update(key, {"tags": ["left-handed"]}))
        invalid = update(key, {"attributes": {"shoesize": {"a": {"b": {"c": {"d": {}}}}}}})
        alone = bulk(key[0], {"tags": ["left-handed", "a"]}, candidate_ids=[key[1]])
        dry = bulk(key[0], {"tags": ["x"]}, candidate_ids=[key[1], other[1]], dry_run=True)
        by_name = bulk(key[0], {"rating": 1}, filter={"q": NAME}, dry_run=True)
        refused, changed, tried, begun = await bed.settle(invalid, alone, dry, by_name)
        assert (refused["reason"], changed["outcome"]) == ("invalid", "applied")
        assert len(tried["differences"]) == 2
        await ended(bed, begun["operation_id"])
        letter = orjson.dumps({**first.data, "candidate_id": key[1].upper()})
        unknown = dict(create(key).headers) | {"ce_type": b"candidate.hire.v1"}
        offset = await bed.send_raw(2, letter, unknown)
        await bed.dead_letter(2, offset)
        assert set(traces(await dump(bed.database_url))) == set(TRACES)
        assert await seal(bed.database_url, report=lambda *_: None)

        command = erase(key)
        [result] = await bed.settle(command)
        assert result["outcome"] == "accepted"
        assert (result["version"], result["previous_version"]) == (4, 3)
        assert await bed.state(key) is None
        blocked = [update(key, {"rating": 1}), create(key, **PERSON), erase(key)]
        for answer in await bed.settle(*blocked):
            assert (answer["outcome"], answer["reason"]) == ("rejected", "erased")
        [repeated, again] = await bed.settle(first, command)
        assert (repeated["outcome"], repeated["original"]["version"]) == ("duplicate", 1)
        assert (again["outcome"], again["original"]["outcome"]) == ("duplicate", "accepted")

        done = await erased(bed, key)
        assert done.data["command_id"] == command.id
        # Of six rows before the erasure, its own, and those that are refused until it is done.
        assert done.data["journal_rows"] >= 6
        assert (done.data["operations"], done.data["dead_letters"]) == (3, 1)
        assert traces(await dump(bed.database_url)) == []
        proof = await row_of(bed, key)
        assert (proof["reason"], proof["actor"]) == ("asked for on paper", "user:1")
        assert proof["completed_at"] >= proof["accepted_at"]
        assert await bed.state(other)

        [still] = await bed.settle(bulk(key[0], {"rating": 2}, candidate_ids=[key[1], other[1]]))
        assert still["failed"][0]["reason"] == "not_found"
        tombstone = bed.changes_of(key)[-1]
        assert (tombstone.type, tombstone.data) == ("candidate.erased.v1", {})
        [record] = await bed.database.fetch("SELECT record FROM dead_letters")
        assert was_erased(unpack(record["record"]))
    output = Output(kafka=bed.kafka, topics=bed.topics, event_source="/tests/candidates")
    findings = await verify(
        bed.database_url, deduplication=timedelta(days=35), report=lambda *_: None, output=output,
        chain_heads=(),
    )  # fmt: skip
    assert not findings.listed


async def test_erase__on_the_command_line_waits_until_nothing_is_left(
    bed: Bed, capsys: pytest.CaptureFixture[str]
) -> None:
    key = new_key()
    await bed.settle(create(key, **PERSON))
    run = EraseRun(kafka=bed.kafka, topics=bed.topics, source="/cli", json=True)
    command = OutgoingCommand.erase(
        organization_id=key[0], candidate_id=key[1], actor="ann", reason="asked"
    )
    for outcome in ("accepted", "duplicate"):
        assert await run(command, seconds_max=30, completed=True) == 0
        lines = capsys.readouterr().out.splitlines()  # the consumer's log is among them
        result, told = [orjson.loads(line) for line in lines if line.startswith("{")]
        assert result["outcome"] == outcome
        assert (told["candidate_id"], told["journal_rows"]) == (key[1], 2)
    nobody = OutgoingCommand.erase(
        organization_id=key[0], candidate_id=new_key()[1], actor="ann", reason="asked"
    )
    assert await run(nobody, seconds_max=30, completed=True) == BAD_DATA


async def test_erase__of_a_candidate_that_never_was_is_not_found(bed: Bed) -> None:
    [result] = await bed.settle(erase(new_key()))
    assert (result["outcome"], result["reason"]) == ("rejected", "not_found")


async def test_erase__in_the_batch_that_creates_the_candidate(own_bed: Bed) -> None:
    """Created, erased and sent again before the lane looks: one transaction decides it all."""
    bed, key, other = own_bed, new_key(), new_key()
    commands = [
        create(key, **PERSON), update(key, {"rating": 3}), erase(key), create(key), erase(key),
        create(other),
    ]  # fmt: skip
    await bed.send(*commands)
    async with bed.consuming():
        results = [(await bed.result(command)).data for command in commands]
        await erased(bed, key)
    assert [result["outcome"] for result in results] == [
        "applied", "applied", "accepted", "rejected", "rejected", "applied",
    ]  # fmt: skip
    assert [event.type for event in bed.changes_of(key)] == [
        "candidate.created.v1", "candidate.updated.v1", "candidate.erased.v1",
    ]  # fmt: skip
    assert traces(await dump(bed.database_url)) == []


async def test_erase__puts_its_steps_off_while_a_lane_is_sealed_and_the_lane_goes_on(
    own_bed: Bed,
) -> None:
    bed, key = own_bed, new_key(0)
    sealer = await asyncpg.connect(bed.database_url)
    async with bed.consuming():
        await bed.settle(create(key, **PERSON))
        sealing = sealer.transaction()
        await sealing.start()
        await sealer.execute(  # as a sealer of another lane does, for long
            "SELECT pg_advisory_xact_lock(hashtext('gulf-funnel.journal-seals'), 3)"
        )
        [result] = await bed.settle(erase(key))
        assert result["outcome"] == "accepted"
        for _ in range(5):
            [result] = await bed.settle(create(new_key(0)))
            assert result["outcome"] == "applied"
        row = await row_of(bed, key)
        assert (row["completed_at"], row["journal_rows"]) == (None, 0)
        await sealing.rollback()
        await erased(bed, key)
    await sealer.close()
    assert traces(await dump(bed.database_url)) == []


async def test_erase__a_step_too_slow_as_a_whole_is_divided(own_bed: Bed) -> None:
    """As many rows as a step takes, each so slow that all of them never come to an end."""
    bed, key = own_bed, new_key(0)
    updates = [update(key, {"rating": n % 6}) for n in range(1, 60)]
    await bed.send(create(key, **PERSON), *updates)
    async with bed.consuming():
        for command in updates:
            await bed.result(command)
        await bed.database.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.05); RETURN new; END $$;"
            "CREATE TRIGGER slow BEFORE UPDATE ON journal FOR EACH ROW EXECUTE FUNCTION slow();"
        )
        await bed.settle(erase(key))
        assert (await erased(bed, key)).data["journal_rows"] == 61
    assert traces(await dump(bed.database_url)) == []


async def test_erase__of_what_comes_afterwards_nothing_of_the_person_stays(own_bed: Bed) -> None:
    """Misplaced, invalid, repeated, undecodable: each is answered, and forgotten in time."""
    bed, key = own_bed, new_key(0)
    first = create(key, **PERSON)
    async with bed.consuming():
        await bed.settle(first)
        await bed.settle(erase(key))
        await erased(bed, key)

        invalid = update(key, {"attributes": {"shoesize": {"a": {"b": {"c": {"d": {}}}}}}})
        misplaced = create(key, **PERSON, attributes={"shoesize": 38}), erase(key), invalid
        for command in misplaced:
            command.data["actor"] = NAME
            for lane in (1, 0):
                [result] = await bed.settle(command, lane=lane)
                assert result["outcome"] == ("rejected" if lane else "duplicate")
        assert await bed.state(key) is None
        [repeated] = await bed.settle(first, lane=2)
        assert (repeated["outcome"], repeated["original"]["version"]) == ("duplicate", 1)
        answers = [bed.results_of(command)[0].data for command in misplaced]
        assert {answer["reason"] for answer in answers} == {"erased"}

        letter = orjson.dumps({**first.data, "candidate_id": key[1].upper()})
        unknown = dict(create(key).headers) | {"ce_type": b"candidate.hire.v1"}
        offset = await bed.send_raw(2, letter, unknown)
        await bed.dead_letter(2, offset)
        # A letter is only gone through again when the erasure is asked for once more.
        [result] = await bed.settle(erase(key))
        assert result["reason"] == "erased"
        # Repeated ones are answered from the journal, and looked after by whatever comes next.
        async with asyncio.timeout(60):
            while found := traces(await dump(bed.database_url)):
                assert set(found) <= set(TRACES)
                await asyncio.sleep(0.1)
        told = [event for event in bed.results if event.type == "candidate.erased.v1"]
        assert len(told) == 1
    assert [event.type for event in bed.changes_of(key)] == [
        "candidate.created.v1", "candidate.erased.v1",
    ]  # fmt: skip
    assert await seal(bed.database_url, report=lambda *_: None)
    findings = await verify(
        bed.database_url, deduplication=timedelta(days=35), report=lambda *_: None, chain_heads=()
    )
    assert not findings.listed
