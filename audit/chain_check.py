"""`funnel verify --chain`: no sealed row was changed, removed or put in since it was sealed.

Follows each lane's chain from its first link, hashes again what each link seals, and compares the
newest checkpoint with what was hashed when it was written. A link that is broken is named by its
lane and range, with the hash that it should have and the one that it has: which row it is in there,
no hash tells. A run that is cut short goes on behind the last piece that it has hashed.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg

from audit.bookmark import Bookmark
from audit.chain import BEFORE_THE_FIRST, FORMAT, Link, RangeDigest, chain_head, range_digests
from audit.database import look
from audit.findings import Findings, Meter
from audit.sqlfiles import statement

PIECE_ROWS = 50_000
"""Rows hashed in one look: a statement of a second at the most."""
_PIECE_LINKS = 1000

_CHAIN_LINKS = statement("chain_links")
_CHAIN_TOTALS = statement("chain_totals")
_CHECKPOINT_DIGEST = statement("checkpoint_digest")
_JOURNAL_BEGINS = statement("journal_begins")
_ROWS_BEFORE = statement("rows_before")


class Head(NamedTuple):
    """A link that was kept elsewhere: what the chain of `lane` was at that time."""

    lane: int
    link: int
    chain: bytes


class _Cut(NamedTuple):
    """What the newest link of kind `cut` says of its checkpoint."""

    link: int
    last_result: int
    rows_total: int
    digest: str


class _Place(NamedTuple):
    """How far a chain has been followed. `heads`: links kept elsewhere that are still to come."""

    link: int
    chain: str
    sealed_to: int
    cut: _Cut | None
    heads: list[int]

    @classmethod
    def of(cls, told: list[Any]) -> "_Place":
        place = cls(*told)
        return place if place.cut is None else place._replace(cut=_Cut(*place.cut))

    def told(self) -> list[Any]:
        """As JSON has it: plain lists."""
        cut = None if self.cut is None else list(self.cut)
        return [self.link, self.chain, self.sealed_to, cut, self.heads]


async def sealed_rows(connection: asyncpg.Connection) -> int:
    """How many rows there are to hash again."""
    return sum(int(row["rows_total"] or 0) for row in await connection.fetch(_CHAIN_TOTALS))


async def check_chain(
    connection: asyncpg.Connection,
    lanes: Sequence[int],
    marks: Bookmark,
    meter: Meter,
    *,
    heads: Sequence[Head] = (),
) -> None:
    """Follow the chain of every lane to its newest link, from where an earlier run has got to.

    Args:
        heads: links that were kept elsewhere; each must be part of its lane's chain.
    """
    kept: dict[int, dict[int, bytes]] = {lane: {} for lane in lanes}
    for head in heads:
        kept.setdefault(head.lane, {})[head.link] = head.chain
    for row in await connection.fetch(_CHAIN_TOTALS):
        kept.setdefault(row["lane"], {})
    lane_reached, told = marks.place("chain") or (-1, None)
    meter.advance(marks.findings.rows["sealed rows"] + marks.findings.rows["dropped rows"])
    for lane, heads_of_lane in sorted(kept.items()):
        if lane < lane_reached:
            continue
        follower = _Follower(connection, lane, heads_of_lane, marks.findings, meter)
        if lane == lane_reached and told is not None:
            follower.resume(_Place.of(told))
        async for place in follower.follow():
            marks.reached("chain", (lane, place.told()))
        marks.reached("chain", (lane + 1, None))


class _Follower:
    """One lane, link by link."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        lane: int,
        heads: Mapping[int, bytes],
        findings: Findings,
        meter: Meter,
    ) -> None:
        self._connection = connection
        self._lane = lane
        self._heads = dict(heads)
        self._findings = findings
        self._meter = meter
        self._last_link = 0
        self._last_chain = BEFORE_THE_FIRST
        self._sealed_to = 0
        self._cut: _Cut | None = None

    def resume(self, place: _Place) -> None:
        """Go on behind a place."""
        self._last_link, self._last_chain = place.link, bytes.fromhex(place.chain)
        self._sealed_to, self._cut = place.sealed_to, place.cut
        self._heads = {link: self._heads[link] for link in place.heads}

    async def follow(self) -> AsyncIterator[_Place]:
        """To the end of the chain; tells of each place at which another run can go on."""
        while links := await self._connection.fetch(
            _CHAIN_LINKS, self._lane, self._last_link, self._last_chain, _PIECE_LINKS
        ):
            for piece in _pieces(links):
                followed = [Link(*tuple(row)[:-1]) for row in piece]
                for link, row in zip(followed, piece, strict=True):
                    self._follow_link(link, row["chain_expected"])
                await self._hash([link for link in followed if link.kind == "rows"])
                yield _Place(
                    self._last_link, self._last_chain.hex(), self._sealed_to, self._cut,
                    list(self._heads),
                )  # fmt: skip
        for number, chain in self._heads.items():
            self._differs(
                f"link {number}", expected=f"the link that was kept elsewhere, {chain.hex()}",
                found="no such link",
            )  # fmt: skip
        await self._check_beginning()
        await self._check_checkpoint()

    def _follow_link(self, link: Link, chain_expected: bytes) -> None:
        """What a link says of itself and of the one before it."""
        where = _where(link)
        self._findings.rows["links"] += 1
        if link.link != self._last_link + 1:
            self._differs(
                where, expected=f"link {self._last_link + 1} before it",
                found=f"link {self._last_link}" if self._last_link else "none",
            )  # fmt: skip
        if link.chain != chain_expected:
            self._differs(
                where, expected=f"the hash of it and the link before, {chain_expected.hex()}",
                found=link.chain.hex(),
            )  # fmt: skip
        if link.format != FORMAT:
            self._differs(where, expected=f"format {FORMAT}", found=f"format {link.format}")
        if (kept := self._heads.pop(link.link, None)) is not None and kept != link.chain:
            self._differs(
                where, expected=f"the chain that was kept elsewhere, {kept.hex()}",
                found=link.chain.hex(),
            )  # fmt: skip
        if link.kind == "cut":
            self._cut = _Cut(link.link, link.last_result, link.rows_total, link.digest.hex())
        else:
            if link.first_result != self._sealed_to + 1 or link.last_result < link.first_result:
                self._differs(
                    where, expected=f"a range from result {self._sealed_to + 1}",
                    found=f"results {link.first_result} to {link.last_result}",
                )  # fmt: skip
            self._sealed_to = link.last_result
        self._last_link, self._last_chain = link.link, link.chain

    async def _hash(self, links: Sequence[Link]) -> None:
        """The rows of the links' ranges again, in one look."""
        async with look(self._connection):
            begins = await self._connection.fetchval(_JOURNAL_BEGINS, self._lane) or 0
            there = [link for link in links if link.last_result > begins]
            found: dict[int, RangeDigest] = {}
            if there:
                found = await range_digests(
                    self._connection,
                    self._lane,
                    [(link.first_result, link.last_result) for link in there],
                )
        for link in links:
            if link.last_result in found:
                self._compare(link, found[link.last_result])
            else:
                self._findings.rows["dropped rows"] += link.rows_total
            self._meter.advance(link.rows_total)

    def _compare(self, link: Link, found: RangeDigest) -> None:
        where = _where(link)
        self._findings.rows["sealed rows"] += found.rows_total
        if found.rows_total != link.rows_total:
            self._differs(
                where, expected=f"{link.rows_total} rows", found=f"{found.rows_total} rows"
            )
        elif found.digest != link.digest:
            self._differs(
                where, expected=f"the rows that were sealed, {link.digest.hex()}",
                found=f"other values, {found.digest.hex()}",
            )  # fmt: skip
        elif found.last_recorded_at != link.last_recorded_at:
            self._differs(
                where, expected=f"rows up to {link.last_recorded_at}",
                found=f"up to {found.last_recorded_at}",
            )  # fmt: skip
        if found.unproven:
            self._differs(
                where,
                expected="an erasure for each row that was erased",
                found=f"none for {found.unproven} rows",
            )
        if found.unblank:
            self._differs(
                where, expected="nothing personal in rows that were erased",
                found=f"{found.unblank} rows with something",
            )  # fmt: skip

    async def _check_beginning(self) -> None:
        """Nothing lies before the journal's beginning, and the chain knows why it begins there."""
        async with look(self._connection):
            begins = await self._connection.fetchval(_JOURNAL_BEGINS, self._lane) or 0
            stray = await self._connection.fetchval(_ROWS_BEFORE, self._lane, begins)
        if stray:
            self._differs(f"result {begins}", expected="no rows before it", found=f"{stray} rows")
        cut_to = self._cut.last_result if self._cut else 0
        if begins > cut_to:
            self._differs(
                f"result {begins}",
                expected=f"the beginning that the chain knows, behind result {cut_to}",
                found="a later one",
            )

    async def _check_checkpoint(self) -> None:
        """The candidates of the newest cut, unless the next one is being written."""
        if self._cut is None:
            return
        async with look(self._connection):
            head = await chain_head(self._connection, self._lane)
            found = await self._connection.fetchrow(_CHECKPOINT_DIGEST, self._lane)
        if found is None or found["under_way"] or head is None or head.link > self._last_link:
            return
        self._findings.rows["checkpoint rows"] += found["rows_total"]
        rows_total, digest = found["rows_total"], found["digest"].hex()
        if (rows_total, digest) != (self._cut.rows_total, self._cut.digest):
            self._differs(
                f"checkpoint of link {self._cut.link}, results 1 to {self._cut.last_result}",
                expected=f"the {self._cut.rows_total} candidates that were sealed, "
                f"{self._cut.digest}",
                found=f"{rows_total} candidates, other values, {digest}",
            )

    def _differs(self, where: str, *, expected: object, found: object) -> None:
        self._findings.add("chain", f"lane {self._lane}, {where}", expected=expected, found=found)


def _where(link: Link) -> str:
    return f"link {link.link}, results {link.first_result} to {link.last_result}"


def _pieces(links: Sequence[asyncpg.Record]) -> Iterator[list[asyncpg.Record]]:
    """Links in order, so many that their rows can be hashed in one look."""
    piece: list[asyncpg.Record] = []
    rows_total = 0
    for link in links:
        if piece and rows_total + link["rows_total"] > PIECE_ROWS:
            yield piece
            piece, rows_total = [], 0
        piece.append(link)
        rows_total += link["rows_total"]
    if piece:
        yield piece
