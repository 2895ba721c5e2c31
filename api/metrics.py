"""Rate, errors and duration of requests by route template, and what waits or is connected.

They go into the registry of the app: nothing is global, and no label ever holds an id.
"""

from collections.abc import Callable
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Seconds. Around the targets: a read in milliseconds, a write in 80, a wait in tens of seconds.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)


class Metrics:
    """The API's metrics, and their text for Prometheus."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        waits: Callable[[], float],
        connections: Callable[[], float],
        kafka_away: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._requests = Counter(
            "funnel_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "funnel_http_request_duration_seconds",
            "From the request's head to the last byte of the answer.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        # Bounded: all three come from closed sets. `labels` costs more than counting.
        self._of = cache(
            lambda method, route, status: (
                self._requests.labels(method, route, status),
                self._seconds.labels(method, route),
            )
        )
        for name, meaning, read in (
            ("funnel_http_waits", "Requests waiting for a command to end.", waits),
            ("funnel_http_database_connections", "Connections open.", connections),
            ("funnel_http_kafka_away", "1 while writes are refused at once.", kafka_away),
        ):
            Gauge(name, meaning, registry=self._registry).set_function(read)
        ProcessCollector(registry=self._registry)

    def count(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """One request is over; `route` is a template."""
        known = method if method in METHODS else "other"
        requests, durations = self._of(known, route, status)
        requests.inc()
        durations.observe(seconds)

    def text(self) -> bytes:
        """In the exposition format of `MEDIA_TYPE`."""
        return generate_latest(self._registry)
