"""A database that answers, but not in time for a whole batch."""

from datetime import timedelta

import asyncpg

from tests.consumer.conftest import Bed, create, new_key

ROWS_TOTAL = 120
LEASE_SECONDS = 2.5  # session time-outs are 0.8 of it: a whole batch takes longer, half may do

_SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.025); RETURN new; END $$;
CREATE TRIGGER slow BEFORE INSERT ON candidates FOR EACH ROW EXECUTE FUNCTION slow();
"""


async def test_batch__too_slow_as_a_whole_is_settled_in_halves(own_bed: Bed) -> None:
    connection = await asyncpg.connect(own_bed.database_url)
    try:
        await connection.execute(_SLOW)
    finally:
        await connection.close()
    commands = [create(new_key(lane=0)) for _ in range(ROWS_TOTAL)]
    await own_bed.send(*commands)
    async with own_bed.consuming(lease=timedelta(seconds=LEASE_SECONDS)):
        results = [await own_bed.result(command) for command in commands]
    assert {result.data["outcome"] for result in results} == {"applied"}
    own_bed.assert_numbered()
