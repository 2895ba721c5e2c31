"""The whole service for tests of writes: real servers, a consumer, and the API that sends to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api.dev_keys import DevKeys
from contract.topics import Topics
from funnel.command_sender import KafkaSender
from funnel.consume import ConsumeConfig, run_consumer
from funnel.dead_letter_desk import Desk
from funnel.redriving import RedriveSender
from producer.forward import Forwarder
from tests.api.asking import EVENT_SOURCE, Token, application, client_of, running, until

ALL_SCOPES = ("candidates:read", "candidates:write", "candidates:erase", "operations:manage")
PERSON = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One deployment, its API in this process."""

    app: FastAPI
    sender: KafkaSender
    token: Token
    database_url: str
    topics: Topics
    raw: Forwarder

    def client(self, **claims: Any) -> httpx2.AsyncClient:
        """Asks as a user with every scope, by default of an organization of its own."""
        told = {"organization_id": str(uuid4()), "scopes": ALL_SCOPES} | claims
        return client_of(self.app, self.token(**told))


@asynccontextmanager
async def open_world(
    *,
    database_url: str,
    kafka: dict[str, Any],
    topics: Topics,
    keys: DevKeys,
    token: Token,
    **config: Any,
) -> AsyncIterator[World]:
    """API and consumer, from their start to their orderly end."""
    async with asyncio.TaskGroup() as tasks:
        stopping = asyncio.Event()
        consumer = ConsumeConfig(
            database_url=database_url,
            kafka=kafka,
            topics=topics,
            consumer_id=str(uuid4()),
            event_source=EVENT_SOURCE,
        )
        tasks.create_task(run_consumer(consumer, stopping, CollectorRegistry()))
        sender = KafkaSender(kafka=kafka, topics=topics, source=EVENT_SOURCE)
        forwarder = Forwarder(kafka=kafka, topic=topics.commands)
        desk = Desk(database_url, RedriveSender(forwarder))
        told = {"topics": topics, "sender": sender, "desk": desk}
        app = application(database_url, keys, **told | config)
        try:
            async with sender.running(), forwarder.running(), desk.running(), running(app):
                await until(lambda: not sender.is_away)
                yield World(
                    app=app,
                    sender=sender,
                    token=token,
                    database_url=database_url,
                    topics=topics,
                    raw=forwarder,
                )
        finally:
            stopping.set()
