"""A bounded share of the fault campaign; `make faults` runs more of it, with other seeds."""

import os

import pytest

from tests.conftest import OwnStack
from tests.faults.campaign import campaign

SEED = int(os.environ.get("FUNNEL_TEST_FAULT_SEED", "1"))
ROUNDS = int(os.environ.get("FUNNEL_TEST_FAULT_ROUNDS", "12"))
SECONDS_MAX = float(os.environ.get("FUNNEL_TEST_FAULT_SECONDS", "90"))
"""No round begins later than this: on a slow machine there are fewer."""


@pytest.mark.timeout(int(SECONDS_MAX) + 240)
async def test_campaign__of_random_faults(own_stack: OwnStack) -> None:
    rounds = campaign(own_stack, seed=SEED, rounds_max=ROUNDS, seconds_max=SECONDS_MAX)
    clean = [each.number async for each in rounds]
    assert clean == list(range(1, len(clean) + 1))
    assert clean
