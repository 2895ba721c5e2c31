"""Looks at the state of one candidate, for operators."""

from uuid import UUID

import asyncpg

from audit.sqlfiles import statement
from contract.state import candidate_state
from domain.candidate import CandidateState

_BY_KEY = statement("candidate_by_key")


async def read_candidate(
    connection: asyncpg.Connection, *, organization_id: UUID, candidate_id: UUID
) -> CandidateState | None:
    """The candidate as it is now, or None."""
    row = await connection.fetchrow(_BY_KEY, organization_id, candidate_id)
    if row is None:
        return None
    ids = {"organization_id": organization_id, "candidate_id": candidate_id}
    return candidate_state(ids | dict(row))
