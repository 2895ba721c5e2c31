"""`funnel verify --chain`: no sealed row was changed, removed or put in since it was sealed.

Follows each lane's chain from its first link, hashes again what each link seals, and compares the
newest checkpoint with what was hashed when it was written. Of a range that differs the range is
named: which row it is in there, no digest tells.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import asyncpg

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


async def sealed_rows(connection: asyncpg.Connection) -> int:
    """How many rows there are to hash again."""
    return sum(int(row["rows_total"] or 0) for row in await connection.fetch(_CHAIN_TOTALS))


async def check_chain(
    connection: asyncpg.Connection,
    lanes: Sequence[int],
    findings: Findings,
    meter: Meter,
    *,
    heads: Sequence[Head] = (),
) -> None:
    """Follow the chain of every lane to its newest link.

    Args:
        heads: links that were kept elsewhere; each must be part of its lane's chain.
    """
    kept: dict[int, dict[int, bytes]] = {lane: {} for lane in lanes}
    for head in heads:
        kept.setdefault(head.lane, {})[head.link] = head.chain
    for row in await connection.fetch(_CHAIN_TOTALS):
        kept.setdefault(row["lane"], {})
    for lane, heads_of_lane in sorted(kept.items()):
        await _Follower(connection, lane, heads_of_lane, findings, meter).follow()


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
        self._cut: Link | None = None

    async def follow(self) -> None:
        while links := await self._connection.fetch(
            _CHAIN_LINKS, self._lane, self._last_link, self._last_chain, _PIECE_LINKS
        ):
            piece: list[Link] = []
            for row in links:
                piece.append(Link(*tuple(row)[:-1]))
                self._follow_link(piece[-1], row["chain_expected"])
            await self._hash(piece)
        for link in self._heads:
            self._differs(
                f"link {link}", expected="the link that was kept elsewhere", found="no such link"
            )
        await self._check_beginning()
        await self._check_checkpoint()

    def _follow_link(self, link: Link, chain_expected: bytes) -> None:
        """What a link says of itself and of the one before it."""
        where = f"link {link.link}"
        self._findings.rows["links"] += 1
        if link.link != self._last_link + 1:
            self._differs(where, expected=f"link {self._last_link + 1}", found=f"link {link.link}")
        if link.chain != chain_expected:
            self._differs(
                where, expected="the hash of this link and the one before", found="another"
            )
        if link.format != FORMAT:
            self._differs(where, expected=f"format {FORMAT}", found=f"format {link.format}")
        if (kept := self._heads.pop(link.link, None)) is not None and kept != link.chain:
            self._differs(
                where, expected=f"the chain that was kept elsewhere, {kept.hex()}",
                found=link.chain.hex(),
            )  # fmt: skip
        if link.kind == "cut":
            self._cut = link
        else:
            if link.first_result != self._sealed_to + 1 or link.last_result < link.first_result:
                self._differs(
                    where, expected=f"a range from result {self._sealed_to + 1}",
                    found=f"results {link.first_result} to {link.last_result}",
                )  # fmt: skip
            self._sealed_to = link.last_result
        self._last_link, self._last_chain = link.link, link.chain

    async def _hash(self, links: Sequence[Link]) -> None:
        """The rows of the links' ranges again, in looks of a bounded size."""
        piece: list[Link] = []
        rows = 0
        for link in links:
            if link.kind != "rows":
                continue
            if piece and rows + link.rows_total > PIECE_ROWS:
                await self._hash_piece(piece)
                piece, rows = [], 0
            piece.append(link)
            rows += link.rows_total
        if piece:
            await self._hash_piece(piece)

    async def _hash_piece(self, links: Sequence[Link]) -> None:
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
        where = f"link {link.link}, results {link.first_result} to {link.last_result}"
        self._findings.rows["sealed rows"] += found.rows_total
        if found.rows_total != link.rows_total:
            self._differs(where, expected=f"{link.rows_total} rows", found=found.rows_total)
        elif found.digest != link.digest or found.last_recorded_at != link.last_recorded_at:
            self._differs(where, expected="the rows that were sealed", found="other values")
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
        if (found["rows_total"], found["digest"]) != (self._cut.rows_total, self._cut.digest):
            self._differs(
                f"checkpoint of link {self._cut.link}",
                expected=f"the {self._cut.rows_total} candidates that were sealed",
                found=f"{found['rows_total']} candidates, other values",
            )

    def _differs(self, where: str, *, expected: object, found: object) -> None:
        self._findings.add("chain", f"lane {self._lane}, {where}", expected=expected, found=found)
