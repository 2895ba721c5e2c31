"""Instants as people type them: RFC 3339, or a date; without an offset they are UTC."""

from datetime import UTC, datetime

import typer


def instant(text: str) -> datetime:
    """A parser of typer's.

    Raises:
        typer.BadParameter: it is neither.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no instant: 2026-11-25T18:00:00Z, or 2026-11-25"
        ) from error
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
