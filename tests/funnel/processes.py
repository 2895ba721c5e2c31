"""What tests of the command line as a process have in common."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]
Environment = dict[str, str]


def lines_until(process: subprocess.Popen[str], action: str, *, times: int = 1) -> Iterator[str]:
    """Lines of the process's log, until `action` has come `times` times."""
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        times -= f'"action": "{action}"' in line
        if not times:
            return
    raise AssertionError(f"ended before {action}")


def api_url(process: subprocess.Popen[str]) -> str:
    """Where a `funnel serve` that was just started answers, once it does."""
    told = json.loads(list(lines_until(process, "api_started"))[-1])
    return f"http://127.0.0.1:{told['port']}"


def all_of(terminal: int) -> str:
    """What is written to a terminal until nobody has it open any more."""
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:
            os.close(terminal)
            return shown.decode()


def text_of(shown: str) -> str:
    """What a terminal shows, less where and in which colour."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
