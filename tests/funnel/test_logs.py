"""Logs: one line each, ours and the libraries', and never a payload."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from funnel.logs import TEXT_CHARACTERS_MAX, OncePerWhile, configure_logs


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """The root logger belongs to pytest again afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers, root.level = before
    structlog.reset_defaults()


def test_json__line_has_action_level_and_time(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="INFO", log_format="json")

    structlog.get_logger("consumer").info("lane taken", action="lane_taken", lane=3)

    line = json.loads(capfd.readouterr().err)
    assert line["action"] == "lane_taken"
    assert (line["level"], line["lane"], line["logger"]) == ("info", 3, "consumer")
    assert line["timestamp"].endswith("Z")


def test_json__libraries_speak_the_same_way(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="INFO", log_format="json")

    logging.getLogger("aiokafka.conn").info("connected")
    logging.getLogger("aiokafka.conn").warning("lost %s", "a broker")

    lines = capfd.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["lost a broker"]


def test_json__an_object_is_only_its_type(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="INFO", log_format="json")

    structlog.get_logger("x").info(
        "e", action="a", candidate={"email": "jane@example.com"}, text="x" * 9999
    )

    line = json.loads(capfd.readouterr().err)
    assert line["candidate"] == "(dict)"
    assert len(line["text"]) == TEXT_CHARACTERS_MAX


def test_json__exception_is_part_of_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="INFO", log_format="json")

    try:
        int("why")
    except ValueError:
        structlog.get_logger("x").exception("broken", action="broken")

    line = json.loads(capfd.readouterr().err)
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert "locals" not in json.dumps(line["exception"])


def test_console__is_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="WARNING", log_format="console")

    structlog.get_logger("x").info("quiet", action="a")
    structlog.get_logger("x").warning("loud", action="b")

    err = capfd.readouterr().err
    assert "loud" in err
    assert "quiet" not in err
    assert not err.startswith("{")


def test_once_per_while__drivers_may_not_flood_and_we_are_always_heard() -> None:
    sparse = OncePerWhile()

    def passes(name: str, message: str, *args: object) -> bool:
        return sparse.filter(logging.LogRecord(name, 30, "", 0, message, args, None))

    assert passes("aiokafka.conn", "Unable connect to node %s", 1)
    assert not passes("aiokafka.conn", "Unable connect to node %s", 2)
    assert passes("aiokafka.conn", "something else")
    assert passes("consumer", "lane paused")
    assert passes("consumer", "lane paused")
