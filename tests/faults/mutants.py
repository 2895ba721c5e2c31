"""The mutation check of the oracle: each promise broken on purpose must be noticed.

`make mutants` copies the tree, breaks one thing in the copy, runs the few tests that should see
it, and prints what did. Not part of the test run: it takes some minutes. The list with what caught
each is in docs/faults.md.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 300


class Edit(NamedTuple):
    """One replacement, of a text that stands in the file exactly once."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """What is broken, and which tests should see it."""

    name: str
    edits: Sequence[Edit]
    tests: Sequence[str]


_TRANSACTIONS, _PUBLISHER = "consumer/transactions.py", "producer/publisher.py"
_TAKEOVER = "producer/takeover.py"
_CRASHES = "tests/faults/test_crash_points.py"
_HANDOVER = "tests/faults/test_handover.py"
_ZOMBIES = "tests/faults/test_zombies.py"

MUTANTS = (
    Mutant(
        "no fence: each producer has a transactional id of its own",
        [
            Edit(
                _PUBLISHER,
                "transactional_id=self._topics.transactional_id(self._lane),",
                "transactional_id=f'{self._topics.transactional_id(self._lane)}.{id(self)}',",
            )
        ],
        [f"{_ZOMBIES}::test_zombie__that_cannot_ask_whose_its_lanes_are"],
    ),
    Mutant(
        "no tail read: what was published is what the lane row says",
        [
            Edit(
                _TAKEOVER,
                "sequence = max(tail.sequence or 0, row.published_result_sequence)",
                "sequence = row.published_result_sequence",
            )
        ],
        [f"{_CRASHES}::test_kill__under_load[after_publish:6]"],
    ),
    Mutant(
        "forgotten transactions are all aborted, half committed ones, too",
        [Edit(_TAKEOVER, "forgotten, commit=commit)", "forgotten, commit=False)")],
        [f"{_CRASHES}::test_transaction__forgotten_by_kafka_is_ended_by_the_next_owner[results]"],
    ),
    Mutant(
        "tail read uncommitted: what was aborted counts as published",
        [
            Edit(
                "producer/tail.py",
                'consumer = _consumer(kafka, "read_committed")\n    try:\n        await consumer',
                'consumer = _consumer(kafka, "read_uncommitted")\n    try:\n        await consumer',
            )
        ],
        [f"{_CRASHES}::test_kill__under_load[after_sends:6]"],
    ),
    Mutant(
        "offset advanced before COMMIT: each statement is a transaction, the lane comes first",
        [
            Edit(
                "consumer/store.py",
                "async with asked(self._pool) as connection, connection.transaction():",
                "async with asked(self._pool) as connection:",
            ),
            Edit(
                "consumer/apply.py",
                "        await self._store.write_candidates(",
                "        await self._store.advance(connection, lane, after)\n"
                "        await self._store.write_candidates(",
            ),
            Edit(
                "consumer/apply.py",
                '        self._hook("after_write_journal")\n'
                "        await self._store.advance(connection, lane, after)\n",
                '        self._hook("after_write_journal")\n',
            ),
        ],
        [f"{_CRASHES}::test_kill__under_load[after_write_candidates:6]"],
    ),
    Mutant(
        "epoch not compared by the lane",
        [
            Edit(
                _TRANSACTIONS,
                "            if locked.owner_epoch != self._owner_epoch:\n"
                "                raise LaneLost(self._lane)\n",
                "",
            ),
            Edit(
                _TRANSACTIONS,
                "            if row.owner_epoch != self._owner_epoch:\n"
                "                raise LaneLost(self._lane)\n",
                "            row = row._replace(owner_epoch=self._owner_epoch)\n",
            ),
            Edit(
                "contract/lanes.py",
                "        return (self.owner_epoch, self.next_offset, self.journal_sequence) == (\n"
                "            other.owner_epoch,\n",
                "        return (0, self.next_offset, self.journal_sequence) == (\n"
                "            0,\n",
            ),
            Edit(
                "consumer/service.py",
                "for claim in await self._membership.lost(",
                "for claim in [] and await self._membership.lost(",
            ),
        ],
        [f"{_ZOMBIES}::test_zombie__wakes_up_after_its_lanes_went_on[after_write_journal:6]"],
    ),
    Mutant(
        "a lane is claimed without a new epoch",
        [Edit("consumer/sql/claim_lanes.sql", "owner_epoch + 1", "owner_epoch + 0")],
        [f"{_ZOMBIES}::test_zombie__that_cannot_ask_whose_its_lanes_are"],
    ),
    Mutant(
        "Kafka transaction committed without looking at the sends",
        [
            Edit(
                _PUBLISHER,
                "        await asyncio.gather(*(each.acknowledged for each in sent))\n",
                "        await asyncio.sleep(0.1)\n",
            )
        ],
        ["tests/faults/test_halts.py::test_changes__refused_while_the_results_were_accepted"],
    ),
    Mutant(
        "init whoever owns the lane: the epoch is not asked for, before or behind it",
        [
            Edit(
                _PUBLISHER,
                "        await self._demand_ownership()\n        self._hook",
                "        self._hook",
            ),
            Edit(
                _PUBLISHER,
                "fenced by it and must win.\n        await self._demand_ownership()\n",
                "fenced by it and must win.\n",
            ),
        ],
        [f"{_ZOMBIES}::test_zombie__that_cannot_ask_whose_its_lanes_are"],
    ),
    Mutant(
        "version guard removed",
        [Edit("consumer/sql/update_candidates.sql", "AND c.version = n.seen_version", "")],
        ["tests/faults/test_refusals.py::test_guard__does_not_hold_where_somebody_else_wrote"],
    ),
    Mutant(
        "digest ignored: another command of the same id is a duplicate",
        [
            Edit(
                "domain/decide.py",
                "if earlier.digest == submission.digest:",
                "if earlier.digest is not None:",
            )
        ],
        ["tests/consumer/test_settling.py::test_settling__duplicate_and_id_reused"],
    ),
    Mutant(
        "deduplication looks at nothing",
        [Edit("consumer/sql/settled.sql", "WHERE identity = k.identity", "WHERE false")],
        ["tests/faults/test_redelivery.py::test_redelivery__to_a_new_owner"],
    ),
    Mutant(
        "publish outside the transaction: offered before COMMIT",
        [
            Edit(
                _TRANSACTIONS,
                "            attempts.append(attempt)\n",
                "            attempts.append(attempt)\n"
                "            await self._outbox.offer(attempt.rows)\n"
                "            await asyncio.sleep(0.05)\n",
            ),
            Edit(
                _TRANSACTIONS,
                "            await self._outbox.offer(attempt.rows)\n            self._metrics",
                "            self._metrics",
            ),
        ],
        ["tests/faults/test_commit_answer.py::test_commit__is_lost_on_its_way[request-False]"],
    ),
    Mutant(
        "a COMMIT whose answer was lost is believed",
        [
            Edit(
                _TRANSACTIONS,
                "            if attempts and current.same_place(attempts[0].after):",
                "            if attempts:",
            )
        ],
        ["tests/faults/test_commit_answer.py::test_commit__is_lost_on_its_way[request-False]"],
    ),
    Mutant(
        "commits that PostgreSQL has lost are decided anew",
        [Edit(_TRANSACTIONS, "row.journal_sequence < self.row.journal_sequence", "False")],
        ["tests/faults/test_recover.py::test_recover__under_a_consumer_that_runs_all_the_while"],
    ),
    Mutant(
        "the batch's instant is the clock's, also where that has gone back",
        [
            Edit(
                "consumer/sql/lock_lane.sql",
                "greatest(last_recorded_at, clock_timestamp())",
                "clock_timestamp()",
            )
        ],
        ["tests/faults/test_clocks.py::test_clock__of_the_database_goes_back"],
    ),
    Mutant(
        "lanes that carry our name and that we do not hold stay ours",
        [
            Edit(
                "consumer/service.py",
                "        await self._membership.release_strays(self._running)\n",
                "",
            )
        ],
        [f"{_HANDOVER}::test_lanes__of_a_former_process_of_the_same_name_are_shared_again"],
    ),
)


def main(wanted: Sequence[str]) -> int:
    """Every mutant, or those whose name contains one of these; 0 if each was caught."""
    survived = 0
    for mutant in MUTANTS:
        if wanted and not any(part in mutant.name for part in wanted):
            continue
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            caught, how = _caught(mutant, Path(folder))
        survived += not caught
        sys.stdout.write(f"{'caught' if caught else 'SURVIVED'} | {mutant.name} | {how}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{survived} survived\n")
    return int(survived > 0)


def _caught(mutant: Mutant, folder: Path) -> tuple[bool, str]:
    _copy_tree(folder)
    for edit in mutant.edits:
        path = folder / edit.file
        text = path.read_text()
        if text.count(edit.old) != 1:
            return (
                False,
                f"the text to replace in {edit.file} is there {text.count(edit.old)} times",
            )
        path.write_text(text.replace(edit.old, edit.new))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *mutant.tests],
            cwd=folder,
            env=dict(os.environ) | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        return False, f"no end within {SECONDS_MAX} s"
    return _seen(done.stdout)


def _copy_tree(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def _seen(output: str) -> tuple[bool, str]:
    """Did a test fail (a server that does not come up is no such thing), and why, in a line."""
    failed = re.search(r"^FAILED \S*::(\S+)", output, re.MULTILINE)
    why = re.search(r"^E\s+(\S.*)$", output, re.MULTILINE)
    told = f"{failed[1] if failed else 'nothing failed'}: {why[1] if why else output[-200:]!r}"
    return failed is not None, told[:200]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
