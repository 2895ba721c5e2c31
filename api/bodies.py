"""The body of a request as one JSON object, within bounds of bytes and time.

It is read after the door and never before: whoever may not write sends nothing into memory.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from starlette.requests import Request

from api.limits import BODY_S_MAX
from api.problems import Problem, invalid_request
from domain.field_errors import FieldError

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


async def json_object(
    request: Request, *, bytes_max: int, media_types: tuple[str, ...] = (JSON,)
) -> dict[str, Any]:
    """The JSON object in the body.

    Raises:
        Problem: 400 no JSON object, 408 too slow, 413 too large, 415 no JSON by its own account.
        ClientDisconnect: nobody is there any more.
    """
    _refuse_other_media(request, media_types)
    body = await _read(request, bytes_max)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(
            HTTPStatus.BAD_REQUEST, "malformed_json", "The body is not valid JSON."
        ) from error
    if not isinstance(document, dict):
        raise invalid_request(FieldError("", "wrong_type", "An object is required."))
    return document


def _refuse_other_media(request: Request, media_types: tuple[str, ...]) -> None:
    """RFC 9110 8.3 and 8.4; JSON is UTF-8 whatever `charset` says (RFC 8259 8.1)."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoded = request.headers.get("content-encoding", "identity").strip().lower() != "identity"
    if media_type not in media_types or encoded:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            f"The body has to be {' or '.join(media_types)}, and not compressed.",
            headers={"accept": ", ".join(media_types)},
        )


async def _read(request: Request, bytes_max: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > bytes_max:
        raise _too_large(bytes_max)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S_MAX):
            async for chunk in request.stream():
                body += chunk
                if len(body) > bytes_max:
                    raise _too_large(bytes_max)
    except TimeoutError as error:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            "request_timeout",
            "The body did not arrive in time.",
            headers={"connection": "close"},
        ) from error
    return bytes(body)


def _too_large(bytes_max: int) -> Problem:
    """The rest of the body is not read, so the connection cannot go on."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        f"The body has more than {bytes_max} bytes.",
        headers={"connection": "close"},
    )
