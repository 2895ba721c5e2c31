"""Looks at the state of one candidate, for operators; reads with the auditor's role."""

from uuid import UUID

from audit.database import open_audit
from audit.sqlfiles import statement
from contract.state import candidate_state
from domain.candidate import CandidateState

_BY_KEY = statement("candidate_by_key")


async def read_candidate(
    database_url: str, *, organization_id: UUID, candidate_id: UUID
) -> CandidateState | None:
    """The candidate as it is now, or None.

    Raises:
        AuditRefused: the role, a grant or a table is missing.
        OSError, asyncpg.PostgresConnectionError: PostgreSQL does not answer.
    """
    async with open_audit(database_url, name="funnel get") as connection:
        row = await connection.fetchrow(_BY_KEY, organization_id, candidate_id)
    if row is None:
        return None
    ids = {"organization_id": organization_id, "candidate_id": candidate_id}
    return candidate_state(ids | dict(row))
