"""Sends the commands of one `funnel` call and tells what became of them.

Results and acknowledgements go to stdout, progress to stderr. The exit code is 0 only if Kafka
has every command and, where results are waited for, none of them was refused.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
import typer

from contract.topics import Topics
from domain.commands import BULK_TYPES
from funnel.cli.progress import progress, progress_of
from funnel.exits import BAD_DATA
from producer.client import CommandClient, CommandResult, OutgoingCommand

OK = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How to send.

    Attributes:
        kafka: keyword arguments of aiokafka's clients.
        wait: seconds to wait for results; None: do not wait.
        json: one JSON object a line instead of text.
    """

    kafka: Mapping[str, Any]
    topics: Topics
    source: str
    wait: float | None
    json: bool

    async def one(self, command: OutgoingCommand) -> int:
        """Send one command; returns the exit code."""
        async with self._client() as client:
            if self.wait is not None and command.type in BULK_TYPES:
                return await self._see_through(client, command, self.wait)
            if self.wait is not None:
                return self._tell(await client.send(command, wait=self.wait))
            sent = await client.send(command)
        told = {**sent._asdict(), "candidate_id": command.data.get("candidate_id")}
        if self.json:
            typer.echo(orjson.dumps(told))
        else:
            about = f" candidate {told['candidate_id']}" if told["candidate_id"] else ""
            typer.echo(
                f"sent command {sent.command_id}{about} "
                f"to partition {sent.partition} offset {sent.offset}"
            )
        return OK

    async def many(self, commands: Iterable[OutgoingCommand], *, total: int) -> int:
        """Send many; returns the exit code."""
        async with self._client() as client:
            if self.wait is not None:
                return await self._settle(client, commands, self.wait)
            with progress("sending", total) as report:
                sent = await client.load(commands, report=report)
        typer.echo(orjson.dumps({"sent": sent}) if self.json else f"{sent:,} commands sent")
        return OK

    async def _see_through(
        self, client: CommandClient, command: OutgoingCommand, wait: float
    ) -> int:
        """A bulk operation to its end: its counts go to stdout, what fails makes no bad exit."""
        code, last = OK, None
        async with aclosing(client.follow(command, wait=wait)) as told:
            with progress_of("candidates") as report:
                async for each in told:
                    if isinstance(each, CommandResult):
                        code = self._tell(each)
                    else:
                        last, counts = each, each["counts"]
                        report(counts["total"] - counts["pending"], counts["total"])
        if last is not None:
            typer.echo(orjson.dumps(last) if self.json else operation_line(last))
        return code

    async def _settle(
        self, client: CommandClient, commands: Iterable[OutgoingCommand], wait: float
    ) -> int:
        code, outcomes = OK, Counter[str]()
        try:
            async with aclosing(client.send_many(commands, wait=wait)) as results:
                async for result in results:
                    outcomes[result.reason or result.outcome] += 1
                    code = self._tell(result) or code
        finally:
            counts = ", ".join(f"{n:,} {name}" for name, n in outcomes.most_common())
            typer.echo(f"{outcomes.total():,} settled: {counts or 'none'}", err=True)
        return code

    def _tell(self, result: CommandResult) -> int:
        typer.echo(orjson.dumps(result.data) if self.json else line_of(result))
        return BAD_DATA if result.refused else OK

    def _client(self) -> CommandClient:
        return CommandClient(kafka=self.kafka, source=self.source, topics=self.topics)


def line_of(result: CommandResult) -> str:
    """A result in one line, for a person."""
    data = result.data
    parts = [result.outcome, result.reason]
    if original := data.get("original"):
        parts += ["of", original.get("outcome"), original.get("reason")]
    if candidate_id := data.get("candidate_id"):
        parts += ["candidate", candidate_id]
    if version := result.version or data.get("current_version"):
        parts += ["version", str(version)]
    if fields := data.get("fields"):
        parts += ["fields", ",".join(fields)]
    if operation_id := data.get("operation_id"):
        parts += ["operation", operation_id]
    if counts := data.get("counts"):
        parts.append(counts_text(counts))
    parts += ["command", result.command_id]
    errors = [f"  {each['pointer'] or '/'}: {each['detail']}" for each in data.get("errors", ())]
    return "\n".join([" ".join(part for part in parts if part), *errors])


def operation_line(told: Mapping[str, Any]) -> str:
    """Where a bulk operation stands, in one line, for a person."""
    return f"{told['status']} operation {told['operation_id']} {counts_text(told['counts'])}"


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts of items, those that are zero left out."""
    shown = [f"{number:,} {name}" for name, number in counts.items() if number and name != "total"]
    return f"{counts['total']:,} candidates: {', '.join(shown) or 'none'}"
