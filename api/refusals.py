"""What a refused command is over HTTP: one problem for each reason of CONTRACT.md 5."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson

from api.problems import Problem, invalid_request
from contract.journal import JournalRow
from domain.commands import CREATE
from domain.field_errors import FieldError

Places = Mapping[str, str]
"""Pointers into a command's data, and where in the request that part stands."""

_REFUSALS: Mapping[str, tuple[HTTPStatus, str]] = {
    "version_conflict": (
        HTTPStatus.PRECONDITION_FAILED,
        "The candidate is at another version than If-Match says.",
    ),
    "not_found": (HTTPStatus.NOT_FOUND, "Candidate not found."),
    "already_exists": (HTTPStatus.CONFLICT, "There is a candidate of this id."),
    "too_old": (HTTPStatus.BAD_REQUEST, "The Idempotency-Key is a UUIDv7 that is too old."),
    "too_many": (HTTPStatus.BAD_REQUEST, "The filter matches too many candidates."),
    "operation_closed": (HTTPStatus.CONFLICT, "The operation is over."),
    "not_allowed": (HTTPStatus.CONFLICT, "The state that it is in does not allow this."),
}
_TOLD = ("current_version", "fields")


def refusal(row: JournalRow, places: Places) -> Problem | None:
    """The problem that this row of an ended command is, or None if it was not refused."""
    details: dict[str, Any] = orjson.loads(row.details or b"{}")
    if row.kind == "dead_letter":
        return Problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "dead_lettered",
            "The command could not be applied; an operator can see why.",
            extension={"error_code": details.get("error_code")},
        )
    if row.outcome != "rejected":
        return None
    if row.reason == "invalid":
        errors = [FieldError(**error) for error in details.get("errors", ())]
        return invalid_there(errors, places)
    if row.reason == "erased":
        return erased(row)
    status, detail = _REFUSALS[row.reason or ""]
    extension = {name: details[name] for name in _TOLD if name in details}
    return Problem(status, row.reason or "", detail, extension=extension)


def erased(row: JournalRow) -> Problem:
    """What an erased candidate is to this command: not there; to one that creates, in the way."""
    if row.command_type == CREATE:
        return Problem(
            HTTPStatus.CONFLICT, "erased", "A candidate of this id was erased: it stays blocked."
        )
    return Problem(HTTPStatus.NOT_FOUND, "erased", "The candidate was erased.")


def reused_key() -> Problem:
    """422: the first request of this key was another one, and keeps its answer."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "id_reused",
        "The Idempotency-Key was used for another request.",
    )


def invalid_there(errors: Sequence[FieldError], places: Places) -> Problem:
    """400, its pointers into the request instead of into the command."""
    return invalid_request(
        *(error._replace(pointer=_placed(error.pointer, places)) for error in errors)
    )


def _placed(pointer: str, places: Places) -> str:
    for prefix, place in places.items():
        if pointer == prefix or pointer.startswith(prefix + "/"):
            return place + pointer.removeprefix(prefix)
    return pointer
