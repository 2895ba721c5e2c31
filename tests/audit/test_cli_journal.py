"""`funnel journal …` as a process, and the sealer of a consumer."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from funnel.sealing import sealing
from tests.audit.conftest import Connection

FUNNEL = Path(sys.executable).with_name("funnel")
Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def funnel(clone_url: str, tmp_path: Path) -> Run:
    """Exit code, output and error output."""

    async def run(*words: str, **environment: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            FUNNEL, *words, cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env={"DATABASE_URL": clone_url} | environment,
        )  # fmt: skip
        out, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), errors.decode()

    return run


async def test_funnel_journal__seals_and_a_kept_head_tells_of_a_chain_hashed_anew(
    funnel: Run, clone: Connection, tmp_path: Path
) -> None:
    rows_total = await clone.fetchval("SELECT count(*) FROM journal")
    assert (await funnel("journal", "seal"))[:2] == (0, f"{rows_total} rows sealed\n")
    _, heads, _ = await funnel("journal", "head", "--json")
    (tmp_path / "heads").write_text(heads)
    code, out, errors = await funnel("verify", "--heads", "heads")
    assert code == 0, out + errors
    assert f"{rows_total} sealed rows" in out

    await clone.execute("TRUNCATE journal_seals")
    await clone.execute("UPDATE journal SET actor = 'eve' WHERE lane = 1 AND change IS NULL")
    await funnel("journal", "seal")
    assert (await funnel("verify", "--chain"))[0] == 0
    code, out, _ = await funnel("verify", "--heads", "heads")
    assert (code, "expected the chain that was kept elsewhere, " in out) == (65, True)
    assert "chain: lane 1, link 1, results 1 to " in out
    (tmp_path / "heads").write_text('{"lane": 1}')
    assert (await funnel("verify", "--heads", "heads"))[0] == 2


async def test_sealing__goes_on_beside_the_lanes_and_by_one_process_at_a_time(
    clone: Connection, clone_url: str
) -> None:
    every = timedelta(milliseconds=20)
    unsealed = (
        "SELECT count(*) FROM lanes AS l WHERE l.result_sequence > coalesce("
        "(SELECT max(last_result) FROM journal_seals AS s WHERE s.lane = l.lane), 0)"
    )
    async with sealing(clone_url, every=every), sealing(clone_url, every=every):
        async with asyncio.timeout(60):
            while await clone.fetchval(unsealed):  # noqa: ASYNC110  a table has no event
                await asyncio.sleep(0.02)
    lanes_total = await clone.fetchval("SELECT count(*) FROM lanes")
    assert await clone.fetchval("SELECT count(*) FROM journal_seals") == lanes_total
