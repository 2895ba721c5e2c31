"""One write over HTTP: its command is checked, published, and its outcome awaited.

Once Kafka has the command, the answer is never an error of ours: settled in time or pending. A
key that was used before is answered by its own first outcome, and nothing is published twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response
from uuid_utils.compat import uuid7

from api.auth import Principal
from api.database import DatabaseAway
from api.headers import idempotency_key, trace_context, wait_preferred_s
from api.limits import RETRY_AFTER_S, WRITE_WAIT_S
from api.ports import CommandSender, CommandToSend, SenderAway
from api.problems import invalid_request, unavailable
from api.queries import CommandKey, CommandStatus, Position
from api.refusals import Places, invalid_there, refusal, reused_key
from api.waiting import CommandWaits, TooManyWaits
from contract.journal import JournalRow
from domain.commands import CommandParser
from domain.field_errors import FieldError, InvalidCommand
from domain.identity import Identity, command_digest


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for a write, under which identity, and how long the answer may take."""

    principal: Principal
    identity: Identity
    repeatable: bool
    wait_s: int
    headers: dict[str, str]
    traceparent: str | None
    tracestate: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """A command that Kafka has: its journal row if it was settled in time."""

    asked: Asked
    settled: JournalRow | None
    position: Position | None
    lag: int | None


class Writes:
    """Publishes commands for requests and answers them.

    Args:
        deployment: keeps the identities of two deployments apart; `ce_source` of our events.
        base_path: of the API, for `Location`.
    """

    def __init__(
        self,
        *,
        sender: CommandSender,
        waits: CommandWaits,
        parser: CommandParser,
        deployment: str,
        base_path: str,
    ) -> None:
        self._sender = sender
        self._waits = waits
        self._parser = parser
        self._deployment = deployment
        self._base_path = base_path

    def ask(self, request: Request, principal: Principal) -> Asked:
        """What the header fields of this request say about its command.

        Raises:
            Problem: 400, its `Idempotency-Key` is none.
        """
        try:
            key = idempotency_key(request.headers.getlist("idempotency-key"))
        except ValueError:
            raise invalid_request(
                FieldError("/header/idempotency-key", "malformed", "One key is required.")
            ) from None
        preferred = wait_preferred_s(request.headers.getlist("prefer"))
        traceparent, tracestate = trace_context(request.headers)
        return Asked(
            principal=principal,
            identity=Identity(
                principal.organization_id,
                command_source(self._deployment, principal.user),
                key or str(uuid7()),
            ),
            repeatable=key is not None,
            wait_s=WRITE_WAIT_S if preferred is None else preferred,
            headers={} if preferred is None else {"preference-applied": f"wait={preferred}"},
            traceparent=traceparent,
            tracestate=tracestate,
        )

    async def write(
        self, asked: Asked, command_type: str, data: dict[str, Any], places: Places
    ) -> Written:
        """Publish one command and wait for it.

        Args:
            data: without `organization_id` and `actor`, which the token tells.
            places: where in the request the members of `data` stand.

        Raises:
            Problem: it is not valid, was refused, or cannot be published.
        """
        principal = asked.principal
        told = {"organization_id": principal.organization_id, "actor": principal.user}
        data = told | data | told  # whatever a body says, the token has the last word
        self._check(command_type, data, places)
        digest = command_digest(command_type, data)
        known = await self._known(asked)
        if known is not None and known.ended is not None:
            return self._settled(asked, known.ended, digest, places, None)
        position = await self._publish(asked, command_type, data)
        status = await self._status(asked, position)
        if status.ended is None:
            return Written(asked, None, position, status.lag)
        return self._settled(asked, status.ended, digest, places, position)

    def pending(self, written: Written) -> Response:
        """202, with the place where its outcome can be asked for."""
        identity = written.asked.identity
        document = {
            "command_id": identity.command_id,
            "organization_id": identity.organization_id,
            "outcome": "pending",
        }
        if written.lag is not None:
            document["lag"] = written.lag  # type: ignore[assignment]
        headers = {
            "location": self.location(written),
            "retry-after": str(RETRY_AFTER_S),
            **written.asked.headers,
        }
        return Response(
            orjson.dumps(document), HTTPStatus.ACCEPTED, headers, media_type="application/json"
        )

    def location(self, written: Written) -> str:
        """The command as a resource; `position` is what makes it `pending` and not unknown."""
        command_id = quote(written.asked.identity.command_id, safe="")
        return f"{self._base_path}/commands/{command_id}?{urlencode(_tokens(written))}"

    def operation_location(self, written: Written, operation_id: str) -> str:
        """The operation that this command will begin, as a resource.

        Until it has begun, its command is what tells `pending` from refused.
        """
        asked = {"command_id": written.asked.identity.command_id} | _tokens(written)
        return f"{self._base_path}/bulk-operations/{operation_id}?{urlencode(asked)}"

    def _check(self, command_type: str, data: Mapping[str, Any], places: Places) -> None:
        try:
            self._parser.parse(command_type, data)
        except InvalidCommand as invalid:
            raise invalid_there(invalid.errors, places) from None

    async def _known(self, asked: Asked) -> CommandStatus | None:
        """How this key stands, if it may have been used before."""
        if not asked.repeatable:
            return None
        return await self._waits.status(_key(asked, None), wait_s=0)

    async def _publish(self, asked: Asked, command_type: str, data: Mapping[str, Any]) -> Position:
        command = CommandToSend(
            command_type=command_type,
            data=data,
            command_id=asked.identity.command_id,
            source=asked.identity.source,
            traceparent=asked.traceparent,
            tracestate=asked.tracestate,
        )
        try:
            return await self._sender.send(command)
        except SenderAway as away:
            raise unavailable(
                "Kafka is away. To try again safely, send Idempotency-Key: command_id.",
                extension={"command_id": command.command_id},
            ) from away

    async def _status(self, asked: Asked, position: Position) -> CommandStatus:
        try:
            return await self._waits.status(_key(asked, position), wait_s=asked.wait_s)
        except (DatabaseAway, TooManyWaits):
            return CommandStatus(None, None)  # it is published: it will be settled

    def _settled(
        self,
        asked: Asked,
        row: JournalRow,
        digest: bytes,
        places: Places,
        position: Position | None,
    ) -> Written:
        if row.kind == "command" and row.digest is not None and bytes(row.digest) != digest:
            raise reused_key()
        written = Written(asked, row, position, None)
        refused = refusal(row, places)
        if refused is not None:
            refused.headers |= asked.headers | {"location": self.location(written)}
            raise refused
        return written


def command_source(deployment: str, user: str) -> str:
    """`ce_source` of a user's commands: scopes their keys, and names no person."""
    digest = blake2b(f"{deployment}\0{user}".encode(), digest_size=16)
    return f"/gulf-funnel/api/{digest.hexdigest()}"


def _tokens(written: Written) -> dict[str, str]:
    """What the address of a command tells beside its id."""
    tokens, position = {"source": written.asked.identity.source}, written.position
    if position is not None:
        tokens["position"] = f"{position.lane}:{position.offset}"
    return tokens


def _key(asked: Asked, position: Position | None) -> CommandKey:
    identity = asked.identity
    return CommandKey(identity.organization_id, identity.command_id, identity.source, position)
