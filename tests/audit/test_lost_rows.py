"""How `funnel recover` rebuilds which result: from the topics alone, or by settling it again."""

import orjson
import pytest

from audit.lost_rows import repairs, settled_again
from audit.output_log import LogRecord
from contract.events import (
    COMPLETED,
    DEAD_LETTERED,
    ERASED,
    PROGRESSED,
    REPAIRED,
    REROUTED,
    SETTLED,
)


def result(event_type: str, **data: str) -> LogRecord:
    return LogRecord(0, 1, None, orjson.dumps(data), [("ce_type", event_type.encode())], 0)


@pytest.mark.parametrize(
    ("event_type", "command_type", "outcome"),
    [
        (SETTLED, "candidate.create.v1", "applied"),
        (SETTLED, "candidate.update.v1", "merged"),
        (SETTLED, "candidate.bulk-update.v1", "rejected"),
        (SETTLED, "candidate.erase.v1", "duplicate"),
        (SETTLED, "candidate.erase.v1", "accepted"),
        (ERASED, "", ""),
        (REROUTED, "candidate.bulk-update.v1", ""),
        (DEAD_LETTERED, "", ""),
    ],
)
def test_settled_again__not_what_the_topics_tell_whole(
    event_type: str, command_type: str, outcome: str
) -> None:
    assert not settled_again(result(event_type, command_type=command_type, outcome=outcome))


@pytest.mark.parametrize(
    ("event_type", "command_type", "outcome"),
    [
        (SETTLED, "candidate.bulk-update.v1", "applied"),
        (SETTLED, "candidate.bulk-update.v1", "unchanged"),
        (SETTLED, "candidate.bulk-update.v1", "accepted"),
        (SETTLED, "bulk-operation.control.v1", "applied"),
        (PROGRESSED, "", ""),
        (COMPLETED, "", ""),
    ],
)
def test_settled_again__what_has_tables_of_its_own(
    event_type: str, command_type: str, outcome: str
) -> None:
    assert settled_again(result(event_type, command_type=command_type, outcome=outcome))


def test_repairs__a_repaired_row_only() -> None:
    assert repairs(result(REPAIRED))
    assert not repairs(result(ERASED))
