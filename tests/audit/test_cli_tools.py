"""Rebuild, export, republish and replay-diff as processes: what they print, and exit codes."""

import asyncio
from pathlib import Path

import orjson

from tests.audit.conftest import Connection, History
from tests.audit.test_time_travel import environment, funnel

__all__ = ["environment"]


async def test_cli__each_tool_over_a_real_history(
    environment: dict[str, str], history: History, clone: Connection, tmp_path: Path
) -> None:
    path = str(tmp_path / "all.jsonl.zst")
    (
        (code, lines, errors),
        (refused, _, _),
        (same, told, _),
        (missing, _, said),
    ) = await asyncio.gather(
        funnel(environment, "export", path, "--commands"),
        funnel(environment, "republish", history.topics.changes),
        funnel(environment, "replay-diff", "--since", "2020-01-01", "--json"),
        funnel(environment, "verify", "--export", str(tmp_path / "none")),
    )
    assert (code, errors) == (0, "")
    assert lines[0].startswith(f"{history.rows_total:,} journal rows (")
    assert refused == 2
    assert (same, orjson.loads(told[-1])["summary"]["differences"]) == (0, 0)
    assert (missing, "is not there" in said) == (65, True)

    await clone.execute("UPDATE candidates SET last_name = 'Secret'")
    (clean, _, _), (code, lines, _), (same, _, _), (again, _, said) = await asyncio.gather(
        funnel(environment, "verify", "--export", path),
        funnel(environment, "rebuild"),
        funnel(environment, "replay-diff", "--export", path),
        funnel(environment, "export", path),
    )
    assert (clean, same) == (0, 0)
    assert (again, "--resume" in said) == (2, True)
    assert code == 65
    assert lines[-1] == "24 differences, 24 candidates rebuilt, 0 repaired"
    assert "Secret" not in "".join(lines)
    code, lines, _ = await funnel(environment, "rebuild", "--repair", "--actor", "ann")
    assert (code, lines[-1]) == (0, "24 differences, 24 candidates rebuilt, 24 repaired")
    code, lines, _ = await funnel(environment, "rebuild", "--json")
    assert (code, orjson.loads(lines[-1])["summary"]["differences"]) == (0, 0)
