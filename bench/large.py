"""`make bench-large`: the audit tools over a journal as long as a year's, on servers of its own.

`python -m bench.large --rows 50000000` takes some 60 GB of disk; one row in `--changes-every` is
a change, the others are results that changed nothing.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from bench.audit import audit_rows, run_audit
from bench.journal_fill import Fill
from migrations.runner import migrate_up
from stack import EmbeddedStack

VERSIONS = 5


def main() -> None:
    """Parse, run, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--changes-every", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where there is room")
    chosen = parser.parse_args()
    history = Fill(
        candidates_total=max(8, chosen.rows // VERSIONS // chosen.changes_every),
        versions_total=VERSIONS,
        changes_every=chosen.changes_every,
    )
    asyncio.run(_run(history, chosen.folder))


async def _run(history: Fill, folder: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="funnel-large-", dir=folder) as data:
        stack = EmbeddedStack(Path(data), report=_tell)
        try:
            servers = await asyncio.to_thread(stack.start)
            url = servers.database_url.rpartition("/")[0] + "/large"
            await migrate_up(url, report=lambda _: None)
            audit = await run_audit(
                url,
                history=history,
                postgres_pid=stack.postgres.status().pid or 0,
                bootstrap_servers=servers.kafka_bootstrap_servers,
                report=_tell,
            )
        finally:
            await asyncio.to_thread(stack.stop)
    for row in audit_rows(audit):
        print("| " + " | ".join(row) + " |")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
