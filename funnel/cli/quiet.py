"""Logs of commands that a person types: their last line says what went wrong, so libraries are
silent unless LOG_LEVEL is set."""

from funnel.logs import configure_logs
from funnel.settings import Settings


def quiet_logs(settings: Settings) -> None:
    """To be called before anything connects."""
    asked = "log_level" in settings.model_fields_set
    configure_logs(
        level=settings.log_level if asked else "CRITICAL", log_format=settings.log_format
    )
