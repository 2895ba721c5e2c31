"""`/livez`, `/readyz`, `/healthz`, `/metrics`: for orchestrators and Prometheus, without a token.

Alive means that this process answers. Ready means that a read would succeed now. Where commands
of some lanes are not being settled, reads still succeed: ready, but `degraded`.
"""

from collections.abc import Callable
from http import HTTPStatus

import orjson
from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

from api.database import Database, DatabaseAway, SchemaMissing
from api.examples import READY
from api.metrics import MEDIA_TYPE, Metrics
from api.openapi import answer, problems
from api.problems import unavailable
from api.queries import Readiness, read_readiness
from api.schemas import HealthDocument

OK = "ok"
_NEEDED = ("postgresql", "schema", "lanes")
_AFTER = ("schema", "lanes", "commands")
"""Unknown without PostgreSQL."""


def add_health_routes(
    app: FastAPI,
    *,
    database: Database,
    metrics: Metrics,
    schema_version: str,
    kafka_away: Callable[[], bool],
) -> None:
    """The four, without a base path."""
    ready = {200: answer("Ready", READY), **problems(HTTPStatus.SERVICE_UNAVAILABLE)}

    @app.get(
        "/livez",
        response_model=HealthDocument,
        responses={200: answer("Alive", {"status": OK, "checks": {}})},
        tags=["health"],
    )
    async def livez() -> Response:
        """The process is alive."""
        return _healthy({})

    @app.get(
        "/readyz",
        response_model=HealthDocument,
        responses=ready,
        tags=["health"],
    )
    async def readyz() -> Response:
        """PostgreSQL answers, has the schema that this code needs, and knows all lanes.

        `commands` tells of lanes that stand still: halted, or held by another client's open
        transaction; `kafka` whether writes are taken. Reads go on, so neither is a reason to send
        requests elsewhere.
        """
        checks = await _checks(database, schema_version)
        checks["kafka"] = "away" if kafka_away() else OK
        if any(checks[name] != OK for name in _NEEDED):
            raise unavailable("Not ready; see checks.", extension={"checks": checks})
        return _healthy(checks)

    app.add_api_route(
        "/healthz",
        readyz,
        name="healthz",
        response_model=HealthDocument,
        responses=ready,
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
        return {"postgresql": OK} | dict.fromkeys(_AFTER, "unknown") | {"schema": "missing"}
    except DatabaseAway:
        return {"postgresql": "away"} | dict.fromkeys(_AFTER, "unknown")
    known = 0 < found.lanes_known == found.lanes_total
    return {
        "postgresql": OK,
        "schema": OK if found.schema_version >= schema_version else "too old",
        "lanes": OK if known else "missing",
        "commands": _standing_still(found),
    }


def _standing_still(found: Readiness) -> str:
    said = [
        f"{how}: lanes {', '.join(map(str, lanes))}"
        for how, lanes in (
            ("halted", found.lanes_halted),
            ("held by an open transaction of another client", found.lanes_held),
        )
        if lanes
    ]
    return "; ".join(said) or OK


def _healthy(checks: dict[str, str]) -> Response:
    status = OK if all(state == OK for state in checks.values()) else "degraded"
    return Response(
        orjson.dumps({"status": status, "checks": checks}), media_type="application/json"
    )
