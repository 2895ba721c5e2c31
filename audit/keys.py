"""Keys of candidates and operations, as numbers of one range; and the ranges that it is read in."""

from typing import NamedTuple
from uuid import UUID

import asyncpg

_BITS = 128


class Key(NamedTuple):
    """A candidate's key; keys are ordered as PostgreSQL orders them."""

    organization_id: UUID
    candidate_id: UUID

    @classmethod
    def of(cls, number: int) -> "Key":
        """The key at a place in the range of all keys."""
        return cls(UUID(int=number >> _BITS), UUID(int=number & (2**_BITS - 1)))

    @property
    def number(self) -> int:
        """The place of the key in the range of all keys."""
        return self.organization_id.int << _BITS | self.candidate_id.int

    def __str__(self) -> str:
        return f"{self.organization_id}/{self.candidate_id}"


LAST_KEY = Key.of(2 ** (2 * _BITS) - 1)


async def last_of_range(
    connection: asyncpg.Connection, bound_statement: str, first: Key, rows_max: int
) -> Key:
    """The last key of the range of so many rows that begins at a key; of the last range, of all."""
    bound = await connection.fetchrow(bound_statement, *first, rows_max)
    return LAST_KEY if bound is None else Key(*bound)
