"""A thousand candidates of the largest size changed by one command: published whole, and once; a
large operation divides them by bytes."""

from uuid import uuid4

import pytest

from domain.limits import (
    ATTRIBUTES_BYTES_MAX,
    BATCH_BYTES_MAX,
    BULK_INLINE_ITEMS_MAX,
    NAME_CHARACTERS_MAX,
    SOURCE_CHARACTERS_MAX,
    TAG_CHARACTERS_MAX,
    TAGS_MAX,
)
from tests.consumer.bulk import assert_agrees, bulk, counts, ended, people
from tests.consumer.conftest import Bed, Json, update

SIX_BYTES = "\x01"
"""A character that is as long as any in JSON."""


def tags(last: str) -> list[str]:
    fill = SIX_BYTES * (TAG_CHARACTERS_MAX - 3)
    return [f"{fill}{number:02}{last}" for number in range(TAGS_MAX)]


LARGEST: Json = {
    "first_name": f"A{SIX_BYTES * (NAME_CHARACTERS_MAX - 2)}A",
    "last_name": f"A{SIX_BYTES * (NAME_CHARACTERS_MAX - 2)}A",
    "source": f"A{SIX_BYTES * (SOURCE_CHARACTERS_MAX - 2)}A",
    "tags": tags("a"),
    "attributes": {"a": "x" * (ATTRIBUTES_BYTES_MAX - len('{"a":""}'))},
}


@pytest.mark.timeout(600)
async def test_unit__of_the_largest_candidates_is_published_whole(own_bed: Bed) -> None:
    bed = own_bed
    bed.within_seconds = 180  # some 300 MB go to each server and back
    async with bed.consuming():
        keys = await people(bed, BULK_INLINE_ITEMS_MAX, lane=0, **LARGEST)
        organization_id, ids = keys[0][0], [key[1] for key in keys]
        inline = bulk(organization_id, {"tags": tags("b")}, candidate_ids=ids)
        [result, behind] = await bed.settle(inline, update(keys[0], {"rating": 1}))
        assert (result["outcome"], behind["version"]) == ("applied", 3)
        assert result["counts"] == counts(len(ids), applied=len(ids))
        await assert_agrees(bed, result["operation_id"], result["counts"])

        chosen = bulk(organization_id, {"tags": tags("c")}, filter={"status": "new"})
        [accepted] = await bed.settle(chosen)
        assert (await ended(bed, accepted["operation_id"]))["counts"]["applied"] == len(ids)
        [behind] = await bed.settle(update((organization_id, str(uuid4())), {"rating": 2}))
        assert behind["reason"] == "not_found"
    units = await bed.database.fetch(
        "SELECT sum(octet_length(change::text)) FROM journal WHERE operation_id = $1"
        " AND kind = 'item' GROUP BY result_sequence",
        accepted["operation_id"],
    )
    assert max(row[0] for row in units) < 2 * BATCH_BYTES_MAX
    bytes_total = await bed.database.fetchval(
        "SELECT sum(octet_length(change::text)) FROM journal WHERE operation_id = $1",
        result["operation_id"],
    )
    assert bytes_total > 6 * BATCH_BYTES_MAX
