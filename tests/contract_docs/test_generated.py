"""What is committed is what the code says, and what the code says is what is on the wire."""

from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from contract import generated
from contract.asyncapi import asyncapi_files, document
from contract.event_models import EVENTS, Candidate
from contract.events import ERASED, REPAIRED, SCHEMA_URI, SETTLED
from contract.schemas import TYPES, adapter, schema, schema_files
from contract.topics import Topics
from domain.candidate import CandidateState
from domain.commands import COMMANDS
from tests.audit.conftest import History
from tests.audit.history import commands
from tests.settling import read_all


def test_schemas__committed_files_are_what_the_code_says() -> None:
    assert generated.stale(generated.FOLDER / "schemas", schema_files()) == []


def test_asyncapi__committed_file_is_what_the_code_says() -> None:
    assert generated.stale(generated.FOLDER, asyncapi_files()) == []


def test_generated__writes_what_is_stale_and_removes_what_is_too_much(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    wanted = {"a.json": b"1\n", "b.json": b"2\n"}
    assert generated.run(folder, wanted, check=True) == 1
    assert not folder.exists()
    assert generated.write(folder, wanted) == ["a.json", "b.json"]
    (folder / "a.json").write_bytes(b"3\n")
    (folder / "c.json").write_bytes(b"4\n")
    assert generated.run(folder, wanted, check=False) == 0
    assert generated.run(folder, wanted, check=True) == 0


@pytest.mark.parametrize("ce_type", TYPES)
def test_schemas__id_is_the_dataschema_of_the_type(ce_type: str) -> None:
    made = schema(ce_type)
    assert made["$id"] == SCHEMA_URI + ce_type
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["type"] == "object"


def test_event_models__candidate_has_the_fields_of_the_state() -> None:
    assert list(Candidate.__annotations__) == list(CandidateState.__annotations__)


def test_event_models__refuse_a_result_without_outcome() -> None:
    with pytest.raises(ValidationError, match="outcome"):
        adapter(SETTLED).validate_json(b'{"command_id": "c", "sequence": 1}')


async def test_event_models__real_events_are_valid_and_fully_described(
    history: History, kafka_options: dict[str, Any]
) -> None:
    topics = history.topics
    results = await read_all(kafka_options, topics.results, total=history.results_total)
    changes = await read_all(kafka_options, topics.changes, total=history.changes_total)
    seen = set()
    for record in [*results, *changes]:
        headers = dict(record.headers)
        ce_type = headers["ce_type"].decode()
        assert headers["ce_dataschema"].decode() == schema(ce_type)["$id"]
        data = orjson.loads(record.value)
        # Equal: nothing in the event that the model does not know.
        assert adapter(ce_type).validate_json(record.value) == data
        assert set(_message(ce_type)["headers"]["required"]) <= set(headers)
        assert set(headers) <= set(_message(ce_type)["headers"]["properties"])
        seen.add(ce_type)
    assert seen == set(EVENTS) - {ERASED, REPAIRED}


def test_asyncapi__command_headers_are_those_that_are_sent() -> None:
    for _, _, headers in commands():
        if (ce_type := dict(headers).get("ce_type")) is None:
            continue
        described = _message(ce_type.decode())["headers"]
        names = {name for name, _ in headers}
        assert set(described["required"]) <= names <= set(described["properties"])


def test_asyncapi__every_type_is_a_message_on_its_topic() -> None:
    made = document(Topics(prefix="x."))
    addresses = {name: channel["address"] for name, channel in made["channels"].items()}
    assert addresses == {
        "commands": "x.candidates.commands.v1",
        "results": "x.candidates.results.v1",
        "changes": "x.candidates.changes.v1",
        "deadLetters": "x.candidates.dead-letters.v1",
    }
    both_modes = {mode for ce_type in COMMANDS for mode in (ce_type, f"{ce_type}.structured")}
    assert set(made["channels"]["commands"]["messages"]) == both_modes
    described = {name for channel in made["channels"].values() for name in channel["messages"]}
    assert described == both_modes | set(EVENTS) | {"tombstone", "dead-letter"}


@cache
def _message(ce_type: str) -> dict[str, Any]:
    message: dict[str, Any] = document()["components"]["messages"][ce_type]
    return message
