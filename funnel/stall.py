"""Ends a process whose event loop hangs, so that its supervisor starts it again.

A task cannot see its own loop hang, so a thread looks at it; exit code 70 (CONTRACT.md 7).
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from funnel.exits import INTERNAL

_BEATS = 4
"""How often in one bound the loop says that it lives, and the thread looks."""


@contextmanager
def stall_watch(bound: timedelta) -> Iterator[None]:
    """While entered, a running loop that shows no sign of life for `bound` ends the process.

    A process that was stopped by a signal is not at fault: the thread slept as well, and gives the
    loop another whole bound.
    """
    every = bound.total_seconds() / _BEATS
    done = threading.Event()
    seen = 0

    async def beat() -> None:
        nonlocal seen
        while True:
            seen += 1
            await asyncio.sleep(every)

    def look() -> None:
        last, missed, before = -1, 0, time.monotonic()
        while not done.wait(every):
            now = time.monotonic()
            slept_too = now - before > 2 * every
            missed = 0 if seen != last or slept_too else missed + 1
            last, before = seen, now
            if missed > _BEATS:
                sys.stderr.write("funnel: the event loop hangs, restart me\n")
                os._exit(INTERNAL)

    beating = asyncio.create_task(beat())
    threading.Thread(target=look, name="stall-watch", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        beating.cancel()
