"""Questions that are asked at once become one query.

A pooled connection and a round trip cost more than the read itself; shared, they nearly vanish.
One query is under way at a time, and whatever is asked meanwhile is the next: at low load that is
a batch of one. An answer is never older than its question.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from api.database import DatabaseAway
from api.limits import QUESTIONS_MAX

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")
Ask = Callable[[Sequence[Key]], Awaitable[Mapping[Key, Answer]]]


class Coalesced(Generic[Key, Answer]):
    """Asks `ask` for many keys at a time; a key that is not in its answer has none."""

    def __init__(self, ask: Ask[Key, Answer]) -> None:
        self._ask = ask
        self._questions: list[tuple[Key, asyncio.Future[Answer | None]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Answer | None:
        """The answer for this key.

        Raises:
            DatabaseAway: as `ask` does; also for those that were still in the queue.
        """
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._questions.append((key, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await answer

    async def _ask_all(self) -> None:
        try:
            while self._questions:
                batch = self._questions[:QUESTIONS_MAX]
                del self._questions[:QUESTIONS_MAX]
                await self._settle(batch)
        finally:
            self._asking = None

    async def _settle(self, batch: list[tuple[Key, asyncio.Future[Answer | None]]]) -> None:
        try:
            answers = await self._ask(list(dict.fromkeys(key for key, _ in batch)))
        except Exception as error:  # noqa: BLE001 - whoever asked raises it
            if isinstance(error, DatabaseAway):  # the next query would only wait as long
                batch += self._questions
                self._questions.clear()
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for key, answer in batch:
            if not answer.done():
                answer.set_result(answers.get(key))
