"""Servers that somebody else runs are named by the environment, or not at all."""

import pytest

from stack import ExternalStack, Servers, StackError

ENVIRONMENT = {"DATABASE_URL": "postgresql://db/funnel", "KAFKA_BOOTSTRAP_SERVERS": "broker:9092"}


def test_start__takes_both_from_the_environment() -> None:
    assert ExternalStack(ENVIRONMENT).start() == Servers("postgresql://db/funnel", "broker:9092")


@pytest.mark.parametrize("missing", ENVIRONMENT)
def test_start__names_the_missing_variable(missing: str) -> None:
    rest = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    with pytest.raises(StackError, match=missing):
        ExternalStack(rest).start()
