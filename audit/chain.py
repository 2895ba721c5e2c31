"""The chain of seals: a lane's journal in ranges of results, each hashed, each link over the last.

Ranges tile a lane from result 1 without a gap, so that nothing can be changed, removed or put in
below the newest link unseen. Whoever may rewrite every table may rewrite the chain, too: a head
that was kept elsewhere is what such a one cannot change.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import asyncpg

from audit.sqlfiles import statement

FORMAT = 1
"""Of digests: `sql/range_digests.sql` and, for a cut, `sql/checkpoint_digest.sql`."""

BEFORE_THE_FIRST = bytes(32)
"""What the first link of a lane has for the chain up to the link before."""

_APPEND_LINK = statement("append_link")
_CHAIN_HEAD = statement("chain_head")
_RANGE_DIGESTS = statement("range_digests")


class Link(NamedTuple):
    """One row of `journal_seals`.

    `kind` is `rows` (results `first_result` to `last_result`) or `cut` (the journal up to
    `last_result` was put into a checkpoint of `rows_total` candidates, to be dropped).
    """

    lane: int
    link: int
    kind: str
    first_result: int
    last_result: int
    rows_total: int
    last_recorded_at: datetime
    digest: bytes
    format: int
    sealed_at: datetime
    chain: bytes


class RangeDigest(NamedTuple):
    """What a range of a lane's journal holds now."""

    last_result: int
    rows_total: int
    last_recorded_at: datetime | None
    digest: bytes
    unblank: int
    unproven: int


async def chain_head(connection: asyncpg.Connection, lane: int) -> Link | None:
    """The newest link of a lane, None if nothing is sealed."""
    row = await connection.fetchrow(_CHAIN_HEAD, lane)
    return None if row is None else Link(*row)


async def range_digests(
    connection: asyncpg.Connection, lane: int, ranges: Iterable[tuple[int, int]]
) -> dict[int, RangeDigest]:
    """Hash ranges of a lane's results as they are now, by their last result."""
    firsts, lasts = zip(*ranges, strict=True)
    rows = await connection.fetch(_RANGE_DIGESTS, lane, list(firsts), list(lasts))
    return {row["last_result"]: RangeDigest(*row) for row in rows}


async def append_link(
    connection: asyncpg.Connection,
    lane: int,
    head: Link | None,
    *,
    kind: str,
    first_result: int,
    last_result: int,
    rows_total: int,
    last_recorded_at: datetime,
    digest: bytes,
) -> None:
    """Add the link behind `head`, within the caller's transaction."""
    await connection.execute(
        _APPEND_LINK, lane, (head.link if head else 0) + 1, kind, first_result, last_result,
        rows_total, last_recorded_at, digest, head.chain if head else BEFORE_THE_FIRST, FORMAT,
    )  # fmt: skip
