"""Who gets in: every kind of token at every route that needs one."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, get_args

import httpx2
import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.auth import InvalidToken, TokenVerifier
from api.dev_keys import AUDIENCE, ISSUER, DevKeys
from api.gate import Scope
from api.limits import TOKEN_CHARACTERS_MAX
from tests.api.asking import (
    Token,
    all_candidates_path,
    application,
    candidate_path,
    changes_path,
    command_path,
    history_path,
)
from tests.api.routes import Guarded, guarded_routes
from tests.api.rows import CANDIDATE, ORGANIZATION

HOUR = 3600


def claims(**other: Any) -> dict[str, Any]:
    """Good claims, but for those named; None leaves one out."""
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "organization_id": ORGANIZATION,
        "scope": "candidates:read",
        "iat": now,
        "exp": now + HOUR,
    }
    return {name: value for name, value in (good | other).items() if value is not None}


def signed(keys: DevKeys, header: dict[str, Any] | None = None, **other: Any) -> str:
    """Signed by the right key."""
    headers = {"kid": keys.kid} | (header or {})
    return jwt.encode(claims(**other), keys.private_key, "ES256", headers=headers)


def assembled(header: dict[str, Any] | bytes, sign: Callable[[bytes], bytes], **other: Any) -> str:
    """Put together by hand: what no library would sign."""
    head = header if isinstance(header, bytes) else orjson.dumps(header)
    text = b".".join(map(_base64, (head, orjson.dumps(claims(**other)))))
    return (text + b"." + _base64(sign(text))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _hmac_with_public_key(keys: DevKeys) -> str:
    pem = keys.private_key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    return assembled(
        {"alg": "HS256", "typ": "JWT", "kid": keys.kid},
        lambda text: hmac.digest(pem, text, hashlib.sha256),
    )


def _by_another_key(keys: DevKeys) -> str:
    stranger = ec.generate_private_key(ec.SECP256R1())
    own = jwt.algorithms.ECAlgorithm.to_jwk(stranger.public_key(), as_dict=True)
    headers = {"kid": keys.kid, "jwk": own, "jku": "https://evil.example/keys"}
    return jwt.encode(claims(), stranger, "ES256", headers=headers)


def _tampered(keys: DevKeys) -> str:
    head, _, signature = signed(keys).split(".")
    other = _base64(orjson.dumps(claims(sub="eve"))).decode()
    return f"{head}.{other}.{signature}"


def _now() -> int:
    return int(time.time())


BAD_TOKENS: dict[str, Callable[[DevKeys], str]] = {
    "empty": lambda _keys: "",
    "garbage": lambda _keys: "garbage",
    "three parts of garbage": lambda _keys: "a.b.c",
    "not base64": lambda _keys: "ё.ё.ё",
    "deep header": lambda _keys: assembled(b"[" * 3000, lambda _text: b""),
    "too long": lambda keys: signed(keys, scope="x" * TOKEN_CHARACTERS_MAX),
    "alg none": lambda keys: assembled({"alg": "none", "kid": keys.kid}, lambda _text: b""),
    "alg none in capitals": lambda keys: assembled(
        {"alg": "NONE", "kid": keys.kid}, lambda _text: b""
    ),
    "HMAC with the public key": _hmac_with_public_key,
    "another key, its own jwk in the header": _by_another_key,
    "tampered": _tampered,
    "unknown kid": lambda keys: signed(keys, {"kid": "../../etc/passwd"}),
    "no kid": lambda keys: jwt.encode(claims(), keys.private_key, "ES256"),
    "kid not text": lambda keys: assembled({"alg": "ES256", "kid": [keys.kid]}, lambda _text: b""),
    "critical extension": lambda keys: signed(keys, {"crit": ["b64"], "b64": False}),
    "wrong issuer": lambda keys: signed(keys, iss="https://evil.example"),
    "no issuer": lambda keys: signed(keys, iss=None),
    "wrong audience": lambda keys: signed(keys, aud="another-service"),
    "no audience": lambda keys: signed(keys, aud=None),
    "expired": lambda keys: signed(keys, exp=_now() - HOUR),
    "no expiry": lambda keys: signed(keys, exp=None),
    "expiry without end": lambda keys: signed(keys, exp=float("inf")),
    "issued in the future": lambda keys: signed(keys, iat=_now() + HOUR),
    "not yet valid": lambda keys: signed(keys, nbf=_now() + HOUR),
    "authenticated in the future": lambda keys: signed(keys, auth_time=_now() + HOUR),
    "auth_time not a number": lambda keys: signed(keys, auth_time="yesterday"),
    "no user": lambda keys: signed(keys, sub=None),
    "empty user": lambda keys: signed(keys, sub=""),
    "blank user": lambda keys: signed(keys, sub=" "),
    "user with a NUL": lambda keys: signed(keys, sub="a\0b"),
    "endless user": lambda keys: signed(keys, sub="x" * 201),
    "no organization": lambda keys: signed(keys, organization_id=None),
    "organization not a UUID": lambda keys: signed(keys, organization_id="acme"),
    "organization in braces": lambda keys: signed(keys, organization_id=f"{{{ORGANIZATION}}}"),
    "organization a list": lambda keys: signed(keys, organization_id=[ORGANIZATION]),
    "scope a number": lambda keys: signed(keys, scope=1),
    "scope a list of numbers": lambda keys: signed(keys, scope=[1]),
}


@pytest.fixture
def routes(keys: DevKeys) -> list[Guarded]:
    return guarded_routes(application("postgresql://nobody.invalid/none", keys))


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_bad_token__is_401_at_every_route(
    detached: httpx2.AsyncClient, keys: DevKeys, routes: list[Guarded], kind: str
) -> None:
    token = BAD_TOKENS[kind](keys)

    for method, path, _ in routes:
        answer = await detached.request(
            method, path, headers={b"authorization": f"Bearer {token}".encode()}
        )

        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthenticated"
        assert token == "" or token not in answer.text


@pytest.mark.parametrize("fields", [[], ["Basic YTpi"], ["Bearer"], ["token"], ["A", "B"]])
async def test_no_token__is_401_with_a_bare_challenge_at_every_route(
    detached: httpx2.AsyncClient, routes: list[Guarded], fields: list[str]
) -> None:
    for method, path, _ in routes:
        answer = await detached.request(
            method, path, headers=[("authorization", field) for field in fields]
        )

        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["code"] == "unauthenticated"


async def test_no_token__is_401_before_anything_else_is_told(
    detached: httpx2.AsyncClient, routes: list[Guarded]
) -> None:
    for method, path, _ in routes:
        for query in ("unknown=1", "access_token=x"):
            answer = await detached.request(method, f"{path}?{query}", content=b"{")
            assert answer.status_code == 401, path


async def test_missing_scope__is_403_and_named_at_every_route(
    detached: httpx2.AsyncClient, token: Token, routes: list[Guarded]
) -> None:
    for method, path, needed in routes:
        others = {*get_args(Scope), *(f"{each}er" for each in needed)} - {*needed}
        for scopes in ((), tuple(others)):
            answer = await detached.request(
                method, path, headers={"authorization": f"Bearer {token(scopes=scopes)}"}
            )

            assert answer.status_code == 403, path
            assert answer.json()["code"] == "missing_scope"
            assert (
                answer.headers["www-authenticate"]
                == f'Bearer error="insufficient_scope", scope="{needed[0]}"'
            )


AUDITED = (
    f"{candidate_path(CANDIDATE)}?version=1",
    f"{candidate_path(CANDIDATE)}?as_of=2026-01-01T00:00:00Z",
    history_path(CANDIDATE),
    changes_path(),
    command_path("order-1"),
    "/api/gulf-funnel/bulk-operations",
    f"/api/gulf-funnel/bulk-operations/{CANDIDATE}",
    f"/api/gulf-funnel/bulk-operations/{CANDIDATE}/items",
    f"/api/gulf-funnel/bulk-operations/{CANDIDATE}/events",
)
PRESENT = (candidate_path(CANDIDATE), all_candidates_path())


async def test_auditor__reads_what_was_and_nothing_else(
    detached: httpx2.AsyncClient, token: Token, routes: list[Guarded]
) -> None:
    headers = {"authorization": f"Bearer {token(scopes=('audit:read',))}"}

    let_in = [(await detached.get(path, headers=headers)).status_code for path in AUDITED]
    kept_out = [(await detached.get(path, headers=headers)).status_code for path in PRESENT]
    others = {
        (await detached.request(method, path, headers=headers)).status_code
        for method, path, scopes in routes
        if "audit:read" not in scopes
    }

    assert let_in == [503] * len(AUDITED)  # past the door; there is no database
    assert kept_out == [403] * len(PRESENT)
    assert others == {403}


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"scope": list(get_args(Scope))},
        {"aud": ["another", AUDIENCE]},
        {"organization_id": ORGANIZATION.upper()},
        {"nbf": 1, "auth_time": 1.5},
        {"iat": None},
        {"unknown": {"claim": 1}},
    ],
)
async def test_good_token__gets_in_at_every_route(
    detached: httpx2.AsyncClient, keys: DevKeys, routes: list[Guarded], good: dict[str, Any]
) -> None:
    good = {"scope": " ".join(get_args(Scope))} | good
    headers = {"authorization": f"bearer  {signed(keys, **good)}"}

    for method, path, _ in routes:
        answer = await detached.request(method, path, headers=headers)
        assert answer.status_code not in (401, 403, 404, 405, 500), path


async def test_verifier__remembers_a_token_no_longer_than_it_is_valid(
    keys: DevKeys, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = keys.verifier()
    short = token(lifetime=timedelta(seconds=5))
    assert (await verifier.verify(short)).user == "ada"

    later = time.time() + 30
    monkeypatch.setattr("api.auth.time.time", lambda: later)
    monkeypatch.setattr(jwt, "decode", _refuse)

    with pytest.raises(InvalidToken):
        await verifier.verify(short)


async def test_verifier__checks_a_remembered_token_again_after_a_while(
    keys: DevKeys, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {keys.kid: keys.private_key.public_key()}
    verifier = TokenVerifier(_Keys(known), algorithm="ES256", issuer=ISSUER, audience=AUDIENCE)
    long = token(lifetime=timedelta(hours=1))
    await verifier.verify(long)

    known.clear()
    assert (await verifier.verify(long)).user == "ada"
    later = time.time() + 61
    monkeypatch.setattr("api.auth.time.time", lambda: later)

    with pytest.raises(InvalidToken):
        await verifier.verify(long)


class _Keys:
    def __init__(self, known: dict[str, ec.EllipticCurvePublicKey]) -> None:
        self._known = known

    async def key(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        return self._known.get(kid)


def _refuse(*_arguments: object, **_options: object) -> None:
    raise jwt.ExpiredSignatureError
