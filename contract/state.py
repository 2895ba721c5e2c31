"""A candidate's row as the state that events, the API and operators see."""

from collections.abc import Mapping
from typing import Any

import orjson

from contract.journal import timestamp_text
from domain.candidate import CandidateState


def candidate_state(row: Mapping[str, Any]) -> CandidateState:
    """The state in `row`, whose ids may be UUIDs and whose `attributes` are JSON text."""
    return {
        "organization_id": str(row["organization_id"]),
        "candidate_id": str(row["candidate_id"]),
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
