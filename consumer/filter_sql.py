"""A candidate filter as conditions in SQL: fixed text, every value an argument."""

from typing import Any, cast

from domain.filters import CandidateFilter, filter_instant

# What must hold, `{}` being the argument. `/` follows `.` in the order of bytes, so a stage and
# all below it are two ranges.
_CONDITIONS = {
    "status": "c.status = {}::text",
    "pipeline_stage": "(c.pipeline_stage = {0}::text OR c.pipeline_stage >= {0}::text || '.'"
    " AND c.pipeline_stage < {0}::text || '/')",
    "source": "c.source = {}::text",
    "rating_min": "c.rating >= {}::smallint",
    "rating_max": "c.rating <= {}::smallint",
    "tag": "c.tags @> {}::text[]",
    "q": "(starts_with(lower(c.first_name), lower({0}::text))"
    " OR starts_with(lower(c.last_name), lower({0}::text))"
    " OR starts_with(lower(c.email), lower({0}::text)))",
    "updated_since": "c.updated_at >= {}::timestamptz",
    "created_since": "c.created_at >= {}::timestamptz",
}
_INSTANTS = ("updated_since", "created_since")


def conditions(chosen: CandidateFilter, *, first_argument: int) -> tuple[str, list[Any]]:
    """The conditions on `c`, each with `AND` before it, and their arguments.

    Args:
        first_argument: the number of the first of them in the statement.
    """
    sql: list[str] = []
    arguments: list[Any] = []

    def add(condition: str, *values: Any) -> None:
        numbers = range(first_argument + len(arguments), first_argument + len(arguments) + 9)
        sql.append(" AND " + condition.format(*(f"${number}" for number in numbers)))
        arguments.extend(values)

    for name, value in cast(dict[str, Any], chosen).items():
        if name == "attribute":
            for attribute, text in value.items():
                add("c.attributes ->> {}::text = {}::text", attribute, text)
        else:
            add(_CONDITIONS[name], filter_instant(value) if name in _INSTANTS else value)
    return "".join(sql), arguments
