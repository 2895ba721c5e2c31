"""Cursors: places in an order, that only we can read or make.

A cursor is sealed by AES-SIV (RFC 5297): it shows nothing of the names that a place may hold, any
change to it is noticed, and it opens only with what it was made for. The same place gives the same
cursor, in every process that has the key.
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha512
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from api.key_files import create_once
from api.limits import CURSOR_CHARACTERS_MAX
from api.problems import Problem, invalid_request
from domain.field_errors import FieldError

FILE_NAME = "cursor-key"
SECRET_BYTES = 32


class Cursors:
    """Seals and opens places with one key."""

    def __init__(self, secret: str) -> None:
        self._cipher = AESSIV(sha512(b"gulf-funnel cursors 1\0" + secret.encode()).digest())

    def seal(self, place: Any, *bound_to: str) -> str:
        """The cursor of a JSON-ready place; it opens with the same `bound_to` only."""
        return _text(
            self._cipher.encrypt(orjson.dumps(place), [part.encode() for part in bound_to])
        )

    def open(self, cursor: str, *bound_to: str, where: str) -> Any:
        """The place.

        Raises:
            Problem: 400, the cursor is not one of ours or was made for something else; `where` is
                the pointer to it.
        """
        try:
            sealed = _sealed(cursor)
            return orjson.loads(self._cipher.decrypt(sealed, [part.encode() for part in bound_to]))
        except (ValueError, InvalidTag) as error:
            raise _unknown(where) from error


def _sealed(cursor: str) -> bytes:
    """The bytes, if they are written as `seal` writes them and in no other way."""
    sealed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    if len(cursor) > CURSOR_CHARACTERS_MAX or _text(sealed) != cursor:
        raise ValueError("not as we write it")
    return sealed


def _text(sealed: bytes) -> str:
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def load_or_create(data_dir: Path) -> Cursors:
    """With the key of this folder; whoever is first makes it.

    Raises:
        OSError: it cannot be read or made.
    """
    path = data_dir / FILE_NAME
    create_once(path, lambda: secrets.token_urlsafe(SECRET_BYTES).encode())
    return Cursors(path.read_text())


def _unknown(where: str) -> Problem:
    return invalid_request(
        FieldError(
            where,
            "malformed",
            "The cursor is not one of ours, or belongs to another question: repeat the parameters"
            " it was given for, or begin again without it.",
        )
    )
