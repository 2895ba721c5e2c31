"""What a consumer process tells over HTTP where FUNNEL_METRICS_PORT says, in a thread of its own.

`/livez`: the process answers. `/readyz`: every lane that it owns is worked off; 503 while one waits
for PostgreSQL or Kafka, is halted, or held by another client's transaction. Else: the metrics.
"""

import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
from prometheus_client import CollectorRegistry, make_wsgi_app

from funnel.settings import BadSettings

_STANDING_STILL = {
    "funnel_lane_paused": "paused",
    "funnel_lane_halted": "halted",
    "funnel_lane_held": "held",
}

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""WSGI."""


def serve_metrics(registry: CollectorRegistry, *, host: str, port: int) -> None:
    """Serve `registry` until the process ends; nothing if `port` is 0.

    Raises:
        BadSettings: somebody else listens there, or there is no such address.
    """
    if not port:
        return
    try:
        server = make_server(host, port, _app(registry), _Server, _Silent)
    except OSError as error:
        raise BadSettings(
            f"FUNNEL_METRICS_PORT: cannot listen on {host}:{port} ({error.strerror})"
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Each look of a supervisor would be a line."""


def _app(registry: CollectorRegistry) -> App:
    metrics: App = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path not in ("/livez", "/readyz"):
            return metrics(environ, start_response)
        stands = _standing_still(registry) if path == "/readyz" else {}
        status = HTTPStatus.SERVICE_UNAVAILABLE if stands else HTTPStatus.OK
        start_response(f"{status.value} {status.phrase}", [("Content-Type", "application/json")])
        told = {"status": "standing still" if stands else "ok", "lanes": stands}
        return [orjson.dumps(told)]

    return app


def _standing_still(registry: CollectorRegistry) -> dict[str, list[int]]:
    """The lanes owned here that stand still, by how they do."""
    lanes: dict[str, list[int]] = {}
    for family in registry.collect():
        how = _STANDING_STILL.get(family.name)
        standing = [int(each.labels["lane"]) for each in family.samples if how and each.value]
        if standing:
            lanes[how or ""] = sorted(standing)
    return lanes
