"""What consumer and producer agree on about a lane: where it stands, and why it may end.

LaneEnded
├── LaneLost     another owner has it: stop, touch nothing
└── LaneHalted   going on would break a promise: stop loudly, with the remedy
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

Hook = Callable[[str], None]
"""Called with the name of each step that a crash may follow; does nothing in production."""


class LaneEnded(Exception):
    """The lane cannot go on in this process."""


class LaneLost(LaneEnded):
    """Another owner has taken the lane: this one is a zombie."""

    def __init__(self, lane: int) -> None:
        super().__init__(f"lane {lane} has another owner")
        self.lane = lane


class LaneHalted(LaneEnded):
    """Going on would break a promise; `remedy` says what an operator can do."""

    def __init__(self, lane: int, cause: str, remedy: str) -> None:
        super().__init__(f"lane {lane} halted: {cause}. {remedy}")
        self.lane = lane
        self.cause = cause
        self.remedy = remedy


class Published(NamedTuple):
    """How far a lane's output has got: the last result, and the end of its results partition."""

    result_sequence: int
    end_offset: int


class LaneRow(NamedTuple):
    """The lane's row in PostgreSQL, less what only membership reads."""

    lane: int
    partitions_total: int
    commands_topic: str
    cluster_id: str
    owner_epoch: int
    next_offset: int
    last_record_offset: int | None
    last_record_timestamp: int | None
    last_record_digest: bytes | None
    journal_sequence: int
    result_sequence: int
    change_sequence: int
    published_result_sequence: int
    published_end_offset: int
    recorded_at: datetime

    def noting(self, published: Published) -> "LaneRow":
        """The row, knowing of what was published since."""
        return self._replace(
            published_result_sequence=max(
                self.published_result_sequence, published.result_sequence
            ),
            published_end_offset=max(self.published_end_offset, published.end_offset),
        )

    def same_place(self, other: "LaneRow") -> bool:
        """The compare of compare-and-set: nothing was settled between the two."""
        return (self.owner_epoch, self.next_offset, self.journal_sequence) == (
            other.owner_epoch,
            other.next_offset,
            other.journal_sequence,
        )
