"""The development key: one for all, private, and kept."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from api.dev_keys import FILE_NAME, UnusableKey, load_or_create

STARTING = 16


def test_key__is_made_once_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"

    first, second = load_or_create(folder), load_or_create(folder)

    assert first.kid == second.kid
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_key__is_the_same_for_all_that_start_at_once(tmp_path: Path) -> None:
    together = Barrier(STARTING)

    def start(_number: int) -> str:
        together.wait()
        return load_or_create(tmp_path).kid

    with ThreadPoolExecutor(STARTING) as starting:
        kids = set(starting.map(start, range(STARTING)))

    assert len(kids) == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def _pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None
) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        _pem(rsa.generate_private_key(65537, 2048)),
        _pem(ec.generate_private_key(ec.SECP384R1())),
        _pem(ec.generate_private_key(ec.SECP256R1()), b"password"),
    ],
    ids=["empty", "text", "RSA", "P-384", "encrypted"],
)
def test_file_that_holds_something_else__is_an_error_that_names_it(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)

    with pytest.raises(UnusableKey, match=FILE_NAME):
        load_or_create(tmp_path)


async def test_verifier__accepts_only_its_own_key(tmp_path: Path) -> None:
    other = load_or_create(tmp_path)

    assert await other.key(other.kid) is not None
    assert await other.key("another") is None
