"""The migrations as files: `versions/NNNN_name.sql` in dbmate's format, in order of version.

A file is never edited once it has been deployed; a change is a new file.
"""

import re
from dataclasses import dataclass
from pathlib import Path

VERSIONS = Path(__file__).parent / "versions"
UP = re.compile(r"^-- migrate:up(?P<options>[^\n]*)$", re.MULTILINE)
DOWN = re.compile(r"^-- migrate:down", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file; `transactional` unless it says `transaction:false`, for one statement alone."""

    version: str
    name: str
    up: str
    transactional: bool


def read_migrations() -> tuple[Migration, ...]:
    """All migrations, oldest first."""
    return tuple(_read(path) for path in sorted(VERSIONS.glob("*.sql")))


def required_version() -> str:
    """The version that this code needs, and `migrate up` ends at."""
    return max(path.name.partition("_")[0] for path in VERSIONS.glob("*.sql"))


def _read(path: Path) -> Migration:
    text = path.read_text()
    version, _, name = path.stem.partition("_")
    up = UP.search(text)
    if up is None or not version.isdecimal():
        raise ValueError(f"{path.name}: not NNNN_name.sql with a line `-- migrate:up`")
    down = DOWN.search(text, up.end())
    return Migration(
        version=version,
        name=name,
        up=text[up.end() : down.start() if down else len(text)].strip(),
        transactional="transaction:false" not in up["options"],
    )
