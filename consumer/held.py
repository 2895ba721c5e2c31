"""Tells when another client's open transaction keeps a lane from the commands behind it.

A transaction before the next command is normal; it holds the lane if the stable end stays where it
is for longer than `LANE_HELD_SECONDS`. The lane waits, does not spin, and says so once.
"""

from domain.limits import LANE_HELD_SECONDS


class Held:
    """The judgement of one lane; the caller brings the clock."""

    def __init__(self) -> None:
        self._at: int | None = None
        self._since = 0.0
        self.now = False

    def look(self, held_at: int | None, clock: float) -> bool:
        """Note where the stable end stands; has the judgement changed?

        Args:
            held_at: the stable end with records behind it, None where there are none.
            clock: seconds, monotonic.
        """
        if held_at != self._at:
            self._at, self._since = held_at, clock
        before = self.now
        self.now = self._at is not None and clock - self._since >= LANE_HELD_SECONDS
        return self.now != before
