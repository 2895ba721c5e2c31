"""Logs: one structured line on stderr for each thing that happened, libraries' included.

Every line of ours has an `action` that never changes. Values are scalars of bounded length, so
that no payload, and with it no personal data, gets in by passing an object.
"""

import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any

import structlog

TEXT_CHARACTERS_MAX = 500
"""Long enough for an error of Kafka or PostgreSQL, short enough for a line."""

QUIET = {
    "aiokafka": logging.WARNING,  # speaks of every connection at INFO
    "asyncio": logging.WARNING,
    "asyncpg.pool": logging.CRITICAL,  # a traceback for each try; our own line says it once
    "uvicorn": logging.WARNING,
    # Offsets are committed for lag tools only; the first commit of a cluster always fails.
    "aiokafka.consumer.group_coordinator": logging.CRITICAL,
}

TEMPLATES_MAX = 1000
"""How many kinds of drivers' lines are told apart: more than they have."""

WITHOUT_LOCALS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
"""The local variables of a traceback are payloads."""

STRUCTLOG_KEYS = frozenset(
    {"_record", "_from_structlog", "exc_info", "stack_info", "positional_args"}
)


class OncePerWhile(logging.Filter):
    """Drivers tell of each failed try, thousands a second in an outage: a line each 30 s will do.

    Ours are left alone: they tell of changes of state only.
    """

    def __init__(self, every_s: float = 30.0) -> None:
        super().__init__()
        self._every_s = every_s
        self._next: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(("aiokafka", "asyncpg", "opentelemetry")):
            return True
        template = record.name, str(record.msg)[:100]
        now = time.monotonic()
        if now < self._next.get(template, 0):
            return False
        if len(self._next) >= TEMPLATES_MAX:
            self._next.clear()
        self._next[template] = now + self._every_s
        return True


def configure_logs(*, level: str, log_format: str) -> None:
    """Route everything to stderr.

    Args:
        level: of our own lines, as LOG_LEVEL.
        log_format: `json`, `console`, or `auto`: console on a terminal, else JSON.
    """
    on_terminal = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        scalars_only,
    ]
    renderer: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if on_terminal
        else [WITHOUT_LOCALS, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    handler.addFilter(OncePerWhile())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, floor in QUIET.items():
        logging.getLogger(name).setLevel(max(floor, logging.getLevelName(level)))


def scalars_only(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Keep numbers and short texts; of anything else, its type."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = value[:TEXT_CHARACTERS_MAX]
        elif name not in STRUCTLOG_KEYS and not isinstance(value, int | float | None):
            event[name] = f"({type(value).__name__})"
    return event
