"""What the API says of its database when it goes and comes."""

import pytest
from structlog.testing import capture_logs

from api.database import Database, DatabaseAway


async def test_database__away_and_back_are_one_record_each(database_url: str) -> None:
    database = Database("postgresql://x@127.0.0.1:1/x")
    with capture_logs() as logged:
        async with database.opened():
            for _ in range(2):
                with pytest.raises(DatabaseAway):
                    await database.fetch("SELECT 1")
        database._database_url = database_url  # the server is back
        async with database.opened():
            for _ in range(2):
                await database.fetch("SELECT 1")

    assert [each["action"] for each in logged] == ["database_away", "database_back"]
