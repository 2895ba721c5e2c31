"""The journal's partitions, made ahead of need and checked before each batch."""

from datetime import datetime, timedelta

from consumer.store import LaneStore, StoreAway
from domain.limits import JOURNAL_AHEAD_DAYS, JOURNAL_MARGIN_DAYS


class JournalPartitions:
    """Shared by the lanes of a process; asks PostgreSQL only when the end comes near."""

    def __init__(self, store: LaneStore) -> None:
        self._store = store
        self._reach: datetime | None = None

    def doubt(self) -> None:
        """Somebody was in the way, or dropped one: it is asked again."""
        self._reach = None

    async def demand(self, now: datetime) -> None:
        """Returns once there is a partition for `now` and some time after it.

        Raises:
            StoreAway, TryAgain: PostgreSQL could not make it now, or its clock has gone back.
        """
        if self._reach is None or now > self._reach - timedelta(days=JOURNAL_MARGIN_DAYS):
            self._reach = await self._store.ensure_partitions(timedelta(days=JOURNAL_AHEAD_DAYS))
        if now >= self._reach:
            raise StoreAway("the database's clock is far behind the lane's last batch")
