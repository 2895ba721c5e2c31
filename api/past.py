"""`?version=` and `?as_of=`: a candidate as it was, told by the journal."""

from datetime import datetime
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from api.candidates import Past, refuse_parameters
from api.database import Database
from api.instants import Instant
from api.journal_queries import NoLongerKept, read_past
from api.problems import Problem, invalid_request, query_errors
from api.queries import CandidateKey
from domain.candidate import CandidateState
from domain.field_errors import FieldError
from domain.fields import Version


class PastQuery(BaseModel):
    """Which past: a version, or an instant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Version | None = None
    as_of: Instant | None = None


def past_of(database: Database) -> Past:
    """What answers a request for a candidate that has parameters."""

    async def past(request: Request, key: CandidateKey) -> CandidateState | None:
        version, as_of = _asked(request)
        try:
            return await read_past(database, *key, version=version, as_of=as_of)
        except NoLongerKept as gone:
            raise no_longer_kept() from gone

    return past


def no_longer_kept() -> Problem:
    """410: it was, and nothing tells any more what it was."""
    return Problem(HTTPStatus.GONE, "no_longer_kept", "The journal does not reach back that far.")


def _asked(request: Request) -> tuple[int | None, datetime | None]:
    refuse_parameters(request, known=("version", "as_of"))
    try:
        query = PastQuery.model_validate(dict(request.query_params))
    except ValidationError as refusal:
        raise invalid_request(*query_errors(refusal)) from None
    if query.version is not None and query.as_of is not None:
        raise invalid_request(
            FieldError("/query/as_of", "unknown_field", "A version or an instant, not both.")
        )
    return query.version, query.as_of
