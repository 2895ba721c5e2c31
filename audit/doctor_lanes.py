"""The doctor's judgement of the lanes: pure functions of their rows and their commands."""

from collections.abc import Iterator, Mapping, Sequence

from audit.diagnosis import Line, fail, graded, ok, span, warn
from audit.doctor_kafka import CommandLog
from audit.doctor_postgres import LaneStanding

_WAITING_SECONDS_WARN, _WAITING_SECONDS_FAIL = 30.0, 300.0
_UNPUBLISHED_SECONDS_WARN, _UNPUBLISHED_SECONDS_FAIL = 30.0, 300.0
_HELD_SECONDS_FAIL = 300.0
"""Well above a transaction's usual time-out of a minute, and below any pager's patience."""


def judge_lanes(
    lanes: Sequence[LaneStanding], logs: Mapping[int, CommandLog], *, cluster_id: str | None,
    partitions_total: int, now: float,
) -> Iterator[Line]:  # fmt: skip
    """One line for each lane, or more where more is wrong. Without `logs` Kafka is away."""
    if not lanes:
        yield warn("lanes", "there are none yet", "start `funnel consume`: it makes them")
        return
    remembered = {(lane.cluster_id, lane.partitions_total) for lane in lanes}
    if cluster_id is not None and remembered != {(cluster_id, partitions_total)}:
        yield fail(
            "lanes",
            f"PostgreSQL remembers {lanes[0].partitions_total} partitions on cluster"
            f" {lanes[0].cluster_id}, found are {partitions_total} on {cluster_id}",
            "DATABASE_URL and KAFKA_BOOTSTRAP_SERVERS belong to different deployments",
            "configuration",
        )
    for lane in lanes:
        wrong = [line for line in _judge(lane, logs.get(lane.lane), now) if line.status != "OK"]
        if wrong:
            yield from wrong
        else:
            yield ok(_name(lane), _standing(lane, logs.get(lane.lane)))


def _judge(lane: LaneStanding, log: CommandLog | None, now: float) -> Iterator[Line]:
    name = _name(lane)
    if lane.halted is not None:
        cause, _, remedy = lane.halted.partition(". ")
        yield fail(name, cause, remedy or "see the log line lane_halted", "service")
    if not lane.owner_lives:
        who = f"{lane.owner}, whose lease is over" if lane.owner else "nobody"
        yield warn(name, f"is owned by {who}", "consumers take it within a lease, if any is alive")
    if lane.held_seconds is not None:
        yield graded(
            name,
            f"an open transaction of another client holds it, for {span(lane.held_seconds)}",
            "kafka-transactions.sh find-hanging --topic "
            f"{lane.commands_topic} --partition {lane.lane} tells whose; then its `abort`",
            value=lane.held_seconds, warn_at=0, fail_at=_HELD_SECONDS_FAIL,
        )  # fmt: skip
    if lane.unpublished and lane.unpublished_seconds is not None:
        yield graded(
            name,
            f"{lane.unpublished:,} results are not published, the first for"
            f" {span(lane.unpublished_seconds)}",
            "the publisher waits for Kafka or for an owner; see publisher_paused in the log",
            value=lane.unpublished_seconds,
            warn_at=_UNPUBLISHED_SECONDS_WARN, fail_at=_UNPUBLISHED_SECONDS_FAIL,
        )  # fmt: skip
    if log is not None:
        yield from _judge_commands(lane, log, now)


def _judge_commands(lane: LaneStanding, log: CommandLog, now: float) -> Iterator[Line]:
    name = _name(lane)
    if not log.first <= lane.next_offset <= log.end:
        yield fail(
            name,
            f"stands at offset {lane.next_offset}, the commands reach from {log.first} to"
            f" {log.end}",
            "records expired, or the topic was recreated: docs/operations.md, A lane is halted",
            "service",
        )
    elif log.waiting_since is not None:
        waited = max(0.0, now - log.waiting_since)
        yield graded(
            name,
            f"{log.stable_end - lane.next_offset:,} offsets behind, the oldest command has waited"
            f" {span(waited)}",
            "is it owned, and not halted? More consumers share the lanes; one lane is one core",
            value=waited, warn_at=_WAITING_SECONDS_WARN, fail_at=_WAITING_SECONDS_FAIL,
        )  # fmt: skip


def _name(lane: LaneStanding) -> str:
    return f"lane {lane.lane}"


def _standing(lane: LaneStanding, log: CommandLog | None) -> str:
    said = [f"owned by {lane.owner}"]
    if log is not None:
        said.append(f"{max(0, log.stable_end - lane.next_offset):,} offsets behind")
        if log.stable_end < log.end:
            said.append("a transaction of another client is open")
    if lane.progress_seconds is not None:
        said.append(f"last batch {span(lane.progress_seconds)} ago")
    return ", ".join(said)
