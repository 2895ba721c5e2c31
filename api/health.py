"""`/livez`, `/readyz`, `/healthz`, `/metrics`: for orchestrators and Prometheus, without a token.

Alive means that this process answers. Ready means that a read would succeed now.
"""

from http import HTTPStatus

import orjson
from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

from api.database import Database, DatabaseAway, SchemaMissing
from api.metrics import MEDIA_TYPE, Metrics
from api.openapi import problems
from api.problems import unavailable
from api.queries import read_readiness
from api.schemas import HealthDocument

OK = "ok"


def add_health_routes(
    app: FastAPI, *, database: Database, metrics: Metrics, schema_version: str
) -> None:
    """The four, without a base path."""

    @app.get("/livez", response_model=HealthDocument, tags=["health"])
    async def livez() -> Response:
        """The process is alive."""
        return _healthy({})

    @app.get(
        "/readyz",
        response_model=HealthDocument,
        responses=problems(HTTPStatus.SERVICE_UNAVAILABLE),
        tags=["health"],
    )
    async def readyz() -> Response:
        """PostgreSQL answers, has the schema that this code needs, and knows all lanes."""
        checks = await _checks(database, schema_version)
        if any(state != OK for state in checks.values()):
            raise unavailable("Not ready; see checks.", extension={"checks": checks})
        return _healthy(checks)

    app.add_api_route(
        "/healthz",
        readyz,
        name="healthz",
        response_model=HealthDocument,
        responses=problems(HTTPStatus.SERVICE_UNAVAILABLE),
        tags=["health"],
    )

    @app.get("/metrics", response_class=PlainTextResponse, tags=["health"])
    async def read_metrics() -> Response:
        """The metrics of this process."""
        return Response(metrics.text(), media_type=MEDIA_TYPE)


async def _checks(database: Database, schema_version: str) -> dict[str, str]:
    try:
        found = await read_readiness(database)
    except SchemaMissing:
        return {"postgresql": OK, "schema": "missing", "lanes": "unknown"}
    except DatabaseAway:
        return {"postgresql": "away", "schema": "unknown", "lanes": "unknown"}
    known = 0 < found.lanes_known == found.lanes_total
    return {
        "postgresql": OK,
        "schema": OK if found.schema_version >= schema_version else "too old",
        "lanes": OK if known else "missing",
    }


def _healthy(checks: dict[str, str]) -> Response:
    return Response(orjson.dumps({"status": OK, "checks": checks}), media_type="application/json")
