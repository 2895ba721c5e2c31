"""Files of secrets in the data folder: only this user can read them, and they are made once.

Processes that start at once end up with the same file.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def create_once(path: Path, make: Callable[[], bytes]) -> None:
    """Make the file with what `make` gives, unless it is there.

    It is written elsewhere and linked in: a link, unlike a rename, replaces nothing.

    Raises:
        OSError: it cannot be made.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return  # another process was first, and its secret is everybody's
    finally:
        draft.unlink()
