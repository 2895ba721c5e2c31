"""Who consumes which lane: leases in PostgreSQL, not a Kafka group.

A consumer is alive while its lease in `consumers` is in the future. Lanes of the dead are claimed
under a new epoch, and the epoch, not the lease, is what keeps a misjudged owner from doing harm.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import NamedTuple

import asyncpg

from consumer.sqlfiles import statement
from consumer.store import asked
from contract.lanes import LaneEnded

_HEARTBEAT = statement("heartbeat")
_LANES_LOST = statement("lanes_lost")
_CLAIM_LANES = statement("claim_lanes")
_RELEASE_LANE = statement("release_lane")
_RELEASE_STRAYS = statement("release_strays")
_NOTE_HALTED = statement("note_halted")
_CREATE_LANES = statement("create_lanes")
_LEAVE = statement("leave")


class OtherTopics(Exception):
    """The lanes in PostgreSQL were made for other topics or another cluster."""


class Claim(NamedTuple):
    """A lane, ours from this epoch on."""

    lane: int
    owner_epoch: int


class Membership:
    """This process among the consumers."""

    def __init__(self, pool: asyncpg.Pool, *, consumer_id: str, lease: timedelta) -> None:
        self._pool = pool
        self._consumer_id = consumer_id
        self._lease = lease

    async def create_lanes(
        self, *, partitions_total: int, commands_topic: str, cluster_id: str
    ) -> None:
        """Writes the lane rows of a new deployment, or compares with those of an old one.

        Raises:
            OtherTopics: the number of partitions, the topic or the cluster differs.
        """
        async with asked(self._pool) as connection:
            await connection.execute(_CREATE_LANES, partitions_total, commands_topic, cluster_id)
            known = await connection.fetch(
                "SELECT DISTINCT partitions_total, commands_topic, cluster_id FROM lanes"
            )
        for total, topic, cluster in known:
            if (total, topic, cluster) != (partitions_total, commands_topic, cluster_id):
                raise OtherTopics(
                    f"PostgreSQL remembers {total} partitions of {topic} on cluster {cluster};"
                    f" found are {partitions_total} of {commands_topic} on {cluster_id}"
                )

    async def heartbeat(self) -> list[str]:
        """Renews the lease; the ids of all that are alive, sorted, this one among them."""
        async with asked(self._pool) as connection:
            rows = await connection.fetch(_HEARTBEAT, self._consumer_id, self._lease)
        return [row[0] for row in rows]

    async def lost(self, claims: Sequence[Claim]) -> list[Claim]:
        """Those of our claims that another consumer has overruled."""
        lanes, epochs = [claim.lane for claim in claims], [claim.owner_epoch for claim in claims]
        async with asked(self._pool) as connection:
            return [Claim(*row) for row in await connection.fetch(_LANES_LOST, lanes, epochs)]

    async def claim(self, held: Collection[int], lanes_max: int) -> list[Claim]:
        """Takes up to `lanes_max` lanes whose owner is gone."""
        async with asked(self._pool) as connection:
            rows = await connection.fetch(_CLAIM_LANES, self._consumer_id, list(held), lanes_max)
        return [Claim(*row) for row in rows]

    async def release(self, claim: Claim) -> None:
        """Hands a lane over at once."""
        async with asked(self._pool) as connection:
            await connection.execute(_RELEASE_LANE, *claim)

    async def release_strays(self, held: Collection[int]) -> None:
        """Hands over lanes that carry our name and that we do not hold.

        A former process of this name had them, or the answer to a claim was lost; while our lease
        is good nobody else would take them.
        """
        async with asked(self._pool) as connection:
            await connection.execute(_RELEASE_STRAYS, self._consumer_id, list(held))

    async def note_halted(self, claim: Claim, ended: LaneEnded) -> None:
        """Keeps the cause where operators look for it, until the lane runs again."""
        async with asked(self._pool) as connection:
            await connection.execute(_NOTE_HALTED, *claim, str(ended))

    async def leave(self) -> None:
        """Gives up the lease."""
        async with asked(self._pool) as connection:
            await connection.execute(_LEAVE, self._consumer_id)


def fair_share(consumer_id: str, alive: list[str], lanes_total: int) -> int:
    """How many lanes this consumer should have; the shares of all add up to `lanes_total`."""
    each, left_over = divmod(lanes_total, len(alive))
    return each + (alive.index(consumer_id) < left_over)
