"""What a consumer process tells Prometheus. Labels are lanes and closed sets, never ids."""

from collections import Counter as Tally
from collections.abc import Callable, Sequence

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contract.journal import JournalRow


class ConsumerMetrics:
    """The instruments of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter(
            "funnel_records", "Command records settled", ["lane"], registry=registry
        )
        self.results = Counter(
            "funnel_results", "Results by outcome", ["outcome", "reason"], registry=registry
        )
        self.reroutes = Counter(
            "funnel_reroutes", "Records sent on to their home lane", ["lane"], registry=registry
        )
        self.dead_letters = Counter(
            "funnel_dead_letters", "Dead letters by error code", ["code"], registry=registry
        )
        self.batch_seconds = Histogram(
            "funnel_batch_seconds", "From poll to COMMIT of a batch", registry=registry
        )
        self.lag = Gauge("funnel_lag_records", "Offsets to read", ["lane"], registry=registry)
        self.backlog = Gauge(
            "funnel_backlog_rows", "Results decided, not yet published", ["lane"], registry=registry
        )
        self.owned = Gauge("funnel_lane_owned", "1 while owned here", ["lane"], registry=registry)
        self.halted = Gauge("funnel_lane_halted", "1 while halted", ["lane"], registry=registry)
        self.paused = Gauge("funnel_lane_paused", "1 in an outage", ["lane"], registry=registry)
        self.held = Gauge(
            "funnel_lane_held", "1 behind an open transaction", ["lane"], registry=registry
        )

    def lane(self, lane: int) -> "LaneMetrics":
        return LaneMetrics(self, str(lane))


class LaneMetrics:
    """The same, for one lane."""

    def __init__(self, metrics: ConsumerMetrics, lane: str) -> None:
        self._metrics = metrics
        self._records = metrics.records.labels(lane)
        self._reroutes = metrics.reroutes.labels(lane)
        self._lag = metrics.lag.labels(lane)
        self._backlog = metrics.backlog.labels(lane)
        self._owned = metrics.owned.labels(lane)
        self._halted = metrics.halted.labels(lane)
        self._paused = metrics.paused.labels(lane)
        self._held = metrics.held.labels(lane)

    def polled(self, *, lag: int, backlog: int) -> None:
        """Where the lane stands, batch or no batch."""
        self._lag.set(lag)
        self._backlog.set(backlog)

    def batch(self, *, records: int, seconds: float) -> None:
        self._records.inc(records)
        self._metrics.batch_seconds.observe(seconds)

    def settled(self, rows: Sequence[JournalRow]) -> None:
        """Counts outcomes, reroutes and dead letters of one batch."""
        kinds = Tally((row.kind, row.outcome, row.reason) for row in rows)
        for (kind, outcome, reason), total in kinds.items():
            if kind == "command":
                self._metrics.results.labels(outcome, reason or "").inc(total)
            elif kind == "reroute":
                self._reroutes.inc(total)
        for row in rows:
            if row.kind == "dead_letter":
                code = orjson.loads(row.details or b"{}")["error_code"]
                self._metrics.dead_letters.labels(code).inc()

    def owned(self, yes: bool) -> None:
        self._owned.set(yes)
        if not yes:
            self._lag.set(0)
            self._backlog.set(0)
            self._held.set(0)

    def halted(self, yes: bool) -> None:
        self._halted.set(yes)

    def held(self, yes: bool) -> None:
        self._held.set(yes)

    def paused_while(self, holds: Callable[[], bool]) -> None:
        """Asked whenever somebody looks, so it cannot lag behind."""
        self._paused.set_function(holds)
