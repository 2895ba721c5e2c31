"""`POST /candidates`, `PATCH` and `DELETE /candidates/{id}`: one candidate written by a command.

The answer's body is the candidate at the version that the command made, from the journal: it is
the same however often the request is repeated.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol
from uuid import UUID, uuid5

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.bodies import JSON, MERGE_PATCH, json_object
from api.candidates import BareRoute, candidate_id_of, refuse_parameters
from api.gate import Admission
from api.headers import entity_tag, version_matched
from api.journal_queries import NoLongerKept
from api.limits import BODY_BYTES_MAX
from api.past import no_longer_kept
from api.problems import invalid_request
from api.queries import CandidateKey
from api.refusals import erased
from api.write_docs import CREATE, ERASE, PATCH
from api.writing import Writes
from contract.events import EventBuilder
from contract.journal import JournalRow
from domain.candidate import CandidateState
from domain.commands import CREATE as CREATE_COMMAND
from domain.commands import ERASE as ERASE_COMMAND
from domain.field_errors import FieldError
from domain.identity import Identity

_IDS = UUID("6a0f7c0e-6f0a-5f7e-9a3b-0d7b6f0c2b11")
"""The namespace of candidates' ids that we choose; any fixed UUID."""

_IN_PATCH = {
    "/changes": "",
    "/candidate_id": "/path/candidate_id",
    "/expected_version": "/header/if-match",
    "/on_conflict": "/query/on_conflict",
}
_IN_CREATE = {"/candidate": "", "/candidate_id": "/id"}
_IN_ERASE = {"/candidate_id": "/path/candidate_id", "/reason": "/query/reason"}


class VersionReader(Protocol):
    """Reads a candidate at a version; raises `NoLongerKept` where nothing tells."""

    async def __call__(
        self, organization_id: str, candidate_id: str, *, version: int | None
    ) -> CandidateState | None: ...


def add_candidate_write_routes(
    app: FastAPI,
    *,
    base_path: str,
    writes: Writes,
    past: VersionReader,
    builder: EventBuilder,
    admit_writer: Admission,
    admit_eraser: Admission,
) -> None:
    """The three. The admissions let in who may write, and who may erase."""

    async def patch_candidate(request: Request) -> Response:
        """Change one candidate: absent keeps, null clears, a value sets (RFC 7396).

        Answers once the change is made, or 202 when that takes longer than `Prefer: wait`.
        """
        asked = writes.ask(request, await admit_writer(request))
        refuse_parameters(request, known=("on_conflict",))
        _refuse_conditions(request, "if-none-match")
        candidate_id = candidate_id_of(request)
        changes = await json_object(
            request, bytes_max=BODY_BYTES_MAX, media_types=(JSON, MERGE_PATCH)
        )
        _refuse_other_id(changes.pop("id", candidate_id), candidate_id)
        data: dict[str, Any] = {"candidate_id": candidate_id, "changes": changes}
        data |= _condition(request)
        written = await writes.write(asked, "candidate.update.v1", data, _IN_PATCH)
        if written.settled is None:
            return writes.pending(written)
        key = asked.principal.organization_id, candidate_id
        return _candidate(await _state(past, written.settled, key), HTTPStatus.OK, asked.headers)

    async def create_candidate(request: Request) -> Response:
        """Create a candidate, under the `id` in the body or a new one."""
        asked = writes.ask(request, await admit_writer(request))
        refuse_parameters(request)
        _refuse_conditions(request, "if-match")
        candidate = await json_object(request, bytes_max=BODY_BYTES_MAX)
        candidate_id = candidate.pop("id") if "id" in candidate else _new_id(asked.identity)
        data = {"candidate_id": candidate_id, "candidate": candidate}
        written = await writes.write(asked, CREATE_COMMAND, data, _IN_CREATE)
        if written.settled is None:
            return writes.pending(written)
        key = asked.principal.organization_id, candidate_id.lower()
        location = f"{base_path}/candidates/{key[1]}"
        headers = {"location": location, **asked.headers}
        return _candidate(await _state(past, written.settled, key), HTTPStatus.CREATED, headers)

    async def erase_candidate(request: Request) -> Response:
        """Make a person's data unreadable for good; the id stays blocked. `reason` is kept."""
        asked = writes.ask(request, await admit_eraser(request))
        refuse_parameters(request, known=("reason",))
        _refuse_conditions(request, "if-match", "if-none-match")
        candidate_id = candidate_id_of(request)
        reason = request.query_params.get("reason", "")
        if not reason.strip():
            raise invalid_request(FieldError("/query/reason", "missing", "A reason is required."))
        data = {"candidate_id": candidate_id, "reason": reason}
        written = await writes.write(asked, ERASE_COMMAND, data, _IN_ERASE)
        if written.settled is None:
            return writes.pending(written)
        return Response(
            builder.result(written.settled).value,
            HTTPStatus.ACCEPTED,
            {"location": writes.location(written), **asked.headers},
            media_type=JSON,
        )

    one, all_of_them = f"{base_path}/candidates/{{candidate_id}}", f"{base_path}/candidates"
    for path, method, endpoint, documented in (
        (one, "PATCH", patch_candidate, PATCH),
        (all_of_them, "POST", create_candidate, CREATE),
        (one, "DELETE", erase_candidate, ERASE),
    ):
        app.router.add_api_route(
            path, endpoint, methods=[method], route_class_override=BareRoute, **documented
        )


def _refuse_other_id(told: object, candidate_id: str) -> None:
    if not isinstance(told, str) or told.lower() != candidate_id:
        raise invalid_request(
            FieldError("/id", "not_one_of", "The id has to be the one in the path.")
        )


def _refuse_conditions(request: Request, *fields: str) -> None:
    """400 rather than a write whatever the condition: no command carries it (RFC 9110 13.1)."""
    for field in fields:
        if field in request.headers:
            raise invalid_request(
                FieldError(f"/header/{field}", "unknown_field", "This request takes no condition.")
            )


def _condition(request: Request) -> dict[str, Any]:
    """`If-Match` and `?on_conflict=` as members of the command."""
    condition: dict[str, Any] = {}
    try:
        version = version_matched(request.headers.getlist("if-match"))
    except ValueError:
        raise invalid_request(
            FieldError("/header/if-match", "malformed", "One entity tag as GET gives is required.")
        ) from None
    if version is not None:
        condition["expected_version"] = version
    if "on_conflict" in request.query_params:
        condition["on_conflict"] = request.query_params["on_conflict"]
    return condition


def _new_id(identity: Identity) -> str:
    """Derived, so that a repeated request names the same candidate."""
    return str(uuid5(_IDS, identity.key))


async def _state(past: VersionReader, row: JournalRow, key: CandidateKey) -> Mapping[str, Any]:
    """The candidate at the version that the command made or found, however long ago."""
    if row.change is not None:
        told: Mapping[str, Any] = orjson.loads(row.change)["state"]
        return told
    try:
        state = await past(*key, version=row.version)
    except NoLongerKept:
        raise no_longer_kept() from None
    if state is None:
        raise erased(row)
    return state


def _candidate(
    state: Mapping[str, Any], status: HTTPStatus, headers: Mapping[str, str]
) -> Response:
    return Response(
        orjson.dumps(state),
        status,
        {"etag": entity_tag(state["version"]), **headers},
        media_type=JSON,
    )
