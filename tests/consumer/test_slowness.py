"""A database that answers, but not in time for a whole batch, or chunk."""

from datetime import timedelta

from tests.consumer.bulk import PROGRESSED, bulk, counts, ended, news_of, people
from tests.consumer.conftest import Bed, create, new_key

ROWS_TOTAL = 120
LEASE_SECONDS = 2.5  # session time-outs are 0.8 of it: a whole batch takes longer, half may do

_SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.025); RETURN new; END $$;
CREATE TRIGGER slow BEFORE {} ON candidates FOR EACH ROW EXECUTE FUNCTION slow();
"""


async def test_batch__too_slow_as_a_whole_is_settled_in_halves(own_bed: Bed) -> None:
    await own_bed.database.execute(_SLOW.format("INSERT"))
    commands = [create(new_key(lane=0)) for _ in range(ROWS_TOTAL)]
    await own_bed.send(*commands)
    async with own_bed.consuming(lease=timedelta(seconds=LEASE_SECONDS)):
        results = [await own_bed.result(command) for command in commands]
    assert {result.data["outcome"] for result in results} == {"applied"}
    own_bed.assert_numbered()


async def test_chunk__too_slow_as_a_whole_is_done_in_parts(own_bed: Bed) -> None:
    bed = own_bed
    async with bed.consuming(lease=timedelta(seconds=LEASE_SECONDS)):
        keys = await people(bed, ROWS_TOTAL, lane=0)
        await bed.database.execute(_SLOW.format("UPDATE"))
        [accepted] = await bed.settle(bulk(keys[0][0], {"rating": 1}, filter={"status": "new"}))
        completed = await ended(bed, accepted["operation_id"])
    assert completed["counts"] == counts(ROWS_TOTAL, applied=ROWS_TOTAL)
    news = news_of(bed, accepted["operation_id"])
    assert len([event for event in news if event.type == PROGRESSED]) > 1
