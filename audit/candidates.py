"""Looks at the state of one candidate, for operators; reads with the auditor's role."""

from importlib.resources import files
from uuid import UUID

import asyncpg
import orjson

from contract.journal import timestamp_text
from domain.candidate import CandidateState

ROLE = "funnel_audit"
_ANSWER_SECONDS_MAX = 10.0
_BY_KEY = (files("audit") / "sql" / "candidate_by_key.sql").read_text()


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
    return {
        "organization_id": str(organization_id),
        "candidate_id": str(candidate_id),
        "first_name": row["first_name"],
        "last_name": row["last_name"],
        "email": row["email"],
        "phone": row["phone"],
        "status": row["status"],
        "pipeline_stage": row["pipeline_stage"],
        "rating": row["rating"],
        "source": row["source"],
        "tags": row["tags"],
        "attributes": orjson.loads(row["attributes"]),
        "version": row["version"],
        "created_at": timestamp_text(row["created_at"]),
        "updated_at": timestamp_text(row["updated_at"]),
    }
