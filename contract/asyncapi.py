"""The AsyncAPI 3.1 document of the four topics, made of the same types as the JSON Schemas.

`python -m contract.asyncapi` writes it, `--check` only compares.
"""

import sys
from typing import Any

from contract import generated
from contract.event_models import EVENTS
from contract.events import CREATED, DEFAULT_SOURCE, ERASED, SCHEMA_URI, UPDATED
from contract.schemas import definitions
from contract.topics import Topics, TopicSpec
from domain.commands import COMMANDS
from domain.limits import COMMAND_ID_CHARACTERS_MAX
from domain.outcomes import DEAD_LETTER_CODES

_SCHEMAS = "#/components/schemas/"
_BINDING_VERSION = "0.5.0"
_UUID = {"type": "string", "format": "uuid"}
_TEXT = {"type": "string"}
_IDENTIFIER = {"type": "string", "minLength": 1, "maxLength": COMMAND_ID_CHARACTERS_MAX}
_TRACE = {"traceparent": _TEXT, "tracestate": _TEXT}

_CHANNELS = {
    "commands": "Requests of upstream services; a command is identified by organization, ce_source "
    "and ce_id, so sending it again has no second effect.",
    "results": "How each command was settled, and notices; each partition is numbered 1, 2, 3… by "
    "ce_sequence, without hole or repeat.",
    "changes": "Each new version of each candidate, numbered likewise; compacted, so the newest "
    "record of a key is the candidate's current state, and a null value means erased.",
    "deadLetters": "Records that no result could answer, byte for byte, their headers kept.",
}
_KEYS: dict[str, dict[str, Any]] = {
    "commands": _UUID | {"description": "The organization's id."},
    "results": _UUID | {"description": "The organization's id, null where none is known."},
    "changes": _TEXT | {"description": "<organization_id>/<candidate_id>"},
    "deadLetters": _TEXT | {"description": "The record's own key."},
}


def document(topics: Topics = Topics()) -> dict[str, Any]:  # noqa: B008  frozen
    """The document of a deployment."""
    places, schemas = definitions(_SCHEMAS + "{model}")
    messages, of_channel = _messages(places)
    specs = dict(zip(_CHANNELS, topics.specs(), strict=True))
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "gulf-funnel",
            "version": "1.0.0",
            "description": "Commands in over Kafka, exactly-once effect in PostgreSQL, numbered "
            "events out. CloudEvents 1.0: commands in binary or structured mode, events in binary "
            "mode. Output is written in transactions: read with isolation.level=read_committed. "
            "A deployment may put a prefix before the topics' names.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            name: _channel(specs[name], description, of_channel[name])
            for name, description in _CHANNELS.items()
        },
        "operations": {
            name: {
                "action": "receive" if name == "commands" else "send",
                "channel": {"$ref": f"#/channels/{name}"},
            }
            for name in _CHANNELS
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def _channel(spec: TopicSpec, description: str, messages: list[str]) -> dict[str, Any]:
    return {
        "address": spec.name,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "topicConfiguration": {
                    "cleanup.policy": [spec.config["cleanup.policy"]],
                    "max.message.bytes": int(spec.config["max.message.bytes"]),
                },
                "bindingVersion": _BINDING_VERSION,
            }
        },
    }


def _messages(places: dict[str, str]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Every message, and the names of those on each channel."""
    messages: dict[str, Any] = {}
    of_channel: dict[str, list[str]] = {name: [] for name in _CHANNELS}

    def add(channel: str, name: str, message: dict[str, Any]) -> None:
        key = {"key": _KEYS[channel], "bindingVersion": _BINDING_VERSION}
        messages[name] = {"name": name, **message, "bindings": {"kafka": key}}
        of_channel[channel].append(name)

    for ce_type in COMMANDS:
        add("commands", ce_type, _binary(ce_type, places[ce_type], _command_headers(ce_type)))
        add("commands", f"{ce_type}.structured", _structured(ce_type, places[ce_type]))
    for ce_type in EVENTS:
        channel = "changes" if ce_type in (CREATED, UPDATED) else "results"
        add(channel, ce_type, _binary(ce_type, places[ce_type], _event_headers(ce_type)))
    add("changes", "tombstone", _tombstone())
    add("deadLetters", "dead-letter", _dead_letter())
    return messages, of_channel


def _binary(ce_type: str, place: str, headers: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": ce_type,
        "contentType": "application/json",
        "headers": headers,
        "payload": {"$ref": place},
    }


def _command_headers(ce_type: str) -> dict[str, Any]:
    required = {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": _IDENTIFIER | {"description": "A UUIDv7 is best."},
        "ce_source": _IDENTIFIER,
        "ce_type": {"type": "string", "const": ce_type},
    }
    optional = {
        "content-type": {"type": "string", "const": "application/json"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_subject": _TEXT,
        **_TRACE,
    }
    return _object(required, optional)


def _event_headers(ce_type: str) -> dict[str, Any]:
    required = {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "content-type": {"type": "string", "const": "application/json"},
        "ce_type": {"type": "string", "const": ce_type},
        "ce_dataschema": {"type": "string", "const": SCHEMA_URI + ce_type},
        "ce_source": _TEXT | {"description": f"{DEFAULT_SOURCE}, or the deployment's own."},
        "ce_id": _TEXT | {"description": "<topic>/<partition>/<sequence>"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_sequence": {"type": "string", "pattern": "^[0-9]{20}$"},
    }
    optional = {
        "ce_subject": _UUID | {"description": "The candidate's id."},
        "ce_correlationid": _IDENTIFIER | {"description": "The command's id."},
        **_TRACE,
    }
    return _object(required, optional)


def _tombstone() -> dict[str, Any]:
    headers = _event_headers(ERASED)
    for name in ("content-type", "ce_dataschema"):
        headers["required"].remove(name)
        del headers["properties"][name]
    return {
        "title": "Tombstone",
        "summary": "The candidate was erased: forget everything about this key.",
        "headers": headers,
        "payload": {"type": "null"},
    }


def _structured(ce_type: str, place: str) -> dict[str, Any]:
    required = {
        "specversion": {"type": "string", "const": "1.0"},
        "id": _IDENTIFIER,
        "source": _IDENTIFIER,
        "type": {"type": "string", "const": ce_type},
        "data": {"$ref": place},
    }
    optional = {
        "datacontenttype": {"type": "string", "const": "application/json"},
        "time": {"type": "string", "format": "date-time"},
        "subject": _TEXT,
        **_TRACE,
    }
    return {
        "title": f"{ce_type}, structured mode",
        "contentType": "application/cloudevents+json",
        "headers": _object(
            {"content-type": {"type": "string", "pattern": "^application/cloudevents\\+json"}},
            _TRACE,
        ),
        "payload": _object(required, optional),
    }


def _dead_letter() -> dict[str, Any]:
    required = {
        "x-original-topic": _TEXT,
        "x-original-partition": _TEXT,
        "x-original-offset": _TEXT,
        "x-original-timestamp": _TEXT | {"description": "Milliseconds since the epoch."},
        "x-error-code": {"type": "string", "enum": list(DEAD_LETTER_CODES)},
        "x-error-detail": _TEXT | {"description": "In words, without personal data."},
    }
    too_large = "Only where the record was too large to be written again."
    optional = {
        "x-original-size": _TEXT | {"description": too_large},
        "x-original-sha256": _TEXT | {"description": too_large},
    }
    return {
        "title": "Dead letter",
        "contentType": "application/octet-stream",
        "headers": _object(required, optional),
        "payload": {"description": "The record's value, untouched."},
    }


def _object(required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": required | optional}


def asyncapi_files() -> dict[str, bytes]:
    """The text of the one file by its name."""
    return {"asyncapi.json": generated.json_text(document())}


if __name__ == "__main__":
    sys.exit(generated.run(generated.FOLDER, asyncapi_files(), check="--check" in sys.argv[1:]))
