"""The data folder: made where it is absent, and no `funnel up` but one runs in it.

Whatever stops the servers of the folder holds its lock, as two would stop one another's.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from funnel.settings import BadSettings, Settings


class UpRuns(Exception):
    """The servers of this folder belong to a `funnel up` that runs."""


def data_folder(settings: Settings) -> Path:
    """The folder, made if it is absent.

    Raises:
        BadSettings: it cannot be made, or something else has its name.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSettings(
            f"FUNNEL_DATA_DIR: cannot make the folder {folder}: {error.strerror}"
        ) from error
    return folder


@contextmanager
def alone_in(folder: Path, *, otherwise: Exception) -> Iterator[None]:
    """Hold the folder's lock.

    Raises:
        BadSettings: there can be no lock in this folder.
        Exception: `otherwise`, if a `funnel up` holds it.
    """
    try:
        lock = (folder / "up.lock").open("w")
    except OSError as error:
        raise BadSettings(f"FUNNEL_DATA_DIR: {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise otherwise from None
        yield
