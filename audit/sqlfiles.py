"""The named statements of this room, read once at import from `sql/`."""

from importlib.resources import files


def statement(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (files("audit") / "sql" / f"{name}.sql").read_text()
