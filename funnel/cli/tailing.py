"""Follows one output topic over all of its partitions and makes lines of its records."""

import asyncio
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from producer.command_errors import TopicMissing

_POLL_MILLISECONDS = 200
"""How long Ctrl-C may go unnoticed."""
_VALUE_CHARACTERS_SHOWN = 200

Show = Callable[[ConsumerRecord], None]


async def tail_topic(
    kafka: Mapping[str, Any],
    topic: str,
    *,
    from_beginning: bool,
    show: Show,
    stopping: asyncio.Event,
) -> None:
    """Show each record, from the beginning or from now on, until `stopping` is set.

    Raises:
        TopicMissing: there is no such topic.
        KafkaError: Kafka is away at the start.
    """
    consumer = AIOKafkaConsumer(
        **kafka,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest" if from_beginning else "latest",
    )
    try:
        await consumer.start()
        if topic not in await consumer.topics():
            raise TopicMissing(f"There is no topic {topic}: `funnel topics apply` makes it.")
        consumer.subscribe([topic])  # without a group that is all of its partitions
        while not stopping.is_set():
            polled = await consumer.getmany(timeout_ms=_POLL_MILLISECONDS)
            for records in polled.values():
                for record in records:
                    show(record)
    finally:
        await consumer.stop()


def as_json(record: ConsumerRecord) -> bytes:
    """`{topic, partition, offset, key, headers, value}`; a repeated header keeps its last value."""
    return orjson.dumps(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "key": _text(record.key),
            "headers": {name: _text(value) for name, value in record.headers},
            "value": _json_or_text(record.value),
        }
    )


def as_text(record: ConsumerRecord) -> str:
    """One line for a person: when, where, what, about whom."""
    headers = dict(record.headers)
    at = datetime.fromtimestamp(record.timestamp / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]
    kind = _plain(headers.get("x-error-code") or headers.get("ce_type"))
    return " ".join(
        [
            at,
            f"{record.partition}/{record.offset}",
            kind or "-",
            _plain(record.key) or "-",
            _about(_json_or_text(record.value)),
        ]
    )


def _about(value: Any) -> str:
    """Of our own events what they decided; of anything else its beginning."""
    if isinstance(value, dict):
        if "outcome" in value:
            names = ("outcome", "reason", "candidate_id", "version", "command_id")
            return " ".join(str(value[name]) for name in names if value.get(name) is not None)
        if "changed" in value:
            return f"version {value['version']}: {', '.join(value['changed'])} by {value['actor']}"
    return orjson.dumps(value).decode()[:_VALUE_CHARACTERS_SHOWN]


def _plain(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def _json_or_text(value: bytes | None) -> Any:
    try:
        return None if value is None else orjson.loads(value)
    except orjson.JSONDecodeError:
        return _text(value)


def _text(value: bytes | None) -> Any:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value or b"").decode()}
