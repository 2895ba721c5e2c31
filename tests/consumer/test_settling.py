"""Every outcome end to end: the result, the change event, the row, and the numbers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.consumer.conftest import (
    PARTITIONS,
    PERSON,
    Bed,
    Command,
    Json,
    Key,
    create,
    new_key,
    update,
)

FULL: Json = {
    **PERSON,
    "email": "Ada.L@EXAMPLE.com",
    "phone": "+44 20 7946 0958",
    "status": "screening",
    "pipeline_stage": "tech.round_2",
    "rating": 4,
    "source": "fair",
    "tags": ["a,b", 'c"d\\', "{e}", "NULL", "ä\n", " "],
    "attributes": {"z": 1, "a": {"n": [1.5, None, True, 1e-7, -(2**63), 2**63 - 1]}, "": "\u2028"},
}


async def test_settling__create_and_update_as_result_change_and_row(bed: Bed) -> None:
    key = new_key()
    changes = {"rating": None, "tags": {"remove": ["NULL"]}, "attributes": {"z": None, "b": "x"}}
    commands = create(key, **FULL), update(key, changes, expected_version=1)
    first, second = await bed.settle(*commands)
    for result, command in zip((first, second), commands, strict=True):
        ids = {"organization_id": key[0], "candidate_id": key[1]}
        told = {"command_id": command.id, "command_source": "/tests", "command_type": command.type}
        assert result.items() >= {**ids, **told, "outcome": "applied"}.items()
        assert datetime.now(UTC) - datetime.fromisoformat(result["settled_at"]) < timedelta(
            minutes=1
        )
    assert (first["version"], second["version"], second["previous_version"]) == (1, 2, 1)

    await bed.until(lambda: len(bed.changes_of(key)) == 2)
    created, updated = bed.changes_of(key)
    assert (created.type, updated.type) == ("candidate.created.v1", "candidate.updated.v1")
    assert {created.partition, updated.partition} == {commands[0].lane}
    normal = FULL | {"email": "Ada.L@example.com", "phone": "+442079460958"}
    assert created.data["state"].items() >= normal.items()
    assert {name: change["to"] for name, change in created.data["changed"].items()} == normal
    attributes = {"a": FULL["attributes"]["a"], "": "\u2028", "b": "x"}
    assert updated.data["changed"] == {
        "rating": {"from": 4, "to": None},
        "tags": {"from": FULL["tags"], "to": ["a,b", 'c"d\\', "{e}", "ä\n", " "]},
        "attributes": {"from": FULL["attributes"], "to": attributes},
    }
    for change, command in zip((created, updated), commands, strict=True):
        data = change.data
        assert data["version"] == data["state"]["version"] == (data["previous_version"] or 0) + 1
        told = {"command_id": command.id, "command_source": "/tests", "actor": "user:1"}
        assert data.items() >= told.items()
        assert change.headers["ce_correlationid"] == command.id.encode()
    assert updated.data["state"]["created_at"] == created.data["recorded_at"]
    assert updated.data["state"]["updated_at"] == updated.data["recorded_at"]
    assert await bed.state(key) == updated.data["state"]


def conflict(*fields: str) -> Json:
    told = {"outcome": "rejected", "reason": "version_conflict", "current_version": 3}
    return told | {"fields": list(fields)}


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (lambda k: update(k, {"rating": 5}), {"outcome": "applied", "version": 4}),
        (
            lambda k: update(k, {"rating": 5}, expected_version=2, on_conflict="overwrite"),
            {"outcome": "applied", "version": 4},
        ),
        (
            lambda k: update(k, {"rating": 5}, expected_version=2, on_conflict="merge"),
            {"outcome": "merged", "version": 4, "previous_version": 3},
        ),
        (
            lambda k: update(
                k, {"status": "offer", "rating": 5}, expected_version=1, on_conflict="merge"
            ),
            conflict("status", "rating"),
        ),
        (
            lambda k: update(
                k, {"status": "offer", "phone": None}, expected_version=2, on_conflict="merge"
            ),
            conflict("status"),
        ),
        (lambda k: update(k, {"rating": 5}, expected_version=2), conflict("rating")),
        (lambda k: update(k, {"rating": 5}, expected_version=4), conflict("rating")),
        (lambda k: update(k, {"status": "hired"}), {"outcome": "unchanged", "version": 3}),
        (create, {"outcome": "rejected", "reason": "already_exists"}),
        (
            lambda k: update((k[0], new_key()[1]), {"rating": 5}),
            {"outcome": "rejected", "reason": "not_found"},
        ),
        (
            lambda k: create((k[0], new_key()[1]), id="00000000-0000-7000-8000-000000000001"),
            {"outcome": "rejected", "reason": "too_old"},
        ),
    ],
)
async def test_settling__each_outcome(
    bed: Bed, command: Callable[[Key], Command], answer: Json
) -> None:
    key = new_key()
    await bed.settle(create(key), update(key, {"rating": 1}), update(key, {"status": "hired"}))
    [result] = await bed.settle(command(key))
    assert {name: result.get(name) for name in answer} == answer
    state = await bed.state(key)
    assert state is not None
    assert state["version"] == answer.get("version", 3)
    await bed.until(lambda: len(bed.changes_of(key)) == state["version"])


async def test_settling__invalid_with_pointers(bed: Bed) -> None:
    key = new_key()
    bad = update(key, {"rating": 9, "secret_name": "x", "email": "secret"}, expected_version=0)
    _, result = await bed.settle(create(key), bad)
    assert (result["outcome"], result["reason"]) == ("rejected", "invalid")
    assert {error["pointer"] for error in result["errors"]} == {
        "/changes/rating",
        "/changes/secret_name",
        "/changes/email",
        "/expected_version",
    }
    assert all(error.keys() == {"pointer", "code", "detail"} for error in result["errors"])


async def test_settling__duplicate_and_id_reused(bed: Bed) -> None:
    key = new_key()
    command = create(key, id="same")
    other = update(key, {"rating": 1}, id="same")
    first, again, reused = await bed.settle(command, command, other)
    original = {"outcome": "applied", "version": 1}
    original["id"] = f"{bed.topics.results}/{command.lane}/{first['sequence']}"
    assert (again["outcome"], again["original"]) == ("duplicate", original)
    assert (reused["outcome"], reused["reason"]) == ("rejected", "id_reused")
    # Now the first is in the journal, not in the same batch.
    again, reused = await bed.settle(command, other)
    assert (again["outcome"], again["original"]) == ("duplicate", original)
    assert reused["reason"] == "id_reused"
    assert len(bed.changes_of(key)) == 1


async def test_settling__ids_in_any_case_are_one_organization(bed: Bed) -> None:
    key = new_key()
    command = update(key, {"rating": 2})
    loud = command._replace(data=command.data | {"organization_id": key[0].upper()})
    _, result = await bed.settle(create(key), loud)
    assert (result["outcome"], result["organization_id"]) == ("applied", key[0])


async def test_settling__the_organization_is_part_of_the_candidates_key(bed: Bed) -> None:
    key = new_key()
    other = new_key()[0], key[1]
    results = await bed.settle(create(key), update(other, {"rating": 1}), create(other))
    assert [result.get("reason") for result in results] == [None, "not_found", None]


@pytest.mark.parametrize("actor", ["Jean\u00a0Dupont", "\u3000", "a\nb", "\u202e", "x" * 200])
async def test_settling__the_actor_is_kept_as_sent(bed: Bed, actor: str) -> None:
    key = new_key()
    command = create(key)
    await bed.settle(command._replace(data=command.data | {"actor": actor}))
    await bed.until(lambda: bool(bed.changes_of(key)))
    assert bed.changes_of(key)[0].data["actor"] == actor


async def test_settling__hot_candidate_in_large_batches(own_bed: Bed) -> None:
    """Sent before the consumer starts, so that batches are as large as they get."""
    key, total = new_key(), 1500
    commands = [create(key), *(update(key, {"rating": n % 6}) for n in range(total))]
    merges = [
        update(key, {"phone": "+442079460958"}, expected_version=1, on_conflict="merge"),
        update(key, {"source": "x"}, expected_version=total, on_conflict="merge"),
        update(key, {"rating": 5}, expected_version=total, on_conflict="merge"),
    ]
    offsets = await own_bed.send(*commands, *merges)
    async with own_bed.consuming():
        await own_bed.until(lambda: len(own_bed.results) == len(offsets))
        await own_bed.until(lambda: len(own_bed.changes) == total + 2)
    versions = [event.data["version"] for event in own_bed.changes]
    assert versions == list(range(1, total + 3))
    for before, after in zip(own_bed.changes, own_bed.changes[1:], strict=False):
        assert after.data["previous_version"] == before.data["version"]
        for name, change in after.data["changed"].items():
            assert change["from"] == before.data["state"][name]
            assert change["to"] == after.data["state"][name]
    assert await own_bed.state(key) == own_bed.changes[-1].data["state"]
    answers = [event.data for event in own_bed.results[-3:]]
    assert [answer["outcome"] for answer in answers] == ["rejected", "merged", "rejected"]
    assert [answer.get("fields") for answer in answers] == [["phone"], None, ["rating"]]


async def test_settling__merge_reads_the_journal_of_earlier_batches(bed: Bed) -> None:
    key = new_key()
    await bed.settle(create(key))
    for rating in range(1, 4):
        await bed.settle(update(key, {"rating": rating}))
    results = await bed.settle(
        update(key, {"source": "x"}, expected_version=2, on_conflict="merge"),
        update(key, {"source": "y"}, expected_version=3, on_conflict="merge"),
        update(key, {"rating": 5}, expected_version=3, on_conflict="merge"),
        update(key, {"status": "offer", "tags": ["t"]}, expected_version=1, on_conflict="merge"),
    )
    assert [result["outcome"] for result in results] == ["merged", "rejected", "rejected", "merged"]
    assert [result.get("fields") for result in results] == [None, ["source"], ["rating"], None]


async def test_settling__across_a_restart(own_bed: Bed) -> None:
    """A second consumer answers as the first did, and numbers go on."""
    key = new_key()
    old = [create(key), update(key, {"rating": 2}, expected_version=1)]
    async with own_bed.consuming():
        settled = await own_bed.settle(*old)
    lane = old[0].lane
    position = TopicPartition(own_bed.topics.commands, lane)
    group = AIOKafkaConsumer(**own_bed.kafka, group_id=own_bed.topics.group)
    await group.start()
    assert await group.committed(position) == 2
    await group.stop()
    between = update(key, {"rating": 3}, expected_version=2)
    await own_bed.send(old[1], between)
    async with own_bed.consuming():
        again = [await own_bed.result(old[1], after=1), await own_bed.result(between)]
        more = await own_bed.settle(old[0], update(key, {"rating": 4}, expected_version=3))
    assert [event.data["outcome"] for event in again] == ["duplicate", "applied"]
    assert again[0].data["original"]["id"] == (
        f"{own_bed.topics.results}/{lane}/{settled[1]['sequence']}"
    )
    assert [result["outcome"] for result in more] == ["duplicate", "applied"]
    assert [event.data["sequence"] for event in own_bed.results] == [1, 2, 3, 4, 5, 6]
    assert [event.data["version"] for event in own_bed.changes_of(key)] == [1, 2, 3, 4]


async def test_settling__a_restart_emits_nothing(own_bed: Bed) -> None:
    key, last = new_key(), new_key()
    async with own_bed.consuming():
        await own_bed.settle(create(key))
    async with own_bed.consuming():
        pass
    async with own_bed.consuming():
        await own_bed.settle(create(last))
    assert len(own_bed.results) == len(own_bed.changes) == 2


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
async def test_settling__compressed_producers(bed: Bed, codec: str) -> None:
    key = new_key()
    commands = [create(key), *(update(key, {"source": f"{codec}-{n}"}) for n in range(5))]
    async with AIOKafkaProducer(**bed.kafka, compression_type=codec, linger_ms=50) as producer:
        for command in commands:
            await producer.send(
                bed.topics.commands,
                orjson.dumps(command.data),
                key=key[0].encode(),
                headers=list(command.headers.items()),
            )
    await bed.until(lambda: len(bed.changes_of(key)) == 6)
    assert {event.partition for event in bed.changes_of(key)} == {commands[0].lane}


async def test_settling__upstream_transactions(own_bed: Bed) -> None:
    """What was aborted leaves nothing, no hole either; control records are no lag."""
    key = new_key()
    lane = create(key).lane
    batches = [
        (True, [create(key), update(key, {"rating": 1})]),
        (False, [update(key, {"rating": 2}), update(key, {"status": "hired"})]),
        (True, [update(key, {"rating": 3}, expected_version=2)]),
        (False, [update(key, {"rating": 4}) for _ in range(20)]),
    ]
    async with (
        own_bed.consuming(),
        AIOKafkaProducer(
            **own_bed.kafka, transactional_id=f"{own_bed.topics.commands}.upstream"
        ) as producer,
    ):
        for committed, commands in batches:
            await producer.begin_transaction()
            for command in commands:
                await producer.send_and_wait(
                    own_bed.topics.commands,
                    orjson.dumps(command.data),
                    partition=lane,
                    headers=list(command.headers.items()),
                )
            if committed:
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()
        await own_bed.until(lambda: len(own_bed.results) == 3)
        await _lag_zero(own_bed, lane)
    async with own_bed.consuming():
        [last] = await own_bed.settle(update(key, {"rating": 5}, expected_version=3))
    assert last["outcome"] == "applied"
    assert [event.data["version"] for event in own_bed.changes] == [1, 2, 3, 4]


async def _lag_zero(bed: Bed, lane: int) -> None:
    """No event tells when a gauge moves."""
    gauge = "funnel_lag_records", {"lane": str(lane)}
    async with asyncio.timeout(10):
        while bed.registry.get_sample_value(*gauge) != 0:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_settling__what_the_database_refuses(own_bed: Bed) -> None:
    """Valid, but PostgreSQL does not take it: that one alone is set aside, not settled."""
    key, other = new_key(lane=1), new_key(lane=1)
    refuse = "ALTER TABLE candidates ADD CONSTRAINT c CHECK (source <> 'poison')"
    await own_bed.database.execute(refuse)
    poison = [update(key, {"source": "poison"}), create(new_key(lane=1), source="poison")]
    good = [create(key), update(key, {"rating": 1}), create(other), update(other, {"rating": 2})]
    batch = [good[0], poison[0], good[1], good[2], poison[1], good[3]]
    offsets = await own_bed.send(*batch)
    async with own_bed.consuming():
        for command in good:
            assert (await own_bed.result(command)).data["outcome"] == "applied"
        for command in poison:
            offset = offsets[batch.index(command)]
            notice = await own_bed.notice(1, offset)
            assert notice.type == "candidate.command.dead-lettered.v1"
            assert notice.data["error_code"] == "apply_failed"
            assert notice.data["command_id"] == command.id
            assert notice.key == command.data["organization_id"]
            letter = await own_bed.dead_letter(1, offset)
            assert orjson.loads(letter.value) == command.data
            assert b"poison" not in dict(letter.headers)["x-error-detail"]
            assert own_bed.results_of(command) == []
        await own_bed.database.execute("ALTER TABLE candidates DROP CONSTRAINT c")
        redriven = await own_bed.settle(*poison)
        assert [result["outcome"] for result in redriven] == ["applied", "applied"]
    order = [event.data.get("command_id") for event in own_bed.results[:6]]
    assert order == [command.id for command in batch]


async def test_settling__deduplication_forgets_what_is_older_than_its_horizon(
    own_bed: Bed,
) -> None:
    """A UUIDv7 tells its age, so it is refused; other ids may be used again."""
    key = new_key()
    seconds = int(datetime.now(UTC).timestamp()) - 3600
    old = str(UUID(int=seconds * 1000 << 80 | 7 << 76 | 2 << 62))
    async with own_bed.consuming(deduplication=timedelta(hours=2)):
        [first] = await own_bed.settle(create(key, id=old))
    async with own_bed.consuming(deduplication=timedelta(minutes=30)):
        [second] = await own_bed.settle(create(key, id=old))
    assert (first["outcome"], second["reason"]) == ("applied", "too_old")


async def test_settling__the_consumers_role_cannot_change_the_journal(bed: Bed) -> None:
    connection = await asyncpg.connect(
        bed.database_url, server_settings={"role": "funnel_consumer"}
    )
    try:
        for statement in ("DELETE FROM journal", "UPDATE journal SET outcome = 'x'"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_settling__every_lane_settles(bed: Bed) -> None:
    keys = [new_key(lane) for lane in range(PARTITIONS)]
    results = await bed.settle(*(create(key) for key in keys))
    assert [result["outcome"] for result in results] == ["applied"] * PARTITIONS
    assert _any(bed, keys) == list(range(PARTITIONS))


def _any(bed: Bed, keys: list[Key]) -> list[Any]:
    organizations = [key[0] for key in keys]
    lanes = {e.key: e.partition for e in bed.results if e.key in organizations}
    return [lanes[organization] for organization in organizations]
