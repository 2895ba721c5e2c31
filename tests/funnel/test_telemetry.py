"""Traces as a collector sees them: from real processes, through the real exporter."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from contract.topics import Topics
from domain.limits import SPAN_LINKS_MAX
from funnel.settings import Settings
from funnel.telemetry import tracing
from tests.conftest import PARTITIONS_TOTAL
from tests.funnel.collector import Collector, attributes, collecting
from tests.funnel.processes import Environment, Run, Start, api_url, lines_until

ORGANIZATION = "00000000-0000-4000-8000-000000000001"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
PERSON = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
_CONTEXTS = "SELECT traceparent, tracestate FROM journal"
ROUTE = "/api/gulf-funnel/candidates"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as listening:
        yield listening


@pytest.fixture
def traced(environment: Environment, collector: Collector, topics: Topics) -> Environment:
    return environment | {
        "FUNNEL_TOPIC_PREFIX": topics.prefix,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-token=s3cret",
        "OTEL_BSP_SCHEDULE_DELAY": "20",
    }


async def test_trace__from_the_request_through_the_batch_to_its_publication(
    started: Start, funnel: Run, traced: Environment, collector: Collector, topics: Topics
) -> None:
    consumer = started("consume", env=traced)
    list(lines_until(consumer, "lane_taken", times=PARTITIONS_TOTAL))
    api = started("serve", env=traced)
    url = api_url(api)
    list(lines_until(api, "sender_back"))
    token = funnel(
        "token", "--organization", ORGANIZATION, "--user", "me", "--scope", "candidates:write",
        env=traced,
    ).stdout.strip()  # fmt: skip

    created = httpx2.post(
        url + ROUTE,
        json=PERSON,
        headers={
            "authorization": f"Bearer {token}",
            "traceparent": f"00-{TRACE}-{CALLER}-01",
            "tracestate": "caller=1",
        },
        timeout=30,
    )
    assert created.status_code == 201, created.text
    request = collector.span(f"POST {ROUTE}")
    settled = collector.span(f"settle {topics.commands}")
    published = collector.span(f"publish {topics.results}")
    for process in (api, consumer):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

    assert request.kind == Span.SPAN_KIND_SERVER
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CALLER)
    assert attributes(request.attributes) == {
        "http.request.method": "POST",
        "http.route": ROUTE,
        "http.response.status_code": "201",
    }
    for span in (settled, published):
        assert [(link.trace_id, link.span_id) for link in span.links] == [
            (request.trace_id, request.span_id)
        ]
        assert span.end_time_unix_nano > span.start_time_unix_nano
    assert attributes(settled.attributes)["messaging.batch.message_count"] == "1"
    assert collector.services == {"gulf-funnel"}
    assert collector.tokens == {"s3cret"}
    assert [api.returncode, consumer.returncode] == [0, 0]
    # What the command causes carries the request's span on.
    carried = f"00-{TRACE}-{request.span_id.hex()}-01", "caller=1"
    assert await trace_contexts(traced["DATABASE_URL"]) == [carried]


async def trace_contexts(database_url: str) -> list[tuple[str, str]]:
    """Of the journal's rows."""
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(_CONTEXTS)]
    finally:
        await connection.close()


def test_last_spans__are_sent_at_the_end(
    started: Start, traced: Environment, collector: Collector
) -> None:
    api = started("serve", env=traced | {"OTEL_BSP_SCHEDULE_DELAY": "600000"})
    url = api_url(api)
    httpx2.get(f"{url}/livez", timeout=30)
    httpx2.head(f"{url}{ROUTE}/{uuid4()}", timeout=30)
    before = collector.names()

    api.send_signal(signal.SIGTERM)
    api.communicate(timeout=60)

    assert before == []
    assert collector.names() == [f"HEAD {ROUTE}/{{candidate_id}}"]
    assert api.returncode == 0


def test_collector_that_is_away__keeps_nobody(
    started: Start, traced: Environment, collector: Collector
) -> None:
    api = started("serve", env=traced | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    url = api_url(api)
    answer = httpx2.get(f"{url}{ROUTE}", timeout=30)

    api.send_signal(signal.SIGTERM)
    api.communicate(timeout=60)

    assert answer.status_code == 401
    assert api.returncode == 0


def test_links__are_bounded_valid_and_each_once(collector: Collector) -> None:
    numbers = count(1)
    given = ["00-not-one-01", None, *2 * [f"00-{TRACE}-{CALLER}-01"]]
    more = (f"00-{TRACE}-{next(numbers):016x}-01" for _ in range(10_000))

    def traceparents() -> Iterator[str | None]:
        yield from given
        yield from more

    with (
        tracing(settings(collector)) as open_span,
        open_span("settle", "consumer", {}, links=traceparents()),
    ):
        pass
    span = collector.span("settle")

    linked = [link.span_id.hex() for link in span.links]
    assert linked == [CALLER, *(f"{number:016x}" for number in range(1, SPAN_LINKS_MAX))]
    assert next(numbers) == SPAN_LINKS_MAX  # the rest was not looked at
    assert span.parent_span_id == b""


def test_span__that_fails_tells_the_name_of_its_error(collector: Collector) -> None:
    with (
        pytest.raises(ValueError, match="ada"),
        tracing(settings(collector)) as open_span,
        open_span("settle", "consumer", {}),
    ):
        raise ValueError("ada@example.com")
    span = collector.span("settle")

    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert attributes(span.attributes) == {"error.type": "ValueError"}
    assert b"ada" not in span.SerializeToString()


def settings(collector: Collector) -> Settings:
    return Settings(otel={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})


def test_extra_that_is_missing__is_one_line_and_78(
    funnel: Run, traced: Environment, tmp_path: Path
) -> None:
    blocked = tmp_path / "without"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        'import sys\nsys.modules["opentelemetry.exporter"] = None\n'
    )

    done = funnel("serve", env=traced | {"PYTHONPATH": str(blocked)})

    assert done.returncode == 78
    assert done.stderr == (
        "funnel: OTEL_EXPORTER_OTLP_ENDPOINT: needs the extra otel: "
        "pip install 'gulf-funnel[otel]'\n"
    )


def test_nobody_traces__nothing_of_the_sdk_is_imported(bare_environment: Environment) -> None:
    code = (
        "import sys, funnel.serve, funnel.consume\n"
        "from funnel.settings import load_settings\n"
        "from funnel.telemetry import tracing\n"
        "from contract.spans import untraced\n"
        "with tracing(load_settings()) as open_span:\n"
        "    assert open_span is untraced\n"
        "print(sorted(each for each in sys.modules if each.startswith('opentelemetry.sdk')"
        " or 'exporter' in each))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=bare_environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout == "[]\n"
