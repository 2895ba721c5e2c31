"""Exceptions as lines and exit codes: the names that exits knows exist, and mean what they say."""

from importlib import import_module

import asyncpg
import pytest
from aiokafka.errors import KafkaConnectionError

from funnel import exits
from funnel.settings import BadSettings
from migrations.errors import LockBusy
from stack.servers import StackError


@pytest.mark.parametrize("name", exits.EXIT_CODES)
def test_exit_codes__every_name_is_an_exception(name: str) -> None:
    module, _, attribute = name.rpartition(".")

    assert issubclass(getattr(import_module(module), attribute), BaseException)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadSettings("PORT: no"), 78),
        (StackError("no disk space"), 69),
        (LockBusy(waited_s=300), 75),
        (ConnectionRefusedError(111, "refused"), 69),
        (KafkaConnectionError("away"), 69),
        (asyncpg.InvalidPasswordError("no"), 78),
        (asyncpg.CannotConnectNowError("starting up"), 69),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [BadSettings("x")])]), 78),
        (KeyError("a fault of ours"), 70),
    ],
)
def test_exit_code__is_that_of_the_nearest_known_class(error: Exception, code: int) -> None:
    assert exits.exit_code(error) == code


def test_explain__is_one_line_without_the_values_an_error_is_about() -> None:
    error = asyncpg.InvalidPasswordError("password authentication failed")
    error.detail = "Key (email)=(jane@example.com) already exists."

    assert exits.explain(error) == "funnel: PostgreSQL: password authentication failed"
    assert exits.explain(BadSettings("PORT:\n no")) == "funnel: PORT: no"


def test_explain__fault_of_ours_has_a_traceback() -> None:
    with pytest.raises(KeyError) as raised:
        dict[str, str]()["x"]

    told = exits.explain(raised.value)
    assert __file__ in told
    assert told.endswith("KeyError: x")


def test_explain__no_value_of_a_row_in_a_traceback() -> None:
    error = asyncpg.NotNullViolationError("null value in column")
    error.detail = "Failing row contains (Ada, ada@example.com)."
    with pytest.raises(asyncpg.NotNullViolationError) as raised:
        raise error
    assert "ada@" not in exits.explain(raised.value)
