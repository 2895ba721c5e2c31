"""An issuer's public keys, fetched over HTTP and remembered (RFC 7517, OpenID Connect Discovery).

`kid` is a key into what was fetched and nothing else: no token can name a place to fetch from, and
whatever tokens say, the issuer is asked at most once in `KEYS_RETRY_S`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import jwt
import orjson
import structlog

from api.auth import Algorithm, KeysAway, PublicKey
from api.limits import (
    KEYS_BYTES_MAX,
    KEYS_FETCH_S_MAX,
    KEYS_FRESH_S,
    KEYS_MAX,
    KEYS_RETRY_S,
    KEYS_STALE_S_MAX,
)

log = structlog.get_logger("api")

DISCOVERY = "/.well-known/openid-configuration"


class KeysUnreadable(Exception):
    """The issuer answers, but not with what its standard says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwksSource:
    """Where the keys are: at `jwks_url`, or where the issuer's own document says."""

    issuer: str
    jwks_url: str = ""


class JwksKeys:
    """The keys of one issuer for one algorithm; a `KeySource`.

    Known keys are used while they are fetched anew, and for a day if that fails.
    """

    def __init__(
        self,
        source: JwksSource,
        *,
        algorithm: Algorithm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._algorithm = algorithm
        self._clock = clock
        self._keys: Mapping[str, PublicKey] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: str) -> PublicKey | None:
        """The key of that id, None if the issuer has none.

        Raises:
            KeysAway: no keys are known, and none can be fetched.
        """
        known = self._known(kid)
        if known is None or self._age >= KEYS_FRESH_S:
            fetching = self._fetch_if_due()
            if known is None and fetching is not None:
                await asyncio.shield(fetching)
                known = self._known(kid)
        if known is None and self._age >= KEYS_STALE_S_MAX:
            raise KeysAway
        return known

    @property
    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _known(self, kid: str) -> PublicKey | None:
        return self._keys.get(kid) if self._age < KEYS_STALE_S_MAX else None

    def _fetch_if_due(self) -> asyncio.Task[None] | None:
        """The one fetch that is under way or begins now; None if it is too early for another."""
        if self._fetching is None and self._clock() - self._tried_at >= KEYS_RETRY_S:
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(KEYS_FETCH_S_MAX):
                self._keys = usable_keys(await _key_set(self._source), self._algorithm)
            self._fetched_at = self._clock()
        except (httpx2.HTTPError, httpx2.InvalidURL, KeysUnreadable, TimeoutError) as error:
            cause = type(error).__name__
            log.warning("the issuer's keys were not fetched", action="keys_away", cause=cause)
        finally:
            self._fetching = None


def usable_keys(document: Mapping[str, Any], algorithm: Algorithm) -> dict[str, PublicKey]:
    """The keys of a JWK set that may sign for this algorithm, by `kid`; others are left out.

    Raises:
        KeysUnreadable: it is no JWK set.
    """
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise KeysUnreadable("no keys")
    keys: dict[str, PublicKey] = {}
    for each in listed[:KEYS_MAX]:
        if not isinstance(each, dict) or not isinstance(each.get("kid"), str):
            continue
        if each.get("use", "sig") != "sig" or each.get("alg", algorithm) != algorithm:
            continue
        try:
            key = jwt.PyJWK(each, algorithm=algorithm).key
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if hasattr(key, "verify"):  # a public key: nobody publishes the other one on purpose
            keys[each["kid"]] = key
    return keys


async def _key_set(source: JwksSource) -> Mapping[str, Any]:
    async with httpx2.AsyncClient(follow_redirects=False, timeout=KEYS_FETCH_S_MAX) as client:
        return await _document(client, source.jwks_url or await _discovered(client, source.issuer))


async def _discovered(client: httpx2.AsyncClient, issuer: str) -> str:
    found = await _document(client, issuer.rstrip("/") + DISCOVERY)
    url = found.get("jwks_uri")
    if found.get("issuer") != issuer or not isinstance(url, str):
        raise KeysUnreadable("another issuer, or no jwks_uri")
    if url.partition(":")[0] != issuer.partition(":")[0]:
        raise KeysUnreadable("jwks_uri is not of the issuer's scheme")
    return url


async def _document(client: httpx2.AsyncClient, url: str) -> Mapping[str, Any]:
    body = bytearray()
    async with client.stream("GET", url, headers={"accept": "application/json"}) as answer:
        if answer.status_code != httpx2.codes.OK:
            raise KeysUnreadable(f"status {answer.status_code}")
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > KEYS_BYTES_MAX:
                raise KeysUnreadable("too large")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise KeysUnreadable("not JSON") from error
    if not isinstance(document, dict):
        raise KeysUnreadable("not an object")
    return document
