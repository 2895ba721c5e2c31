"""Looks at the state of one candidate, for operators; reads with the auditor's role."""

from uuid import UUID

import asyncpg

from audit.sqlfiles import statement
from contract.state import candidate_state
from domain.candidate import CandidateState

ROLE = "funnel_audit"
_ANSWER_SECONDS_MAX = 10.0
_BY_KEY = statement("candidate_by_key")


async def read_candidate(
    database_url: str, *, organization_id: UUID, candidate_id: UUID
) -> CandidateState | None:
    """The candidate as it is now, or None.

    Raises:
        OSError, asyncpg.PostgresError: the database is away or does not allow it.
    """
    connection = await asyncpg.connect(
        database_url,
        timeout=_ANSWER_SECONDS_MAX,
        command_timeout=_ANSWER_SECONDS_MAX,
        server_settings={"role": ROLE},
    )
    try:
        row = await connection.fetchrow(_BY_KEY, organization_id, candidate_id)
    finally:
        await connection.close(timeout=_ANSWER_SECONDS_MAX)
    if row is None:
        return None
    ids = {"organization_id": organization_id, "candidate_id": candidate_id}
    return candidate_state(ids | dict(row))
