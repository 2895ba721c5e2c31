"""What orchestrators and Prometheus see."""

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from migrations.files import required_version
from tests.api.asking import candidate_path, command_path
from tests.api.rows import CANDIDATE, Connection, Rows

READY = ["/readyz", "/healthz"]


@pytest.mark.parametrize("path", READY)
async def test_ready__when_schema_and_lanes_are_there(
    client: httpx2.AsyncClient, rows: Rows, path: str
) -> None:
    await rows.lanes()

    answer = await client.get(path)

    assert answer.status_code == 200
    checks = dict.fromkeys(("postgresql", "schema", "lanes", "commands"), "ok")
    # These tests have no Kafka: reads go on without it, writes do not.
    assert answer.json() == {"status": "degraded", "checks": checks | {"kafka": "away"}}


@pytest.mark.parametrize(
    ("change", "checks"),
    [
        ("DELETE FROM lanes", {"schema": "ok", "lanes": "missing"}),
        ("DELETE FROM lanes WHERE lane = 1", {"schema": "ok", "lanes": "missing"}),
        (
            f"DELETE FROM schema_migrations WHERE version = '{required_version()}'",
            {"schema": "too old", "lanes": "ok"},
        ),
        ("DELETE FROM schema_migrations", {"schema": "too old", "lanes": "ok"}),
        (
            "DROP TABLE schema_migrations",
            {"schema": "missing", "lanes": "unknown", "commands": "unknown"},
        ),
        (
            "REVOKE SELECT ON lanes FROM funnel_api",
            {"schema": "missing", "lanes": "unknown", "commands": "unknown"},
        ),
    ],
)
async def test_not_ready__is_503_and_says_why(
    client: httpx2.AsyncClient,
    rows: Rows,
    superuser: Connection,
    change: str,
    checks: dict[str, str],
) -> None:
    await rows.lanes()
    await superuser.execute(change)

    answer = await client.get("/readyz")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["checks"] == (
        {"postgresql": "ok", "commands": "ok", "kafka": "away"} | checks
    )


async def test_ready__but_degraded_while_lanes_stand_still(
    client: httpx2.AsyncClient, rows: Rows, superuser: Connection
) -> None:
    await rows.lanes()
    await superuser.execute("UPDATE lanes SET held_since = now() WHERE lane = 1")
    await superuser.execute("UPDATE lanes SET halted = 'why and what to do' WHERE lane < 2")

    answer = await client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["checks"]["commands"] == (
        "halted: lanes 0, 1; held by an open transaction of another client: lanes 1"
    )


async def test_ready__with_a_schema_newer_than_this_code(
    client: httpx2.AsyncClient, rows: Rows, superuser: Connection
) -> None:
    await rows.lanes()
    await superuser.execute("INSERT INTO schema_migrations (version) VALUES ('9999')")

    assert (await client.get("/readyz")).status_code == 200


async def test_metrics__count_by_route_template_and_never_by_id(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.candidate()
    await client.get(candidate_path(CANDIDATE))
    await client.get(candidate_path(CANDIDATE))
    await client.get(command_path("order-1"))
    await client.get("/nowhere/else")
    await client.request("BREW", "/livez")

    answer = await client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [
        sample
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    ]
    counted = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for sample in samples
        if sample.name == "funnel_http_requests_total"
    }
    assert counted == {
        ("GET", "/api/gulf-funnel/candidates/{candidate_id}", "200"): 2,
        ("GET", "/api/gulf-funnel/commands/{command_id}", "404"): 1,
        ("GET", "other", "404"): 1,
        ("other", "/livez", "405"): 1,
    }
    gauges = {sample.name: sample.value for sample in samples}
    assert gauges["funnel_http_waits"] == 0
    assert gauges["funnel_http_database_connections"] >= 1
    assert CANDIDATE not in answer.text
