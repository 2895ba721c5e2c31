"""The four topics and what they must look like (CONTRACT.md 1)."""

from dataclasses import dataclass
from datetime import timedelta

COMMAND_MESSAGE_BYTES_MAX = 4 * 1024 * 1024
OUTPUT_MESSAGE_BYTES_MAX = COMMAND_MESSAGE_BYTES_MAX + 1024 * 1024
COMPACTION_LAG_MIN = timedelta(days=7)
OUTPUT_CONFIG = {
    "max.message.bytes": str(OUTPUT_MESSAGE_BYTES_MAX),
    # The broker would refuse what the database stamped an hour ahead of its own clock.
    "message.timestamp.after.max.ms": str(2**63 - 1),
}
"""What a topic needs to take every event as it was stamped."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as `funnel topics apply` creates it; every config value as Kafka writes it."""

    name: str
    config: dict[str, str]


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of the topics of one deployment."""

    prefix: str = ""

    @property
    def commands(self) -> str:
        return f"{self.prefix}candidates.commands.v1"

    @property
    def results(self) -> str:
        return f"{self.prefix}candidates.results.v1"

    @property
    def changes(self) -> str:
        return f"{self.prefix}candidates.changes.v1"

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}candidates.dead-letters.v1"

    @property
    def group(self) -> str:
        """The group that offsets are committed to, for lag tools only."""
        return f"{self.prefix}funnel"

    def transactional_id(self, lane: int) -> str:
        """Never changed: the broker fences the former owner of a lane by this name."""
        return f"{self.results}.lane.{lane}"

    def specs(self) -> tuple[TopicSpec, ...]:
        deleted = {"cleanup.policy": "delete"}
        commands = deleted | {"max.message.bytes": str(COMMAND_MESSAGE_BYTES_MAX)}
        output = deleted | OUTPUT_CONFIG
        changes = output | {
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(int(COMPACTION_LAG_MIN.total_seconds() * 1000)),
        }
        return (
            TopicSpec(self.commands, commands),
            TopicSpec(self.results, output),
            TopicSpec(self.changes, changes),
            TopicSpec(self.dead_letters, output),
        )
