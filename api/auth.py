"""Who asks: a bearer JWT becomes a `Principal`, or the request ends.

One pinned asymmetric algorithm; `kid` only picks among known keys, and `jku`, `x5u` and `jwk` are
never looked at. The organization comes from the token and from nowhere else.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from api.limits import (
    CLOCK_SKEW_S,
    TOKEN_CHARACTERS_MAX,
    TOKEN_REMEMBERED_S_MAX,
    TOKENS_REMEMBERED_MAX,
)
from domain.field_errors import scalar_flaw
from domain.limits import ACTOR_CHARACTERS_MAX

Algorithm = Literal["ES256", "EdDSA", "RS256"]
PublicKey = EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey


class InvalidToken(Exception):
    """The token is not one of ours, or not valid now; the message tells no more than that."""


class KeysAway(Exception):
    """The issuer's keys are not known now, so no token can be checked."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a valid token speaks for; `organization_id` is canonical."""

    user: str
    organization_id: str
    scopes: frozenset[str]


class KeySource(Protocol):
    """The issuer's public keys."""

    async def key(self, kid: str) -> PublicKey | None:
        """The key of that id, None if there is none.

        Raises:
            KeysAway: nobody can tell now.
        """


class TokenVerifier:
    """Checks tokens of one issuer for one audience; remembers valid ones for a while.

    Args:
        required_claims: beside `exp`, `sub`, `iss` and `aud`.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        algorithm: Algorithm,
        issuer: str,
        audience: str,
        required_claims: Sequence[str] = (),
    ) -> None:
        self._keys = keys
        self._algorithm = algorithm
        self._issuer = issuer
        self._audience = audience
        self._required = ["exp", "sub", "iss", "aud", *required_claims]
        self._verified: dict[str, _Verified] = {}

    async def verify(self, token: str) -> Principal:
        """Whom the token speaks for.

        Raises:
            InvalidToken: for whatever is wrong with it.
            KeysAway: it cannot be checked now.
        """
        now = time.time()
        verified = self._verified.get(token)
        if verified is not None and now < verified.until:
            return verified.principal
        self._verified.pop(token, None)
        claims = await self._claims(token)
        principal = _principal(claims, now)
        until = min(now + TOKEN_REMEMBERED_S_MAX, float(claims["exp"]))
        if len(self._verified) >= TOKENS_REMEMBERED_MAX:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = _Verified(principal, until)
        return principal

    async def _claims(self, token: str) -> Mapping[str, Any]:
        """RFC 7519 and RFC 8725: signature, issuer, audience, `exp`, `nbf`, `iat`."""
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise InvalidToken("The token is too long.")
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._keys.key(kid) if isinstance(kid, str) else None
            if key is None:
                raise InvalidToken("The token names no known key.")
            return jwt.decode(
                token,
                key,
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=CLOCK_SKEW_S,
                options={"require": self._required},
            )
        except jwt.ExpiredSignatureError as error:
            raise InvalidToken("The token has expired.") from error
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidToken("The token is not valid.") from error


class _Verified(NamedTuple):
    principal: Principal
    until: float


def _principal(claims: Mapping[str, Any], now: float) -> Principal:
    user = claims["sub"]
    if not user.strip() or len(user) > ACTOR_CHARACTERS_MAX or scalar_flaw(user):
        raise InvalidToken("The token names no user.")
    auth_time = claims.get("auth_time", 0)
    if not isinstance(auth_time, int | float) or auth_time > now + CLOCK_SKEW_S:
        raise InvalidToken("The token is not valid.")
    return Principal(
        user, _organization_id(claims.get("organization_id")), _scopes(claims.get("scope"))
    )


def _organization_id(claim: object) -> str:
    try:
        canonical = str(UUID(claim)) if isinstance(claim, str) else None
    except ValueError:
        canonical = None
    if canonical is None or canonical != str(claim).lower():
        raise InvalidToken("The token names no organization.")
    return canonical


def _scopes(claim: object) -> frozenset[str]:
    """RFC 8693 4.2: text with spaces between; some issuers send a list."""
    if claim is None:
        return frozenset()
    scopes = claim.split(" ") if isinstance(claim, str) else claim
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise InvalidToken("The token is not valid.")
    return frozenset(scopes)
