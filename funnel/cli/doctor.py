"""`funnel doctor`: one command at three in the morning.

Exit codes: 0 all OK, or only WARN; on FAIL 69 if a dependency does not answer, else 78 if schema,
topics or settings are not as needed, else 70: the service itself stands still.
"""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from funnel import servers
from funnel.cli.quiet import quiet_logs
from funnel.exits import BAD_CONFIGURATION, INTERNAL, UNAVAILABLE
from funnel.settings import BadSettings, Settings, load_settings, unknown_variables

if TYPE_CHECKING:
    from audit.diagnosis import Diagnosis, Line
    from audit.doctor import Patient

T = TypeVar("T")

app = typer.Typer()

EXITS = {None: 0, "away": UNAVAILABLE, "configuration": BAD_CONFIGURATION, "service": INTERNAL}
DISK_SHARE_WARN, DISK_SHARE_FAIL = 0.85, 0.95
"""Of the folder of the embedded servers: PostgreSQL stops all writes on a full disk."""


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Look at everything, and say for each thing OK, WARN or FAIL, and what to do.

    Changes nothing. Exit 0 without a FAIL; else 69, 78 or 70: something is away, is not as
    needed, or stands still.
    """
    from audit.diagnosis import Diagnosis
    from audit.doctor import examine
    from consumer.tolerant import tolerate_hostile_batches

    settings = load_settings()
    quiet_logs(settings)
    tolerate_hostile_batches()
    diagnosis = Diagnosis(
        lambda line: typer.echo(orjson.dumps(asdict(line)) if json else _text(line))
    )
    diagnosis.add(_look_around(settings))
    asyncio.run(examine(_patient(settings, diagnosis), diagnosis))
    if not json:
        counts = dict.fromkeys(("OK", "WARN", "FAIL"), 0)
        for line in diagnosis.lines:
            counts[line.status] += 1
        typer.echo(", ".join(f"{total} {status}" for status, total in counts.items()))
    raise typer.Exit(EXITS[diagnosis.fault])


def _patient(settings: Settings, diagnosis: "Diagnosis") -> "Patient":
    from audit.diagnosis import fail
    from audit.doctor import Patient
    from funnel.consume import describe
    from migrations.files import read_migrations
    from producer.admin import check_topics

    def found(check: str, place: Callable[[Settings], T]) -> T | None:
        try:
            return place(settings)
        except BadSettings as error:
            diagnosis.add([fail(check, str(error), "funnel stack start, or funnel up", "away")])
            return None

    database_url = found("postgresql", servers.database_url)
    kafka = found("kafka", servers.kafka_options)
    return Patient(
        database_url=database_url,
        kafka=kafka,
        topics=settings.topics,
        partitions_total=settings.partitions_total,
        deduplication=timedelta(days=settings.deduplication_days),
        schema_versions=tuple(each.version for each in read_migrations()),
        cluster=lambda: describe(kafka or {}, settings.topics),
        topic_problems=lambda: check_topics(
            kafka or {}, settings.topics, partitions_total=settings.partitions_total
        ),
    )


def _look_around(settings: Settings) -> "list[Line]":
    """The settings, and the disk where the servers are our own."""
    from audit.diagnosis import graded, ok, warn

    unknown = unknown_variables()
    lines = [
        warn("settings", f"no such variable: {', '.join(unknown)}", "funnel config lists them")
        if unknown
        else ok("settings", "every variable is known")
    ]
    if not settings.database_url.get_secret_value() and settings.data_dir.exists():
        disk = shutil.disk_usage(settings.data_dir)
        lines.append(
            graded(
                "disk", f"{disk.free / 2**30:,.1f} GiB free in {settings.data_dir}",
                "make room: on a full disk PostgreSQL and Kafka stop",
                value=disk.used / disk.total, warn_at=DISK_SHARE_WARN, fail_at=DISK_SHARE_FAIL,
            )
        )  # fmt: skip
    return lines


def _text(line: "Line") -> str:
    remedy = f"\n{'':6}{'':24}→ {line.remedy}" if line.remedy and line.status != "OK" else ""
    return f"{line.status:5} {line.check:23} {line.said}{remedy}"
