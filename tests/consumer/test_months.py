"""A lane from one month of the journal to the next, whose partition is made ahead of need."""

from datetime import UTC, datetime, timedelta

import pytest

from consumer.partitions import JournalPartitions
from consumer.store import LaneStore, StoreAway, open_pool
from domain.limits import JOURNAL_AHEAD_DAYS
from tests.consumer.conftest import Bed, create, new_key, update

_TO_NEXT_MONTH = """
UPDATE lanes SET last_recorded_at = date_trunc('month', now()) + interval '1 month 1 hour'
WHERE lane = 0 RETURNING last_recorded_at
"""
_PARTITIONS = """
SELECT array_agg(relid::regclass::text ORDER BY 1) FROM pg_partition_tree('journal') WHERE isleaf
"""


def partition(at: datetime) -> str:
    return f"journal_{at:%Y_%m}"


async def test_lane__goes_on_in_the_next_month(own_bed: Bed) -> None:
    bed, key = own_bed, new_key(0)
    first = create(key)
    async with bed.consuming():
        await bed.settle(first, update(key, {"rating": 1}))
        made = await bed.database.fetchval(_PARTITIONS)
        assert partition(datetime.now(UTC)) in made
        assert partition(datetime.now(UTC) + timedelta(days=JOURNAL_AHEAD_DAYS)) in made
        month = partition(await bed.database.fetchval(_TO_NEXT_MONTH))
        again, merged, conflict = await bed.settle(
            first,
            update(key, {"source": "b"}, expected_version=1, on_conflict="merge"),
            update(key, {"rating": 2}, expected_version=1, on_conflict="merge"),
        )
    assert (again["outcome"], again["original"]["outcome"]) == ("duplicate", "applied")
    assert (merged["outcome"], merged["version"]) == ("merged", 3)
    assert (conflict["reason"], conflict["fields"]) == ("version_conflict", ["rating"])
    rows = await bed.database.fetchval(f"SELECT count(*) FROM {month}")
    assert rows == 3


async def test_lane__makes_a_partition_again_that_somebody_dropped(own_bed: Bed) -> None:
    bed, key = own_bed, new_key(0)
    async with bed.consuming():
        await bed.settle(create(key))
        month = partition(await bed.database.fetchval(_TO_NEXT_MONTH))
        await bed.database.execute(f"DROP TABLE {month}")
        [result] = await bed.settle(update(key, {"rating": 1}))
    assert result["outcome"] == "applied"
    assert await bed.database.fetchval(f"SELECT count(*) FROM {month}") == 1


async def test_demand__never_an_instant_without_a_partition(database_url: str) -> None:
    pool = await open_pool(database_url, lease=timedelta(seconds=10), lanes_max=1)
    try:
        partitions = JournalPartitions(LaneStore(pool))
        now = datetime.now(UTC)
        await partitions.demand(now)
        await partitions.demand(now + timedelta(days=JOURNAL_AHEAD_DAYS - 1))
        with pytest.raises(StoreAway, match="clock is far behind"):
            await partitions.demand(now + timedelta(days=JOURNAL_AHEAD_DAYS + 62))
    finally:
        await pool.close()
