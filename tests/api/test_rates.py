"""A user's allowance of writes."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import structlog

from api.auth import Principal
from api.dev_keys import DevKeys
from api.ports import CommandToSend, SenderAway
from api.problems import Problem
from api.queries import Position
from api.rates import WriteLimit
from stack.files import free_port
from tests.api.asking import Token, all_candidates_path, application, candidate_path, client_of
from tests.api.rows import CANDIDATE, OTHER_ORGANIZATION

Ask = Callable[..., httpx2.AsyncClient]


class Willing:
    """Lets writes come as far as their body."""

    is_away = False

    async def send(self, command: CommandToSend) -> Position:  # noqa: ARG002
        raise SenderAway


@pytest.fixture
def three_an_hour(keys: DevKeys, token: Token) -> Ask:
    """Clients of an application where a user has three writes."""
    app = application(
        "postgresql://nobody.invalid/none",
        keys,
        sender=Willing(),
        write_limit=WriteLimit("3/hour"),
    )
    return lambda **claims: client_of(app, token(scopes=("candidates:write",), **claims))


async def test_allowance__is_told_and_then_used_up(three_an_hour: Ask) -> None:
    ada = three_an_hour()
    left = []
    for _ in range(3):
        answer = await ada.patch(candidate_path(CANDIDATE), json={})
        assert answer.status_code == 400
        left.append(answer.headers["ratelimit"].partition(";t=")[0])
        assert answer.headers["ratelimit-policy"] == '"writes";q=3;w=3600'

    refused = await ada.post(all_candidates_path(), json={})

    assert left == ['"writes";r=2', '"writes";r=1', '"writes";r=0']
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "too_many_requests"
    assert 3500 < int(refused.headers["retry-after"]) <= 3600
    assert refused.headers["ratelimit"] == f'"writes";r=0;t={refused.headers["retry-after"]}'
    assert refused.headers.get_list("ratelimit-policy") == ['"writes";q=3;w=3600']


async def test_allowance__is_each_users_own(three_an_hour: Ask) -> None:
    for _ in range(4):
        last = await three_an_hour().patch(candidate_path(CANDIDATE), json={})
    bob = await three_an_hour(user="bob").patch(candidate_path(CANDIDATE), json={})
    namesake = await three_an_hour(organization_id=OTHER_ORGANIZATION).patch(
        candidate_path(CANDIDATE), json={}
    )

    assert (last.status_code, bob.status_code, namesake.status_code) == (429, 400, 400)


async def test_allowance__is_not_touched_by_who_may_not_write(
    three_an_hour: Ask, token: Token
) -> None:
    for _ in range(4):
        answer = await three_an_hour().delete(candidate_path(CANDIDATE))
        assert (answer.status_code, answer.headers.get("ratelimit")) == (403, None)

    assert (await three_an_hour().patch(candidate_path(CANDIDATE), json={})).status_code == 400


async def test_store_that_is_away__lets_writes_go_on_and_is_logged_once() -> None:
    limit = WriteLimit("1/hour", store="redis://127.0.0.1:1/0")
    ada = Principal("ada", OTHER_ORGANIZATION, frozenset())

    with structlog.testing.capture_logs() as logs:
        told = [await limit.take(ada) for _ in range(3)]

    assert told == [{}, {}, {}]
    assert [each["action"] for each in logs] == ["write_limit_away"]


@contextmanager
def redis(port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A server of this machine's; skips where there is none."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("neither redis-server nor valkey-server is on PATH")
    process = subprocess.Popen(
        [program, "--port", str(port), "--save", "", "--dir", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        yield process
    finally:
        process.terminate()
        process.communicate()


async def test_redis__counts_for_all_processes_and_may_go_and_come_back(tmp_path: Path) -> None:
    port = free_port(taken=[])
    store = f"redis://127.0.0.1:{port}/0"
    here, there = WriteLimit("3/hour", store=store), WriteLimit("3/hour", store=store)
    ada = Principal("ada", OTHER_ORGANIZATION, frozenset())
    bob = Principal("bob", OTHER_ORGANIZATION, frozenset())

    with redis(port, tmp_path):
        told = [await each.take(ada) for each in (here, there, here)]
        with pytest.raises(Problem) as refused:
            await there.take(ada)
        others = await there.take(bob)
    with structlog.testing.capture_logs() as logs:
        unseen = await here.take(ada)
        with redis(port, tmp_path):
            back = await here.take(ada)
    for each in (here, there):
        await each._limiter.storage.bridge.storage.aclose()  # type: ignore[attr-defined]

    left = [each["ratelimit"].partition(";t=")[0] for each in told]
    assert left == ['"writes";r=2', '"writes";r=1', '"writes";r=0']
    assert refused.value.status == 429
    assert 3500 < int(refused.value.headers["retry-after"]) <= 3600
    assert others["ratelimit"].startswith('"writes";r=2;')
    assert unseen == {}
    assert back["ratelimit"].startswith('"writes";r=2;')  # what it forgot is not held against ada
    assert [each["action"] for each in logs] == ["write_limit_away", "write_limit_back"]


async def test_off__counts_nothing() -> None:
    limit = WriteLimit("off")

    assert [await limit.take(Principal("ada", "o", frozenset())) for _ in range(200)] == [{}] * 200
