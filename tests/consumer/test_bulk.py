"""Bulk commands through a running consumer: inline, large, by filter, steered, retried, refused."""

import asyncio
import itertools
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.identity import Identity, operation_id_of
from domain.limits import BULK_CHUNK_ITEMS_BESIDE
from tests.consumer.bulk import (
    COMPLETED,
    PROGRESSED,
    assert_agrees,
    bulk,
    control,
    counts,
    ended,
    news_of,
    people,
)
from tests.consumer.conftest import Bed, Command, Json, Key, create, new_key, update

CHUNK = 40


def operation_of(command: Command) -> str:
    identity = Identity(command.data["organization_id"], command.source, command.id)
    return operation_id_of(identity.key)


async def test_inline__accounts_for_every_item(bed: Bed) -> None:
    keys = await people(bed, 5, status="contacted")
    [organization_id, *ids] = [keys[0][0], *(key[1] for key in keys)]
    await bed.settle(update(keys[1], {"rating": 1}), update(keys[2], {"status": "offer"}))
    stranger, elsewhere = str(uuid4()), (await people(bed, 1))[0][1]
    command = bulk(
        organization_id,
        {"status": "offer", "tags": {"add": ["moved"]}},
        candidate_ids=[*ids, ids[0].upper(), stranger, elsewhere],
        expected_versions={ids[1]: 1, ids[3]: 1},
    )
    [result] = await bed.settle(command)
    assert (result["outcome"], result["operation_id"]) == ("applied", operation_of(command))
    assert result["counts"] == counts(7, applied=4, conflict=1, not_found=2)
    assert result["failed"] == [
        {
            "candidate_id": ids[1],
            "reason": "version_conflict",
            "current_version": 2,
            "fields": ["status", "tags"],
        },
        {"candidate_id": stranger, "reason": "not_found"},
        {"candidate_id": elsewhere, "reason": "not_found"},
    ]
    await assert_agrees(bed, result["operation_id"], result["counts"])
    versions = [(await bed.state(key) or {})["version"] for key in keys]
    assert versions == [2, 2, 3, 2, 2]
    change = bed.changes_of(keys[0])[-1]
    assert change.data["state"] == await bed.state(keys[0])
    assert change.headers["ce_correlationid"] == command.id.encode()
    assert change.data["changed"] == {
        "status": {"from": "contacted", "to": "offer"},
        "tags": {"from": [], "to": ["moved"]},
    }
    again, unchanged, closed = await bed.settle(
        command,
        bulk(organization_id, {"status": "offer"}, candidate_ids=[ids[0], ids[2]]),
        control(organization_id, result["operation_id"], "pause"),
    )
    assert (again["outcome"], again["original"]["outcome"]) == ("duplicate", "applied")
    assert (unchanged["outcome"], unchanged["counts"]) == ("unchanged", counts(2, unchanged=2))
    assert (closed["outcome"], closed["reason"]) == ("rejected", "operation_closed")


async def test_inline__dry_run_touches_nothing(bed: Bed) -> None:
    keys = await people(bed, 130)
    command = bulk(keys[0][0], {"rating": 3}, candidate_ids=[key[1] for key in keys], dry_run=True)
    [result] = await bed.settle(command)
    assert (result["outcome"], result["counts"]) == ("unchanged", counts(130, applied=130))
    assert len(result["differences"]) == 100
    assert result["differences"][0] == {
        "candidate_id": keys[0][1],
        "version": 1,
        "changed": {"rating": {"from": None, "to": 3}},
    }
    await assert_agrees(bed, result["operation_id"], result["counts"])
    assert {(await bed.state(key) or {})["version"] for key in keys[:5]} == {1}


STRANGERS = [str(UUID(int=number)) for number in range(20_001)]
BAD: list[tuple[Json, str, str]] = [
    ({"candidate_ids": []}, "/candidate_ids", "too_short"),
    ({"candidate_ids": STRANGERS}, "/candidate_ids", "too_long"),
    ({"candidate_ids": ["x"]}, "/candidate_ids/0", "malformed"),
    ({"candidate_ids": "x"}, "/candidate_ids", "wrong_type"),
    ({}, "", "missing"),
    ({"candidate_ids": STRANGERS[:1], "filter": {"status": "new"}}, "", "malformed"),
    ({"filter": {}}, "/filter", "too_short"),
    ({"filter": {"stage": "a"}}, "/filter/stage", "unknown_field"),
    ({"filter": {"rating_min": "5"}}, "/filter/rating_min", "wrong_type"),
    ({"filter": {"updated_since": "yesterday"}}, "/filter/updated_since", "malformed"),
    ({"filter": {"status": "new"}, "dry_run": 1}, "/dry_run", "wrong_type"),
    (
        {"filter": {"status": "new"}, "changes": {"email": "a@b.co"}},
        "/changes/email",
        "unknown_field",
    ),
    ({"filter": {"status": "new"}, "changes": {"rating": 9}}, "/changes/rating", "out_of_range"),
    ({"filter": {"status": "new"}, "changes": {"rating": "4"}}, "/changes/rating", "wrong_type"),
    ({"filter": {"status": "new"}, "changes": {}}, "/changes", "too_short"),
    ({"filter": {"status": "new"}, "height": 4}, "/height", "unknown_field"),
    ({"candidate_ids": STRANGERS[:1], "expected_versions": {STRANGERS[1]: 1}}, "", "malformed"),
]


@pytest.mark.parametrize(("fields", "pointer", "code"), BAD, ids=lambda each: str(each)[:40])
async def test_bad_input__is_answered(bed: Bed, fields: Json, pointer: str, code: str) -> None:
    changes = fields.get("changes", {"rating": 1})
    command = bulk(str(uuid4()), changes, **{k: v for k, v in fields.items() if k != "changes"})
    [result] = await bed.settle(command)
    assert (result["outcome"], result["reason"]) == ("rejected", "invalid")
    assert [(e["pointer"], e["code"]) for e in result["errors"]] == [(pointer, code)]


async def test_control__of_nothing_is_closed(bed: Bed) -> None:
    organization_id, operation_id = new_key()
    for action in ("pause", "resume", "cancel", "retry_failed"):
        [result] = await bed.settle(control(organization_id, operation_id, action))
        assert (result["outcome"], result["reason"]) == ("rejected", "operation_closed")
        assert result["operation_id"] == operation_id
    [result] = await bed.settle(control(organization_id, operation_id, "stop"))
    assert (result["reason"], result["errors"][0]["pointer"]) == ("invalid", "/action")


async def test_large__by_filter_steered_and_retried(own_bed: Bed) -> None:
    bed = own_bed
    async with bed.consuming(chunk_items=CHUNK):
        keys = await people(bed, 150, lane=0, pipeline_stage="a.b", tags=["x"])
        others = await people(bed, 50, lane=0, pipeline_stage="ab")
        organization_id = keys[0][0]
        everybody = {"pipeline_stage": "a", "tag": ["x"], "attribute.none": "1"}
        nobody = bulk(organization_id, {"rating": 1}, filter=everybody)
        [accepted] = await bed.settle(nobody)
        assert accepted["outcome"] == "accepted"
        assert (await ended(bed, accepted["operation_id"]))["counts"] == counts(0)
        assert [e.type for e in news_of(bed, accepted["operation_id"])][:-1] == []

        # A single command before it and one behind it, in the order in which they were sent.
        before = update(keys[0], {"tags": []})
        command = bulk(
            organization_id,
            {"rating": 2},
            filter={"pipeline_stage": "a", "tag": "x", "q": "lOVE"},
            expected_versions={keys[1][1]: 7},
        )
        behind = update(keys[0], {"rating": 5})
        _, accepted, _ = await bed.settle(before, command, behind)
        operation_id = accepted["operation_id"]
        assert operation_id == operation_of(command)
        completed = await ended(bed, operation_id)
        assert completed["counts"] == counts(149, applied=148, conflict=1)
        assert completed["status"] == "completed"
        assert len([e for e in news_of(bed, operation_id) if e.type == PROGRESSED]) == 4
        assert (await bed.state(others[0]) or {})["rating"] is None

        [retried] = await bed.settle(control(organization_id, operation_id, "retry_failed"))
        assert retried["outcome"] == "accepted"
        assert retried["operation_id"] != operation_id
        assert (await ended(bed, retried["operation_id"]))["counts"] == counts(1, applied=1)
        parent = await bed.database.fetchval(
            "SELECT parent_id FROM bulk_operations WHERE operation_id = $1", retried["operation_id"]
        )
        assert str(parent) == operation_id
        [nothing] = await bed.settle(
            control(organization_id, retried["operation_id"], "retry_failed")
        )
        assert nothing["outcome"] == "unchanged"

        dry = bulk(organization_id, {"rating": 0}, filter={"rating_min": 2}, dry_run=True)
        [accepted] = await bed.settle(dry)
        completed = await ended(bed, accepted["operation_id"])
        assert completed["counts"] == counts(150, applied=150)
        assert len(await differences(bed, accepted["operation_id"])) == 100
        assert (await bed.state(keys[5]) or {})["rating"] == 2


async def test_large__sees_what_came_between_two_chunks(own_bed: Bed) -> None:
    bed, chunk = own_bed, 5
    chunks: list[list[Key]] = []
    sending: list[asyncio.Task[list[int]]] = []
    sent: list[Command] = []
    decided = itertools.count(1)

    def hook(step: str) -> None:
        # After so many quiet chunks that the lane reads ahead again.
        if step != "after_chunk_decide" or not chunks or (number := next(decided)) % 20:
            return
        next_ones = itertools.chain(*chunks[number : number + 3])
        singles = [update(key, {"rating": 2}) for key in next_ones]
        sent.extend(singles)
        sending.append(asyncio.create_task(bed.send(*singles)))

    async with bed.consuming(chunk_items=chunk, hook=hook):
        keys = await people(bed, 600, lane=0, rating=1)
        chunks += (keys[first : first + chunk] for first in range(0, len(keys), chunk))
        [accepted] = await bed.settle(bulk(keys[0][0], {"rating": 1}, filter={"rating_min": 1}))
        completed = await ended(bed, accepted["operation_id"])
        for single in sent:
            await bed.result(single)
    counted = completed["counts"]
    assert counted["applied"] + counted["unchanged"] == counted["total"] == len(keys)
    # An item is unchanged only if the candidate's own command was settled behind its chunk.
    rows = await bed.database.fetch(_CHUNK_AND_SINGLE, accepted["operation_id"], chunk)
    assert any(row["single_first"] for row in rows)
    assert all((row["outcome"] == "applied") == row["single_first"] for row in rows)


_CHUNK_AND_SINGLE = """
WITH chunks AS (
    SELECT row_number() OVER (ORDER BY journal_sequence) - 1 AS n, journal_sequence
    FROM journal WHERE operation_id = $1 AND kind = 'progress')
SELECT i.outcome, s.journal_sequence < c.journal_sequence AS single_first
FROM bulk_operation_items AS i
JOIN chunks AS c ON c.n = i.ordinal / $2::integer
JOIN journal AS s ON s.candidate_id = i.candidate_id AND s.command_type = 'candidate.update.v1'
WHERE i.operation_id = $1
"""


async def test_large__beside_live_commands_is_done_in_small_chunks_with_nothing_left_to_publish(
    own_bed: Bed,
) -> None:
    bed, steps = own_bed, list[str]()
    async with bed.consuming(hook=steps.append):
        keys = await people(bed, 2000, lane=2)
        [accepted] = await bed.settle(bulk(keys[0][0], {"rating": 1}, filter={"status": "new"}))
        live = 0
        [first_live] = await bed.settle(update(keys[live], {"source": "live"}))
        steps.clear()
        while news_of(bed, accepted["operation_id"])[-1].type != COMPLETED:
            live += 1
            await asyncio.sleep(0.03)  # room for more than one chunk
            await bed.settle(update(keys[live], {"source": "live"}))
        await ended(bed, accepted["operation_id"])
    assert live > 2
    events = news_of(bed, accepted["operation_id"])
    news = [(event.data["sequence"], event.data["counts"]["pending"]) for event in events]
    done = [
        before - after
        for (_, before), (sequence, after) in itertools.pairwise([(0, 2000), *news])
        if sequence > first_live["sequence"]  # before it, nobody knew that live commands come
    ]
    assert max(done) <= BULK_CHUNK_ITEMS_BESIDE
    # Everything that the lane had settled was published when a chunk began.
    told = [step for step in steps if step in ("after_commit", "after_publish", "after_chunk_read")]
    chunks = [n for n, step in enumerate(told) if step == "after_chunk_read"]
    assert len(chunks) > 2
    assert {told[n - 1] for n in chunks if n} == {"after_publish"}


async def differences(bed: Bed, operation_id: str) -> list[Any]:
    return list(
        await bed.database.fetch(
            "SELECT json_array_elements(differences) FROM bulk_operations WHERE operation_id = $1",
            operation_id,
        )
    )


async def test_large__ids_paused_cancelled_and_shared_fairly(own_bed: Bed) -> None:
    bed = own_bed
    async with bed.consuming(chunk_items=CHUNK):
        mine, other = await people(bed, 300, lane=1), await people(bed, 300, lane=1)
    ids = [key[1] for key in mine]
    strangers = [str(uuid4()) for _ in range(800)]
    first = bulk(mine[0][0], {"rating": 1}, candidate_ids=[*ids, *strangers])
    second = bulk(mine[0][0], {"source": "b"}, filter={"status": "new"})
    third = bulk(other[0][0], {"source": "c"}, filter={"status": "new"})
    pause = control(mine[0][0], operation_of(first), "pause")
    busy = control(mine[0][0], operation_of(first), "retry_failed")
    await bed.send(first, second, third, pause, busy, lane=1)
    async with bed.consuming(chunk_items=CHUNK):
        assert (await bed.result(pause)).data["outcome"] == "applied"
        assert (await bed.result(busy)).data["reason"] == "not_allowed"
        for command in (second, third):
            assert (await ended(bed, operation_of(command)))["counts"] == counts(300, applied=300)
        turns = [
            e.data["operation_id"]
            for e in bed.results
            if e.type == PROGRESSED and e.data["operation_id"] != operation_of(first)
        ]
        assert turns[:8] in (
            [operation_of(second), operation_of(third)] * 4,
            [operation_of(third), operation_of(second)] * 4,
        )
        [again] = await bed.settle(control(mine[0][0], operation_of(first), "pause"))
        assert again["outcome"] == "unchanged"
        resume, cancel = (
            control(mine[0][0], operation_of(first), action) for action in ("resume", "cancel")
        )
        await bed.settle(resume)
        [cancelled] = await bed.settle(cancel)
        assert cancelled["outcome"] == "applied"
        completed = await ended(bed, operation_of(first))
        assert completed["status"] == "cancelled"
        assert completed["counts"]["cancelled"] > 0
        [closed] = await bed.settle(control(mine[0][0], operation_of(first), "resume"))
        assert closed["reason"] == "operation_closed"


@pytest.mark.parametrize("large", [False, True])
async def test_poison__is_one_invalid_item_and_the_rest_is_applied(
    own_bed: Bed, large: bool
) -> None:
    bed = own_bed
    await bed.database.execute(
        "ALTER TABLE candidates ADD CONSTRAINT no_mallory"
        " CHECK (last_name <> 'Mallory' OR version = 1)"
    )
    async with bed.consuming(chunk_items=CHUNK):
        keys = await people(bed, 60, lane=2)
        organization_id = keys[0][0]
        bad = (organization_id, str(uuid4()))
        await bed.settle(create(bad, last_name="Mallory"))
        chosen: Json = (
            {"filter": {"status": "new"}}
            if large
            else {"candidate_ids": [*(key[1] for key in keys), bad[1]]}
        )
        [result] = await bed.settle(bulk(organization_id, {"rating": 1}, **chosen))
        told = (await ended(bed, result["operation_id"]))["counts"] if large else result["counts"]
        assert told == counts(61, applied=60, invalid=1)
        await assert_agrees(bed, result["operation_id"], told)


async def test_filter__that_matches_too_many_is_refused_and_leaves_nothing(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = await people(bed, 11)
    for module in ("consumer.bulk", "consumer.operation_store"):
        monkeypatch.setattr(f"{module}.BULK_FILTER_ITEMS_MAX", 10)
    command = bulk(keys[0][0], {"rating": 1}, filter={"status": "new"})
    [result] = await bed.settle(command)
    assert (result["outcome"], result["reason"]) == ("rejected", "too_many")
    for table in ("bulk_operations", "bulk_operation_chunks"):
        assert not await bed.database.fetchval(
            f"SELECT count(*) FROM {table} WHERE organization_id = $1", keys[0][0]
        )
    assert (await bed.state(keys[0]) or {})["version"] == 1


async def test_batch__of_several_inline_bulks_is_cut(own_bed: Bed) -> None:
    bed = own_bed
    organization_id, _ = new_key(3)
    commands = [
        bulk(organization_id, {"rating": 1}, candidate_ids=[str(uuid4()) for _ in range(900)])
        for _ in range(5)
    ]
    await bed.send(*commands)
    async with bed.consuming():
        results = [(await bed.result(command)).data for command in commands]
        assert {result["outcome"] for result in results} == {"unchanged"}
        assert results[0]["counts"] == counts(900, not_found=900)
    instants = {
        row["recorded_at"] for row in await bed.database.fetch("SELECT recorded_at FROM journal")
    }
    assert len(instants) == 3


async def test_retry__of_items_that_are_gone_takes_what_is_left(bed: Bed) -> None:
    """As where retention begins with an operation between the look at it and the admission."""
    organization_id, _ = new_key()
    for kept in (2, 0):
        strangers = [str(uuid4()) for _ in range(5)]
        [result] = await bed.settle(bulk(organization_id, {"rating": 1}, candidate_ids=strangers))
        await bed.database.execute(
            "DELETE FROM bulk_operation_items WHERE operation_id = $1 AND ordinal >= $2",
            result["operation_id"], kept,
        )  # fmt: skip
        [retried] = await bed.settle(
            control(organization_id, result["operation_id"], "retry_failed")
        )
        assert retried["outcome"] == "accepted"
        completed = await ended(bed, retried["operation_id"])
        assert (completed["status"], completed["counts"]) == (
            "completed",
            counts(kept, not_found=kept),
        )


@pytest.mark.parametrize(
    ("damage", "status", "settled"),
    [
        ("DELETE FROM bulk_operation_chunks", "cancelled", {"not_found": 1000, "cancelled": 1}),
        (
            "UPDATE bulk_operation_chunks SET candidate_ids = candidate_ids || candidate_ids",
            "completed",
            {"not_found": 1001},
        ),
    ],
    ids=["missing", "too_many"],
)
async def test_chunks__that_are_not_what_they_must_be_do_not_stop_the_lane(
    own_bed: Bed, damage: str, status: str, settled: dict[str, int]
) -> None:
    bed = own_bed
    (organization_id, _), nobody = new_key(0), new_key(0)
    command = bulk(
        organization_id, {"rating": 1}, candidate_ids=[str(uuid4()) for _ in range(1001)]
    )
    operation_id = operation_of(command)
    await bed.send(command, control(organization_id, operation_id, "pause"))
    async with bed.consuming(chunk_items=1000):
        await bed.settle(update(nobody, {"rating": 1}))
        await bed.database.execute(f"{damage} WHERE first_ordinal > 0")
        await bed.settle(control(organization_id, operation_id, "resume"))
        await bed.until(lambda: any(e.type == COMPLETED for e in news_of(bed, operation_id)))
        told = news_of(bed, operation_id)[-1].data
        assert (told["status"], told["counts"]) == (status, counts(1001, **settled))
        [result] = await bed.settle(update(nobody, {"rating": 2}))
        assert result["reason"] == "not_found"


async def test_retention__forgets_what_ended_long_ago(own_bed: Bed) -> None:
    bed = own_bed
    async with bed.consuming():
        keys = await people(bed, 3, lane=0)
        [result] = await bed.settle(
            bulk(keys[0][0], {"rating": 1}, candidate_ids=[key[1] for key in keys])
        )
        await bed.database.execute(
            "UPDATE bulk_operations SET completed_at = now() - interval '31 days'"
        )
        [closed] = await bed.settle(control(keys[0][0], result["operation_id"], "retry_failed"))
        assert closed["reason"] == "operation_closed"

        async def gone() -> bool:
            left = await bed.database.fetchval(
                "SELECT (SELECT count(*) FROM bulk_operations)"
                " + (SELECT count(*) FROM bulk_operation_items)"
            )
            return bool(left == 0)

        async with asyncio.timeout(30):
            while not await gone():  # noqa: ASYNC110 the consumer makes it so
                await asyncio.sleep(0.1)
