"""What a person sees of a dead letter: nothing that may be personal data, unless asked for."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from audit.dead_letters import WholeLetter
from audit.letter_text import MASK, described, masked
from contract.dead_letters import DeadLetterId, redrive_of
from contract.record import Headers, SourceRecord

ID = "0b5ff3c0-7b53-4f9e-9a35-0c2f0a4c8d11"
COMMAND: dict[str, Any] = {
    "organization_id": ID,
    "candidate_id": ID,
    "actor": "ada@example.com",
    "expected_version": 3,
    "changes": {
        "status": "hired",
        "rating": None,
        "source": "a friend, Bob",
        "pipeline_stage": "ada lovelace",
        "attributes": {"salary": 1},
        "tags": ["nice"],
        "Bob <bob@example.com>": 1,
    },
}


def letter(value: bytes | None, headers: Headers = (), key: bytes | None = b"Bob") -> WholeLetter:
    return WholeLetter(
        id=DeadLetterId(1, 7), recorded_at=datetime(2026, 11, 25, tzinfo=UTC), source_offset=3,
        error_code="apply_failed", error_detail="x", organization_id=ID, candidate_id=None,
        command_id="c", command_source="/s", command_type="t", redrive_of=None,
        record=SourceRecord(key, value, headers, 0), redrives=(),
    )  # fmt: skip


def test_masked__keeps_ids_shapes_and_closed_sets() -> None:
    assert masked(COMMAND) == {
        "organization_id": ID,
        "candidate_id": ID,
        "actor": MASK,
        "expected_version": 3,
        "changes": {
            "status": "hired",
            "rating": None,
            "source": MASK,
            "pipeline_stage": MASK,
            "attributes": MASK,
            "tags": MASK,
            MASK: MASK,
        },
    }
    structured = {"specversion": "1.0", "id": "c", "subject": "Bob", "data": COMMAND}
    assert masked(structured) == {
        "specversion": "1.0", "id": "c", "subject": MASK, "data": masked(COMMAND),
    }  # fmt: skip
    assert [masked(each) for each in (None, "Bob", ["Bob"], 7)] == [None, MASK, MASK, MASK]


@pytest.mark.parametrize("value", [orjson.dumps(COMMAND), b"{Bob", b"\xffBob", b'"Bob"', None])
@pytest.mark.parametrize("as_hex", [False, True])
def test_described__shows_values_only_if_asked(value: bytes | None, as_hex: bool) -> None:
    whole = letter(value, (("ce_id", b"c"), ("name", b"Bob")))
    hidden = str(described(whole, show_values=False, as_hex=as_hex))
    assert "Bob" not in hidden
    assert b"Bob".hex() not in hidden
    shown = described(whole, show_values=True, as_hex=as_hex)
    assert ["name", "Bob"] in shown["headers"]
    assert shown["key"] == "Bob"
    if value is not None and as_hex:
        assert shown["value_hex"] == value.hex()


@pytest.mark.parametrize("text", ["1-7", "0-1", "99999-1"])
def test_dead_letter_id__round_trip(text: str) -> None:
    assert str(DeadLetterId.parse(text)) == text
    record = SourceRecord(None, None, (("x-redrive-of", text.encode()),), 0)
    assert redrive_of(record) == text


@pytest.mark.parametrize("text", ["", "1", "1-0", "01-1", "-1-1", "1-1 ", "1-1\n", "1-" + "9" * 19])
def test_dead_letter_id__malformed(text: str) -> None:
    with pytest.raises(ValueError, match="<lane>-<sequence>"):
        DeadLetterId.parse(text)
    headers: Headers = (("x-redrive-of", text.encode()), ("x-redrive-of", None))
    assert redrive_of(SourceRecord(None, None, headers, 0)) is None
