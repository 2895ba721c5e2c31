"""The yardstick for `GET` of a candidate: a bare Starlette route that runs the same SELECT.

No token, no check, no metrics, no log, no JSON: it returns bytes of the same size.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.database import statement

CONNECTIONS_TOTAL = 4


def bare_app(database_url: str, size: int) -> Starlette:
    """The application; `size` is that of the answer."""
    select, answer = statement("candidates"), b"x" * size

    async def get_candidate(request: Request) -> Response:
        organization_id, candidate_id = request.path_params.values()
        async with request.app.state.pool.acquire() as connection:
            rows = await connection.fetch(select, [organization_id], [candidate_id])
        return Response(answer if rows else b"", media_type="application/json")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        settings = {"role": "funnel_api", "jit": "off"}
        async with asyncpg.create_pool(
            database_url, min_size=1, max_size=CONNECTIONS_TOTAL, server_settings=settings
        ) as app.state.pool:
            yield

    path = "/{organization_id}/{candidate_id}"
    return Starlette(routes=[Route(path, get_candidate)], lifespan=lifespan)


if __name__ == "__main__":
    url, port, size = sys.argv[1:]
    uvicorn.run(
        bare_app(url, int(size)), port=int(port), loop="uvloop", access_log=False, log_config=None
    )
