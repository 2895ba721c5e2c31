"""Where the output of this deployment is, as the rooms that audit it need to know it."""

from datetime import timedelta
from typing import TYPE_CHECKING

from funnel import servers
from funnel.settings import Settings

if TYPE_CHECKING:
    from audit.outputs import Output


def audited_output(settings: Settings, *, connected: bool = True) -> "Output":
    """The topics, the source of their events, and how to reach them.

    Args:
        connected: False if only names are needed, so that Kafka need not be anywhere.

    Raises:
        BadSettings: nothing says where Kafka is.
    """
    from audit.outputs import Output

    return Output(
        kafka=servers.kafka_options(settings) if connected else {},
        topics=settings.topics,
        event_source=settings.event_source,
        dead_letters_kept=timedelta(days=settings.dead_letter_days),
    )
