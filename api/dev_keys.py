"""The signing key of a developer's machine: made at its first use, kept in the data folder.

Only this user can read the file. Processes that start at once end up with the same key.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from api.auth import Algorithm, PublicKey, TokenVerifier
from api.key_files import create_once

ALGORITHM: Algorithm = "ES256"
ISSUER = "urn:gulf-funnel:development"
AUDIENCE = "gulf-funnel"
FILE_NAME = "development-key.pem"


class UnusableKey(Exception):
    """The development key's file holds no P-256 private key; remove it to get a new one."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} holds no P-256 private key; remove it to get a new one")
        self.path = path


@dataclass(frozen=True, slots=True)
class DevKeys:
    """One key that signs, and is the only one its verifier knows."""

    private_key: ec.EllipticCurvePrivateKey
    kid: str

    def sign(
        self, *, organization_id: str, user: str, scopes: tuple[str, ...], lifetime: timedelta
    ) -> str:
        """A token that `verifier()` accepts from now on for `lifetime`."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "organization_id": organization_id,
            "scope": " ".join(scopes),
            "iat": now,
            "exp": now + int(lifetime.total_seconds()),
        }
        return jwt.encode(claims, self.private_key, ALGORITHM, headers={"kid": self.kid})

    def verifier(self) -> TokenVerifier:
        """Accepts what `sign` makes and nothing else."""
        return TokenVerifier(self, algorithm=ALGORITHM, issuer=ISSUER, audience=AUDIENCE)

    async def key(self, kid: str) -> PublicKey | None:
        """As a `KeySource`."""
        return self.private_key.public_key() if kid == self.kid else None


def load_or_create(data_dir: Path) -> DevKeys:
    """The key of this folder; whoever is first makes it.

    Raises:
        UnusableKey: the file is there and holds something else.
        OSError: it cannot be read or made.
    """
    path = data_dir / FILE_NAME
    create_once(path, _pem)
    try:
        private_key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnusableKey(path) from error
    if not isinstance(private_key, ec.EllipticCurvePrivateKey) or private_key.key_size != 256:
        raise UnusableKey(path)
    public = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return DevKeys(private_key, sha256(public).hexdigest()[:32])


def _pem() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
