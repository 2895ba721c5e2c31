"""Who decides that a process ends: one handler for SIGTERM and SIGINT.

The first signal asks: the event is set, work in hand is finished, the exit code is 0. The second
one means now.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SECOND_SIGNAL_EXIT_CODE = 130


@contextmanager
def stop_signals(*, now: Callable[[], None] = lambda: None) -> Iterator[asyncio.Event]:
    """An event that is set at the first signal. To be entered in the running loop.

    Args:
        now: the last thing done when a second signal comes.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            now()
            os._exit(SECOND_SIGNAL_EXIT_CODE)
        stopping.set()

    for each in SIGNALS:
        loop.add_signal_handler(each, stop)
    try:
        yield stopping
    finally:
        for each in SIGNALS:
            loop.remove_signal_handler(each)
