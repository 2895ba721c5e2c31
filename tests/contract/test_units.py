"""Units of the journal: what a bulk operation publishes, and pages that never cut one in two."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.journal import JournalRow, whole_units
from contract.schemas import adapter
from producer.publisher import _bounded, _follow_on
from tests.contract.test_events import BUILD, ORGANIZATION, TOPICS, row

OPERATION = "0192f0c1-7c1e-7abc-8def-0123456789ad"
COUNTS = dict.fromkeys(
    ("total", "applied", "unchanged", "conflict", "not_found", "invalid", "cancelled", "pending"), 0
)


def unit(result_sequence: int, journal_sequence: int, items: int) -> list[JournalRow]:
    """The changes of a chunk, and the news that closes it."""
    fields = {"result_sequence": result_sequence, "operation_id": OPERATION}
    details = orjson.dumps({"status": "running", "counts": COUNTS})
    nothing = dict.fromkeys(("candidate_id", "outcome", "version", "previous_version"))
    rows = [
        row(kind="item", change_sequence=n, change=b"{}", **fields)._replace(outcome=None)
        for n in range(1, items + 1)
    ]
    rows.append(row(kind="progress", details=details, **fields | nothing))
    return [
        each._replace(journal_sequence=number) for number, each in enumerate(rows, journal_sequence)
    ]


def units(sizes: list[int], first: int = 1) -> list[JournalRow]:
    rows: list[JournalRow] = []
    for number, items in enumerate(sizes, first):
        rows += unit(number, len(rows) + 1, items)
    return rows


def test_events__an_item_is_a_change_and_nothing_else() -> None:
    item, progress = unit(7, 1, 1)
    [change] = BUILD(item)
    assert (change.topic, change.value) == (TOPICS.changes, b"{}")
    [news] = BUILD(progress)
    assert news.topic == TOPICS.results
    assert news.key == ORGANIZATION.encode()
    data = orjson.loads(news.value or b"")
    assert adapter("bulk-operation.progressed.v1").validate_json(news.value or b"") == data
    assert (data["operation_id"], data["counts"], data["sequence"]) == (OPERATION, COUNTS, 7)


@pytest.mark.parametrize("kind", ["progress", "completed"])
def test_events__news_of_an_operation_say_which_command_began_it(kind: str) -> None:
    [news] = BUILD(unit(7, 1, 0)[0]._replace(kind=kind))  # type: ignore[arg-type]
    headers = dict(news.headers)
    assert headers["ce_correlationid"] == b"id-1"
    assert headers["ce_sequence"] == f"{7:020}".encode()


@given(st.lists(st.integers(0, 4), max_size=8), st.integers(6, 40))
def test_page__ends_with_a_unit_and_loses_none(sizes: list[int], rows_max: int) -> None:
    journal, read = units(sizes), list[JournalRow]()
    while True:
        after = read[-1].result_sequence if read else 0
        page = whole_units([r for r in journal if r.result_sequence > after][:rows_max], rows_max)
        if not page:
            break
        assert _follow_on(after, page)
        read += page
    assert read == journal


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
def test_follow_on__notices_any_row_that_is_missing(sizes: list[int], data: st.DataObject) -> None:
    journal = units(sizes)
    gone = data.draw(st.integers(0, len(journal) - 1))
    rest = journal[:gone] + journal[gone + 1 :]
    first_of_several = gone == 0 and sizes[0] > 0  # the one that a page cannot know of
    cut_at_a_unit = gone == len(journal) - 1 and sizes[-1] == 0
    if rest and not first_of_several and not cut_at_a_unit:
        assert not _follow_on(0, rest)


def test_parts__of_a_kafka_transaction_hold_whole_units() -> None:
    large = [r._replace(change=b"x" * 3_000_000 if r.change else None) for r in units([2, 1, 3, 0])]
    parts = list(_bounded(large))
    assert [each for part in parts for each in part] == large
    assert [len(part) for part in parts] == [3, 2, 4, 1]
    assert all(part[-1].kind == "progress" for part in parts)
