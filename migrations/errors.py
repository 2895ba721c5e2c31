"""What can go wrong with the schema; the docstring of each is its message.

MigrationError
├── MigrationFailed   PostgreSQL refused a migration; nothing of it stays
├── LockBusy          somebody else has been migrating for too long
├── SchemaOutOfDate   the database lacks migrations that this code needs
└── DatabaseAway      no connection, or lost again and again
"""


class MigrationError(Exception):
    """The schema is not what it must be."""


class MigrationFailed(MigrationError):
    """Migration {version} was refused by PostgreSQL: {said}."""

    def __init__(self, *, version: str, said: str) -> None:
        super().__init__(f"migration {version} was refused by PostgreSQL: {said}")
        self.version = version


class LockBusy(MigrationError):
    """Another migration has been running for {waited_s} s; try again later."""

    def __init__(self, *, waited_s: float) -> None:
        super().__init__(f"another migration has been running for {waited_s:.0f} s")


class SchemaOutOfDate(MigrationError):
    """The database lacks migrations {missing}: run `funnel migrate up`."""

    def __init__(self, *, missing: list[str]) -> None:
        super().__init__(
            f"the database lacks migrations {', '.join(missing)}: run `funnel migrate up`"
        )
        self.missing = missing


class DatabaseAway(MigrationError):
    """PostgreSQL cannot be reached: {said}."""

    def __init__(self, *, said: str) -> None:
        super().__init__(f"PostgreSQL cannot be reached: {said}")
