"""The door: a request with a valid token and the right scope passes, any other is 401 or 403."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Literal

from starlette.requests import Request

from api.auth import InvalidToken, KeysAway, Principal, TokenVerifier
from api.observe import add_headers
from api.ports import CommandSender
from api.problems import Problem, unavailable
from api.rates import WriteLimit

Scope = Literal[
    "candidates:read",
    "candidates:write",
    "candidates:erase",
    "operations:manage",
    "audit:read",
    "platform:operate",
]
Admission = Callable[[Request], Awaitable[Principal]]

BEARER = "Bearer"


LOOKING_BACK: tuple[Scope, ...] = ("candidates:read", "audit:read")
"""Who may read what became of candidates: who may read them, and auditors, who may do no more."""


def admission(verifier: TokenVerifier, *scopes: Scope) -> Admission:
    """What a route that needs one of `scopes` asks first; also a FastAPI dependency."""

    async def admit(request: Request) -> Principal:
        try:
            principal = await verifier.verify(_token(request))
        except InvalidToken as error:
            raise _unauthenticated(str(error), f'{BEARER} error="invalid_token"') from error
        except KeysAway as error:
            raise unavailable("Tokens cannot be checked now.") from error
        if principal.scopes.isdisjoint(scopes):
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "missing_scope",
                f"The token needs the scope {' or '.join(scopes)}.",
                headers={
                    "www-authenticate": f'{BEARER} error="insufficient_scope", scope="{scopes[0]}"'
                },
            )
        return principal

    return admit


def write_admission(admit: Admission, *, sender: CommandSender, limit: WriteLimit) -> Admission:
    """Beyond `admit`: Kafka takes commands, and the user's allowance has one more."""

    async def admit_write(request: Request) -> Principal:
        principal = await admit(request)
        if sender.is_away:
            raise unavailable("Kafka is away.")
        add_headers(request, await limit.take(principal))
        return principal

    return admit_write


def _token(request: Request) -> str:
    """RFC 6750 2.1; a token in the query or in a form is none."""
    fields = request.headers.getlist("authorization")
    if len(fields) != 1:
        raise _unauthenticated("A bearer token is required.", BEARER)
    kind, _, token = fields[0].partition(" ")
    if kind.lower() != "bearer":
        raise _unauthenticated("A bearer token is required.", BEARER)
    return token.strip(" ")


def _unauthenticated(detail: str, challenge: str) -> Problem:
    """401, with the challenge of RFC 6750 3."""
    return Problem(
        HTTPStatus.UNAUTHORIZED, "unauthenticated", detail, headers={"www-authenticate": challenge}
    )
