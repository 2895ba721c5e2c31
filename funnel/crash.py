"""Named crash points: do nothing unless a test sets FUNNEL_CRASH_AT or FUNNEL_PAUSE_AT.

A value is the name of a step, or `name:n` for the n-th time that it is reached. The process ends
by SIGKILL, as when the machine goes; or stops by SIGSTOP, as when it stalls, until SIGCONT.
"""

import os
import signal
from collections import Counter

from contract.lanes import Hook

CRASH_POINTS = (
    "before_fence",
    "after_fence",
    "after_tail",
    "after_poll",
    "after_begin",
    "after_prefetch",
    "after_write_operations",
    "after_decide",
    "after_write_candidates",
    "after_write_erasures",
    "after_write_journal",
    "after_chunk_read",
    "after_chunk_decide",
    "after_chunk_candidates",
    "after_chunk_journal",
    "after_chunk_operation",
    "after_erase_step",
    "after_erase_journal",
    "before_commit",
    "after_commit",
    "before_publish",
    "after_sends",
    "after_publish",
    "after_seal_salts",
    "after_seal_link",
    "after_seal",
    "after_checkpoint_begin",
    "after_checkpoint_write",
    "after_checkpoint_link",
    "after_checkpoint",
)


def crash_hook(*, crash_at: str | None, pause_at: str | None) -> Hook:
    """The hook for these two settings.

    Raises:
        ValueError: a value names no crash point.
    """
    wanted = {
        _point(value): signal_sent
        for value, signal_sent in ((crash_at, signal.SIGKILL), (pause_at, signal.SIGSTOP))
        if value
    }
    if not wanted:
        return _nothing
    reached: Counter[str] = Counter()

    def hook(step: str) -> None:
        reached[step] += 1
        signal_sent = wanted.get((step, reached[step]))
        if signal_sent is not None:
            os.kill(os.getpid(), signal_sent)

    return hook


def _nothing(_: str) -> None:
    return


def _point(value: str) -> tuple[str, int]:
    name, _, times = value.partition(":")
    if name not in CRASH_POINTS or not (times or "1").isdigit():
        raise ValueError(f"no crash point: use one of {', '.join(CRASH_POINTS)}, or NAME:N")
    return name, int(times or "1")
