"""Bulk commands that merge: a transaction reads so many versions of the journal and no more.

What is too much for one is done in several, and means the same.
"""

import pytest

from tests.consumer.bulk import PROGRESSED, assert_agrees, bulk, counts, ended, news_of, people
from tests.consumer.conftest import Bed, Command, Key, update

READ_MAX = 20
VERSIONS = 6


@pytest.fixture(autouse=True)
def little_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("consumer.apply", "consumer.background", "domain.bulk"):
        monkeypatch.setattr(f"{module}.MERGE_HISTORY_VERSIONS_MAX", READ_MAX)


async def aged(bed: Bed, total: int) -> list[Key]:
    """Candidates five versions behind their first; of the last one the rating was changed, too."""
    keys = await people(bed, total, lane=0)
    sources = [
        update(key, {"source": str(step)}) for step in range(3, VERSIONS + 1) for key in keys
    ]
    tags = [update(key, {"tags": ["a"]}) for key in keys[:-1]]
    steps = [*tags, update(keys[-1], {"rating": 5}), *sources]
    assert {result["version"] for result in (await bed.settle(*steps))[-total:]} == {VERSIONS}
    return keys


def merging(keys: list[Key]) -> Command:
    ids = [key[1] for key in keys]
    return bulk(
        keys[0][0],
        {"rating": 1},
        candidate_ids=ids,
        on_conflict="merge",
        expected_versions=dict.fromkeys(ids, 1),
    )


def chunks_of(bed: Bed, operation_id: str) -> int:
    return len([event for event in news_of(bed, operation_id) if event.type == PROGRESSED])


async def test_inline__as_much_as_may_be_read_is_settled_at_once(own_bed: Bed) -> None:
    bed = own_bed
    async with bed.consuming():
        keys = await aged(bed, READ_MAX // 5)
        [result] = await bed.settle(merging(keys))
        assert result["outcome"] == "applied"
        assert result["counts"] == counts(4, applied=3, conflict=1)
        await assert_agrees(bed, result["operation_id"], result["counts"])


async def test_inline__with_more_is_taken_on_and_done_in_chunks(own_bed: Bed) -> None:
    bed = own_bed
    async with bed.consuming():
        keys = await aged(bed, READ_MAX // 5 * 2 + 1)
        # Not the first of its batch, and a command behind it that it must not see.
        before, command = update(keys[0], {"tags": ["b"]}), merging(keys)
        _, accepted = await bed.settle(before, command)
        assert accepted["outcome"] == "accepted"
        completed = await ended(bed, accepted["operation_id"])
        assert completed["counts"] == counts(9, applied=8, conflict=1)
        assert chunks_of(bed, accepted["operation_id"]) > 2
        [again] = await bed.settle(command)
        assert again["original"]["outcome"] == "accepted"


async def test_chunks__of_an_operation_are_no_larger(own_bed: Bed) -> None:
    bed = own_bed
    async with bed.consuming():
        keys = await aged(bed, READ_MAX // 5 * 2)
        command = merging(keys)
        del command.data["candidate_ids"]
        command.data["filter"] = {"status": "new"}
        [accepted] = await bed.settle(command)
        completed = await ended(bed, accepted["operation_id"])
        assert completed["counts"] == counts(8, applied=7, conflict=1)
        assert chunks_of(bed, accepted["operation_id"]) == 2


async def test_batch__that_would_read_more_is_halved(own_bed: Bed) -> None:
    """Each alone may be settled at once, so each is."""
    bed = own_bed
    async with bed.consuming():
        keys = await aged(bed, READ_MAX // 5 * 4)
    bulks = [merging(keys[first : first + 4]) for first in range(0, 16, 4)]
    singles = [
        update(key, {"phone": "+442079460958"}, expected_version=1, on_conflict="merge")
        for key in keys
    ]
    await bed.send(*bulks, *singles, lane=0)
    async with bed.consuming():
        results = [(await bed.result(command)).data for command in (*bulks, *singles)]
    assert [result["outcome"] for result in results] == ["applied"] * 4 + ["merged"] * 16
    assert [result["counts"]["applied"] for result in results[:4]] == [4, 4, 4, 3]
    assert len({result["settled_at"] for result in results}) >= 8
