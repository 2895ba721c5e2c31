"""Files that are made from the code and committed: written anew, or compared with what is there."""

import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

FOLDER = Path(__file__).parent


def json_text(value: object) -> bytes:
    """JSON as it is committed."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def stale(folder: Path, wanted: Mapping[str, bytes]) -> list[str]:
    """The names of files that are not as they should be: other, missing, or too many."""
    found = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    return sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))


def write(folder: Path, wanted: Mapping[str, bytes]) -> list[str]:
    """Make the folder's JSON files what they should be; tells which were not."""
    names = stale(folder, wanted)
    folder.mkdir(exist_ok=True)
    for name in names:
        if name in wanted:
            (folder / name).write_bytes(wanted[name])
        else:
            (folder / name).unlink()
    return names


def run(folder: Path, wanted: Mapping[str, bytes], *, check: bool) -> int:
    """The exit code of a generator; names on standard error what was or is stale."""
    names = stale(folder, wanted) if check else write(folder, wanted)
    for name in names:
        sys.stderr.write(f"{name} {'is stale' if check else 'written'}\n")
    return int(check and bool(names))
