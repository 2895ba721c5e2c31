"""What `verify` finds in the output topics: written anew from a real journal, with one fault."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from audit.output_log import TopicMissing
from audit.outputs import Output
from audit.verify import verify
from consumer.store import open_pool
from contract.events import EventBuilder, OutputRecord
from contract.topics import Topics
from producer.journal import JournalReader
from tests.audit.conftest import Connection, Verify
from tests.audit.history import EVENT_SOURCE, commands, consumer, misplaced, send
from tests.conftest import PARTITIONS_TOTAL

Kafka = dict[str, Any]
Headers = list[tuple[str, bytes | None]]
Edit = Callable[[list[OutputRecord]], Iterable[OutputRecord]]
Edits = dict[tuple[str, int], Edit]
"""What becomes of the records of a topic and partition."""
Publish = Callable[..., Awaitable[None]]
LANE = 1


@pytest.fixture
async def producer(kafka_options: Kafka) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**kafka_options)
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture
def publish(clone_url: str, topics: Topics, producer: AIOKafkaProducer) -> Publish:
    """Writes all output of the clone's journal, edited."""

    async def run(edits: Edits | None = None) -> None:
        pool = await open_pool(clone_url, lease=timedelta(seconds=10), lanes_max=1)
        builder = EventBuilder(topics, EVENT_SOURCE)
        logs: dict[tuple[str, int], list[OutputRecord]] = {}
        for lane in range(PARTITIONS_TOTAL):
            for row in await JournalReader(pool).after(lane, 0, 10_000):
                for record in builder.records(row):
                    logs.setdefault((record.topic, record.partition), []).append(record)
        await pool.close()
        for at, edit in (edits or {}).items():
            logs[at] = list(edit(logs[at]))
        for records in logs.values():
            for record in records:
                await write(producer, record)
        await producer.flush()

    return run


async def write(producer: AIOKafkaProducer, record: OutputRecord) -> None:
    await producer.send(
        record.topic,
        record.value,
        key=record.key,
        partition=record.partition,
        timestamp_ms=record.timestamp,
        headers=record.headers,
    )


def without(index: int) -> Edit:
    return lambda records: records[:index] + records[index + 1 :]


def with_changed(**parts: Any) -> Edit:
    return lambda records: [records[0], records[1]._replace(**parts), *records[2:]]


def repeated(records: list[OutputRecord]) -> list[OutputRecord]:
    return [*records[:2], records[1], *records[2:]]


def swapped(records: list[OutputRecord]) -> list[OutputRecord]:
    return [records[1], records[0], *records[2:]]


def numbered(number: bytes | None) -> Edit:
    """A record more at the end, with this number."""
    headers: Headers = [] if number is None else [("ce_sequence", number)]
    return lambda records: [*records, records[-1]._replace(headers=headers)]


async def test_outputs__written_anew_from_the_journal_are_clean(
    publish: Publish, verify_clone: Verify, topics: Topics
) -> None:
    await publish()
    findings = await verify_clone(topics)
    assert findings.listed == []
    assert (findings.backlog, findings.compacted, findings.expired) == (0, 0, 0)


AGAIN = "again, or out of order"
UNKNOWN = "which the journal does not have"
AHEAD = numbered(b"00000000000000999999")


@pytest.mark.parametrize(
    "faults",
    [
        {
            "results": [
                (without(4), "number 5", "none"),
                (repeated, "offset 2", AGAIN),
                (with_changed(value=b"{}"), "offset 1", "another"),
                (AHEAD, "offset", UNKNOWN),
            ],
            "changes": [
                (without(0), "number 1", "none"),
                (repeated, "offset 2", AGAIN),
                (with_changed(value=None), "offset 1", "another"),
                (AHEAD, "offset", UNKNOWN),
            ],
            "dead_letters": [
                (without(0), "number", "none"),
                (repeated, "offset 2", AGAIN),
                (with_changed(value=b"x"), "offset 1", "another"),
            ],
        },
        {
            "results": [
                (lambda records: records[:-1], "number", "none"),
                (swapped, "offset 1", AGAIN),
                (with_changed(key=None), "offset 1", "another"),
                (numbered(None), "offset", "a record without a number"),
            ]
        },
    ],
)
async def test_outputs__each_fault_is_found_and_named(
    publish: Publish,
    verify_clone: Verify,
    topics: Topics,
    faults: dict[str, list[tuple[Edit, str, str]]],
) -> None:
    """One fault in each partition."""
    wanted = {
        (getattr(topics, topic), lane): fault
        for topic, of_lanes in faults.items()
        for lane, fault in enumerate(of_lanes)
    }
    await publish({at: edit for at, (edit, _, _) in wanted.items()})
    findings = await verify_clone(topics)
    assert {difference.check for difference in findings.listed} == {"output"}
    told = {
        (topic, lane): [
            difference.found
            for difference in findings.listed
            if difference.where.startswith(f"{topic}/{lane}, {place}")
        ]
        for (topic, lane), (_, place, _) in wanted.items()
    }
    for at, (_, _, found) in wanted.items():
        assert any(found in each for each in told[at]), at
    named = {difference.where.partition(", ")[0] for difference in findings.listed}
    assert named == {f"{topic}/{lane}" for topic, lane in wanted}


async def test_outputs__header_that_differs_is_named(
    publish: Publish, verify_clone: Verify, topics: Topics
) -> None:
    def edit(records: list[OutputRecord]) -> list[OutputRecord]:
        first = records[0]
        kept = [header for header in first.headers if header[0] != "traceparent"]
        return [first._replace(headers=kept), *records[1:]]

    await publish({(topics.changes, LANE): edit})
    (found,) = (await verify_clone(topics)).listed
    assert found.found == "others: traceparent"


async def test_outputs__front_removed_by_retention_is_no_difference(
    publish: Publish, verify_clone: Verify, topics: Topics, kafka_options: Kafka
) -> None:
    await publish()
    admin = AIOKafkaAdminClient(**kafka_options)
    await admin.start()
    await admin.delete_records(
        {
            TopicPartition(topics.results, LANE): RecordsToDelete(before_offset=5),
            TopicPartition(topics.dead_letters, LANE): RecordsToDelete(before_offset=1),
        }
    )
    await admin.close()
    findings = await verify_clone(topics)
    assert findings.listed == []
    assert findings.expired == 6


async def test_outputs__compaction_may_take_what_is_old_and_superseded_only(
    clone: Connection,
    publish: Publish,
    verify_clone: Verify,
    topics: Topics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # That rows contradict their data now is told first, a hundred times and more.
    monkeypatch.setattr("audit.findings.LISTED_MAX", 10_000)
    await clone.execute("CREATE TABLE journal_rest PARTITION OF journal DEFAULT")
    await clone.execute(
        "UPDATE journal SET recorded_at = recorded_at - interval '8 days', change = "
        'regexp_replace(change::text, \'"recorded_at":"[^"]*"}$\', \'"recorded_at":"\' || '
        "to_char((recorded_at - interval '8 days') AT TIME ZONE 'UTC', "
        '\'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\') || \'"}\')::json'
    )
    newest = await clone.fetchval(
        "SELECT max(change_sequence) FROM journal j WHERE lane = $1 AND change IS NOT NULL "
        "AND NOT EXISTS (SELECT FROM journal k WHERE k.organization_id = j.organization_id "
        "AND k.candidate_id = j.candidate_id AND k.version > j.version)",
        LANE,
    )

    def edit(records: list[OutputRecord]) -> list[OutputRecord]:
        return [*records[1 : newest - 1], *records[newest:]]

    await publish({(topics.changes, LANE): edit})
    findings = await verify_clone(topics)
    assert [each.where for each in findings.listed if each.check == "output"] == [
        f"{topics.changes}/{LANE}, number {newest}"
    ]
    assert findings.compacted == 1


@pytest.mark.parametrize("consumers_alive", [0, 1])
async def test_outputs__backlog_is_a_difference_only_when_nobody_will_publish_it(
    clone: Connection, publish: Publish, verify_clone: Verify, topics: Topics, consumers_alive: int
) -> None:
    last = await clone.fetchval("SELECT result_sequence FROM lanes WHERE lane = $1", LANE)
    await clone.execute(
        "UPDATE lanes SET published_result_sequence = $2 WHERE lane = $1", LANE, last - 3
    )
    await clone.execute(
        "INSERT INTO consumers SELECT 'alive', now() + interval '1 hour' "
        "FROM generate_series(1, $1)",
        consumers_alive,
    )
    await publish({(topics.results, LANE): lambda records: records[: last - 3]})
    findings = await verify_clone(topics)
    assert findings.backlog == 3
    assert findings.total == 1 - consumers_alive


async def test_outputs__open_transaction_is_waited_for(
    publish: Publish, verify_clone: Verify, topics: Topics, kafka_options: Kafka
) -> None:
    await publish()
    stranger = AIOKafkaProducer(**kafka_options, transactional_id=topics.transactional_id(LANE))
    await stranger.start()
    await stranger.begin_transaction()
    await stranger.send_and_wait(topics.results, b"aborted", partition=LANE)
    verifying = asyncio.ensure_future(verify_clone(topics))
    _, waiting = await asyncio.wait({verifying}, timeout=1)
    assert waiting
    await stranger.abort_transaction()
    await stranger.stop()
    assert (await verifying).listed == []


async def test_outputs__row_that_no_event_can_be_built_from(
    clone: Connection, publish: Publish, verify_clone: Verify, topics: Topics
) -> None:
    await publish()
    await clone.execute(
        "UPDATE journal SET details = NULL WHERE kind = 'dead_letter' AND lane = $1 "
        "AND result_sequence = (SELECT max(result_sequence) FROM journal "
        "WHERE kind = 'dead_letter' AND lane = $1)",
        LANE,
    )
    findings = await verify_clone(topics)
    assert "a row that events can be built from" in {each.expected for each in findings.listed}


async def test_outputs__dead_letters_that_retention_has_removed(
    clone: Connection, publish: Publish, verify_clone: Verify, topics: Topics
) -> None:
    await publish()
    gone = await clone.fetch("DELETE FROM dead_letters RETURNING lane")
    assert gone
    # Too young for retention: somebody else has removed them.
    unbuildable = "a row that events can be built from"
    findings = await verify_clone(topics)
    assert [each.expected for each in findings.listed].count(unbuildable) == len(gone)
    findings = await verify_clone(topics, dead_letters_kept=timedelta(0))
    assert findings.listed == []


async def test_outputs__missing_topics_are_told(verify_clone: Verify) -> None:
    with pytest.raises(TopicMissing, match="funnel topics check"):
        await verify_clone(Topics("absent."))


async def test_verify__is_clean_while_a_consumer_goes_on(
    database_url: str, kafka_options: Kafka, topics: Topics
) -> None:
    output = Output(kafka=kafka_options, topics=topics, event_source=EVENT_SOURCE)
    journal_rows = [0]
    async with consumer(database_url, kafka_options, topics):
        while len(journal_rows) < 4:
            await send(kafka_options, topics, commands() + misplaced())
            findings = await verify(
                database_url,
                deduplication=timedelta(days=35),
                report=lambda _done, _total: None,
                output=output,
            )
            assert findings.listed == []
            if findings.rows["journal rows"] > journal_rows[-1]:
                journal_rows.append(findings.rows["journal rows"])
