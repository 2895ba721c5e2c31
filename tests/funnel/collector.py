"""An OpenTelemetry collector as far as a test needs one: OTLP over HTTP in, spans out."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SECONDS_MAX = 60


class Collector:
    """What has arrived.

    Attributes:
        services: `service.name` of all that sent spans.
        tokens: the header `x-token` of all requests.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.services: set[str] = set()
        self.tokens: set[str | None] = set()
        self._arriving: Queue[Span] = Queue()
        self._seen: list[Span] = []

    def take(self, path: str, token: str | None, body: bytes) -> None:
        assert path == "/v1/traces"
        self.tokens.add(token)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services.add(attributes(each.resource.attributes)["service.name"])
            for scope in each.scope_spans:
                for span in scope.spans:
                    self._arriving.put(span)

    def span(self, name: str) -> Span:
        """The first of this name, of those that have arrived or are to come."""
        while True:
            for span in self._seen:
                if span.name == name:
                    return span
            self._seen.append(self._arriving.get(timeout=SECONDS_MAX))

    def names(self) -> list[str]:
        """Of all spans so far."""
        while not self._arriving.empty():
            self._seen.append(self._arriving.get())
        return [span.name for span in self._seen]


def attributes(given: Iterable[KeyValue]) -> dict[str, str]:
    """Texts and numbers as texts."""
    return {each.key: each.value.string_value or str(each.value.int_value) for each in given}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(self.path, self.headers["x-token"], body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield collector
        finally:
            server.shutdown()
            serving.join()
