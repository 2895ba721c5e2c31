"""What all pages have in common: a limit, a cursor, the link to the next."""

from typing import NamedTuple
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from api.candidates import refuse_parameters
from api.cursors import Cursors
from api.database import Database
from api.gate import Admission
from api.limits import PAGE_ROWS, PAGE_ROWS_MAX
from api.problems import invalid_request, query_errors

CURSOR = "/query/cursor"


class ReadTools(NamedTuple):
    """What the routes that read need: the database, the cursors, and who may read."""

    database: Database
    cursors: Cursors
    admit: Admission


class PageQuery(BaseModel):
    """Which page, and how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(PAGE_ROWS, ge=1, le=PAGE_ROWS_MAX)
    cursor: str | None = None


def read_page_query(request: Request) -> PageQuery:
    """Which page the query asks for.

    Raises:
        Problem: 400, that cannot be told.
    """
    refuse_parameters(request, known=("limit", "cursor"))
    try:
        return PageQuery.model_validate(dict(request.query_params))
    except ValidationError as refusal:
        raise invalid_request(*query_errors(refusal)) from None


def next_link(request: Request, path: str, cursor: str, *, parameter: str = "cursor") -> str:
    """RFC 8288: the next page, as a path; the other parameters stay as they were asked."""
    asked = [item for item in request.query_params.multi_items() if item[0] != parameter]
    return f'<{path}?{urlencode([*asked, (parameter, cursor)])}>; rel="next"'
