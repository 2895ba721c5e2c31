"""The consumer's metrics over HTTP, in a thread of their own, where FUNNEL_METRICS_PORT says."""

from prometheus_client import CollectorRegistry, start_http_server

from funnel.settings import BadSettings, Settings


def serve_metrics(settings: Settings, registry: CollectorRegistry) -> None:
    """Serve `registry` until the process ends; nothing without FUNNEL_METRICS_PORT.

    Raises:
        BadSettings: somebody else listens there, or there is no such address.
    """
    if not settings.metrics_port:
        return
    try:
        start_http_server(settings.metrics_port, settings.host, registry)
    except OSError as error:
        raise BadSettings(
            f"FUNNEL_METRICS_PORT: cannot listen on {settings.host}:{settings.metrics_port} "
            f"({error.strerror})"
        ) from error
