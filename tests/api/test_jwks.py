"""Tokens of an issuer whose keys are fetched, from a server that counts how often."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.auth import InvalidToken, KeysAway, TokenVerifier
from api.jwks import JwksKeys, JwksSource, usable_keys
from api.limits import KEYS_FRESH_S, KEYS_RETRY_S, KEYS_STALE_S_MAX
from funnel.issuers import FIREBASE_ISSUER, firebase, verifier_of
from funnel.settings import Settings
from tests.api.asking import until
from tests.api.rows import ORGANIZATION

PROJECT = "gulf-recruiting"


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Issuer:
    """An issuer on this machine; what it serves can be changed."""

    url: str = ""
    jwks: Any = None
    status: int = 200
    fetches: int = 0
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def discovery(self, _request: Request) -> Response:
        return JSONResponse({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    async def keys(self, _request: Request) -> Response:
        self.fetches += 1
        await self.answers.wait()
        return JSONResponse(self.jwks, self.status)

    async def redirect(self, _request: Request) -> Response:
        return Response(status_code=302, headers={"location": f"{self.url}/keys"})


@pytest.fixture
async def issuer(rsa_key: rsa.RSAPrivateKey) -> AsyncIterator[Issuer]:
    issuer = Issuer(jwks={"keys": [jwk(rsa_key, "one")]})
    issuer.answers.set()
    app = Starlette(
        routes=[
            Route("/.well-known/openid-configuration", issuer.discovery),
            Route("/keys", issuer.keys),
            Route("/moved", issuer.redirect),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        issuer.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await until(lambda: server.started)
        yield issuer
        issuer.answers.set()
        server.should_exit = True
        await serving


def jwk(key: Any, kid: str, **other: Any) -> dict[str, Any]:
    kind = (
        jwt.algorithms.RSAAlgorithm
        if isinstance(key, rsa.RSAPrivateKey)
        else jwt.algorithms.ECAlgorithm
    )
    return kind.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"} | other


class Clock:
    """Moves when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def keys_of(issuer: Issuer, clock: Clock, **source: str) -> JwksKeys:
    return JwksKeys(JwksSource(**{"issuer": issuer.url} | source), algorithm="RS256", clock=clock)


async def test_keys__are_discovered_and_fetched_once_for_all_who_ask_at_once(
    issuer: Issuer, rsa_key: rsa.RSAPrivateKey
) -> None:
    keys = keys_of(issuer, Clock())

    found = await asyncio.gather(*(keys.key("one") for _ in range(20)))

    assert {key and key.public_numbers() for key in found} == {  # type: ignore[union-attr]
        rsa_key.public_key().public_numbers()
    }
    assert issuer.fetches == 1


async def test_unknown_kid__asks_the_issuer_at_most_once_in_a_while(
    issuer: Issuer, rsa_key: rsa.RSAPrivateKey
) -> None:
    clock = Clock()
    keys = keys_of(issuer, clock, jwks_url=f"{issuer.url}/keys")
    await keys.key("one")

    clock.now += KEYS_RETRY_S
    assert [await keys.key(f"forged-{n}") for n in range(50)] == [None] * 50
    assert issuer.fetches == 2

    issuer.jwks["keys"].append(jwk(rsa_key, "two"))
    assert await keys.key("two") is None
    clock.now += KEYS_RETRY_S
    assert await keys.key("two") is not None
    assert issuer.fetches == 3


async def test_issuer_away__known_keys_go_on_for_a_day_and_a_withdrawn_one_ends(
    issuer: Issuer,
) -> None:
    clock = Clock()
    keys = keys_of(issuer, clock, jwks_url=f"{issuer.url}/keys")
    await keys.key("one")

    issuer.status = 500
    clock.now += KEYS_FRESH_S
    assert await keys.key("one") is not None
    await until(lambda: issuer.fetches == 2 and keys._fetching is None)
    clock.now += KEYS_STALE_S_MAX
    with pytest.raises(KeysAway):
        await keys.key("one")

    issuer.status = 200
    clock.now += KEYS_RETRY_S
    assert await keys.key("one") is not None
    issuer.jwks = {"keys": []}
    clock.now += KEYS_FRESH_S
    await keys.key("one")
    await until(lambda: keys._fetching is None)
    assert await keys.key("one") is None


async def test_fetch__does_not_hold_up_who_has_a_known_key(issuer: Issuer) -> None:
    clock = Clock()
    keys = keys_of(issuer, clock, jwks_url=f"{issuer.url}/keys")
    await keys.key("one")

    issuer.answers.clear()
    clock.now += KEYS_FRESH_S

    assert await keys.key("one") is not None
    await until(lambda: issuer.fetches == 2)


@pytest.mark.parametrize(
    "jwks", [[], {}, {"keys": "none"}, {"keys": [], "padding": "x" * 300_000}, "keys"]
)
async def test_issuer_that_answers_something_else__is_as_if_it_were_away(
    issuer: Issuer, jwks: Any
) -> None:
    issuer.jwks = jwks

    with pytest.raises(KeysAway):
        await keys_of(issuer, Clock(), jwks_url=f"{issuer.url}/keys").key("one")


@pytest.mark.parametrize("jwks_url", ["{}/moved", "{}/nowhere", "http://127.0.0.1:1/keys"])
async def test_url__is_not_left_for_another(issuer: Issuer, jwks_url: str) -> None:
    with pytest.raises(KeysAway):
        await keys_of(issuer, Clock(), jwks_url=jwks_url.format(issuer.url)).key("one")
    assert issuer.fetches == 0


def test_usable_keys__are_of_the_one_algorithm_and_for_signatures(
    rsa_key: rsa.RSAPrivateKey,
) -> None:
    document = {
        "keys": [
            jwk(rsa_key, "good"),
            jwk(rsa_key, "also good", alg="RS256"),
            jwk(rsa_key, "other algorithm", alg="RS512"),
            jwk(rsa_key, "for encryption", use="enc"),
            jwk(ec.generate_private_key(ec.SECP256R1()), "other kind"),
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared secret"},
            {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "broken"},
            {"kty": "RSA", "kid": 7},
            "nonsense",
        ]
    }

    assert usable_keys(document, "RS256").keys() == {"good", "also good"}


async def test_settings__say_whose_tokens_are_believed(
    issuer: Issuer, rsa_key: rsa.RSAPrivateKey
) -> None:
    settings = Settings(oidc_issuer=issuer.url, oidc_audience="gulf-funnel")
    verifier = verifier_of(settings)

    def token(**other: Any) -> str:
        mine = claims(**{"iss": issuer.url, "aud": "gulf-funnel"} | other)
        return jwt.encode(mine, rsa_key, "RS256", headers={"kid": "one"})

    assert (await verifier.verify(token())).user == "firebase-user"
    for bad in ({"aud": PROJECT}, {"iss": FIREBASE_ISSUER + PROJECT}):
        with pytest.raises(InvalidToken):
            await verifier.verify(token(**bad))


def claims(**other: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "iss": FIREBASE_ISSUER + PROJECT,
        "aud": PROJECT,
        "sub": "firebase-user",
        "organization_id": ORGANIZATION,
        "scope": "candidates:read",
        "iat": now,
        "auth_time": now - 60,
        "exp": now + 3600,
    }
    return {name: value for name, value in (good | other).items() if value is not None}


@pytest.fixture
def firebase_verifier(issuer: Issuer) -> TokenVerifier:
    return firebase(PROJECT, keys_url=f"{issuer.url}/keys")


async def test_firebase__lets_its_users_in(
    firebase_verifier: TokenVerifier, rsa_key: rsa.RSAPrivateKey
) -> None:
    token = jwt.encode(claims(), rsa_key, "RS256", headers={"kid": "one"})

    principal = await firebase_verifier.verify(token)

    assert (principal.user, principal.organization_id) == ("firebase-user", ORGANIZATION)


@pytest.mark.parametrize(
    "bad",
    [
        {"auth_time": None},
        {"auth_time": time.time() + 3600},
        {"sub": ""},
        {"sub": None},
        {"aud": "another-project"},
        {"iss": FIREBASE_ISSUER + "another-project"},
        {"iat": None},
        {"iat": time.time() + 3600},
        {"exp": time.time() - 3600},
        {"organization_id": None},
    ],
)
async def test_firebase__refuses_what_its_documentation_says(
    firebase_verifier: TokenVerifier, rsa_key: rsa.RSAPrivateKey, bad: dict[str, Any]
) -> None:
    token = jwt.encode(claims(**bad), rsa_key, "RS256", headers={"kid": "one"})

    with pytest.raises(InvalidToken):
        await firebase_verifier.verify(token)
