"""The one place where an exception becomes a line for a person and an exit code for a script.

Exit codes are those of CONTRACT.md 7. Exceptions are known here by name, so that nothing is
imported just to be able to fail; the nearest class in the exception's ancestry counts.
"""

import traceback

USAGE = 2
BAD_DATA = 65
UNAVAILABLE = 69
INTERNAL = 70
TRY_AGAIN = 75
BAD_CONFIGURATION = 78

EXIT_CODES = {
    "audit.lost_rows.RecoverRefused": BAD_DATA,
    "domain.field_errors.InvalidCommand": BAD_DATA,
    "producer.command_errors.CommandTooLarge": BAD_DATA,
    "aiokafka.errors.KafkaError": UNAVAILABLE,
    "asyncpg.exceptions.PostgresConnectionError": UNAVAILABLE,
    "asyncpg.exceptions.OperatorInterventionError": UNAVAILABLE,
    "asyncpg.exceptions.InsufficientResourcesError": UNAVAILABLE,
    "builtins.OSError": UNAVAILABLE,
    "api.database.DatabaseAway": UNAVAILABLE,
    "consumer.store.StoreAway": UNAVAILABLE,
    "producer.command_errors.CommandNotSent": UNAVAILABLE,
    "funnel.servers.DatabaseAway": UNAVAILABLE,
    "migrations.errors.DatabaseAway": UNAVAILABLE,
    "stack.servers.StackError": UNAVAILABLE,
    "audit.dead_letters.UnknownLetter": BAD_DATA,
    "audit.database.AuditRefused": BAD_CONFIGURATION,
    "audit.bookmark.BookmarkRefused": USAGE,
    "audit.export.ExportRefused": USAGE,
    "audit.export_file.ExportUnreadable": BAD_DATA,
    "audit.ranges.RangeDropped": BAD_DATA,
    "audit.ranges.RangeRefused": USAGE,
    "audit.republish.RepublishRefused": USAGE,
    "audit.rebuild.RebuildRuns": TRY_AGAIN,
    "audit.repair.RepairRefused": TRY_AGAIN,
    "audit.retention.RetentionRefused": BAD_DATA,
    "audit.retention.RetentionBusy": TRY_AGAIN,
    "audit.checkpoint.SealerBusy": TRY_AGAIN,
    "audit.output_log.TopicMissing": BAD_CONFIGURATION,
    "consumer.store.TryAgain": TRY_AGAIN,
    "funnel.data_folder.UpRuns": TRY_AGAIN,
    "migrations.errors.LockBusy": TRY_AGAIN,
    "producer.admin.TopicsNotReady": TRY_AGAIN,
    "producer.command_errors.ResultUnknown": TRY_AGAIN,
    "aiokafka.errors.SaslAuthenticationFailed": BAD_CONFIGURATION,
    "api.dev_keys.UnusableKey": BAD_CONFIGURATION,
    "asyncpg.exceptions.InvalidAuthorizationSpecificationError": BAD_CONFIGURATION,
    "asyncpg.exceptions.InvalidCatalogNameError": BAD_CONFIGURATION,
    "asyncpg.exceptions._base.ClientConfigurationError": BAD_CONFIGURATION,
    "consumer.membership.OtherTopics": BAD_CONFIGURATION,
    "funnel.consume.TopicMissing": BAD_CONFIGURATION,
    "funnel.settings.BadSettings": BAD_CONFIGURATION,
    "migrations.errors.SchemaOutOfDate": BAD_CONFIGURATION,
    "producer.admin.TopicsMismatch": BAD_CONFIGURATION,
    "producer.command_errors.TopicMissing": BAD_CONFIGURATION,
    "consumer.lane.LaneStuck": INTERNAL,
    "migrations.errors.MigrationFailed": INTERNAL,
}
"""Whatever is not here is a fault of ours: `INTERNAL`, and it is told with its traceback."""

SPEAKERS = {"aiokafka": "funnel: Kafka", "asyncpg": "funnel: PostgreSQL"}


def exit_code(error: BaseException) -> int:
    """The exit code for `error`; of several at once, that of the first."""
    known = _known(_first(error))
    return INTERNAL if known is None else known


def explain(error: BaseException) -> str:
    """One line for a person; its traceback if nobody expected it."""
    error = _first(error)
    if _known(error) is None:
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"{frames}{type(error).__name__}: {error.args[0] if error.args else ''}"
    # args[0], as str() of a PostgreSQL error adds the values it is about.
    said = " ".join(str(error.args[0] if len(error.args) == 1 else error).split())
    speaker = SPEAKERS.get(type(error).__module__.partition(".")[0], "funnel")
    return f"{speaker}: {said or type(error).__name__}"


def _known(error: BaseException) -> int | None:
    names = (f"{each.__module__}.{each.__qualname__}" for each in type(error).__mro__)
    return next((EXIT_CODES[name] for name in names if name in EXIT_CODES), None)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
