"""Traces to an OpenTelemetry collector, where the standard OTEL_* variables ask for them.

Nothing of OpenTelemetry's SDK is imported before that. A collector that is away costs spans and
log lines, never work: they wait in a bounded queue, a thread of its own sends them.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from contract.spans import Attributes, Kind, OpenSpan, Span, untraced
from domain.limits import SPAN_LINKS_MAX
from funnel.settings import BadSettings, Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link
    from opentelemetry.trace import Span as OtelSpan

FLUSH_S_MAX = 5.0
"""For the last spans at the end of a process; a collector takes milliseconds."""

SERVICE = "gulf-funnel"


@contextmanager
def tracing(settings: Settings) -> Iterator[OpenSpan]:
    """What the roles of this process open their spans with; the last are sent at its end.

    Raises:
        BadSettings: traces are asked for, and the extra is not installed.
    """
    endpoint = settings.traces_variable
    if endpoint is None:
        yield untraced
        return
    with _environment(settings.otel):
        try:
            provider = _provider()
        except ImportError:
            raise BadSettings(
                f"{endpoint}: needs the extra otel: pip install 'gulf-funnel[otel]'"
            ) from None
    try:
        yield _Opener(provider)
    finally:
        # Its own bound is 30 s: a supervisor's patience with a process that has done its work.
        flushing = threading.Thread(target=provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_S_MAX)


def _provider() -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = {"service.name": SERVICE, "service.version": version(SERVICE)}
    told = OTELResourceDetector().detect().attributes
    provider = TracerProvider(resource=Resource.create({**ours, **told}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The SDK reads nothing but the environment, where what `.env` and files say is not."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Opener:
    """An `OpenSpan` that gives its spans to the SDK."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer(SERVICE, version(SERVICE))

    @contextmanager
    def __call__(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        /,
        *,
        parent: tuple[str | None, str | None] = (None, None),
        links: Iterable[str | None] = (),
    ) -> Iterator[Span]:
        span = self._tracer.start_span(
            name,
            context=self._context(*parent),
            kind=self._trace.SpanKind[kind.upper()],
            attributes=dict(attributes),
            links=self._links(links),
        )
        try:
            yield _Traced(self, span)
        except Exception as error:
            self.fail(span, type(error).__name__)
            raise
        finally:
            span.end()

    def _links(self, traceparents: Iterable[str | None]) -> "list[Link]":
        """To the first of them that are valid, each once."""
        links: dict[str, Link] = {}
        for traceparent in traceparents:
            if traceparent is None or traceparent in links:
                continue
            caused_by = self._trace.get_current_span(self._context(traceparent, None))
            if (place := caused_by.get_span_context()).is_valid:
                links[traceparent] = self._trace.Link(place)
            if len(links) == SPAN_LINKS_MAX:
                break
        return list(links.values())

    def _context(self, traceparent: str | None, tracestate: str | None) -> "Context":
        """Empty where that is no valid trace context."""
        told = {"traceparent": traceparent, "tracestate": tracestate}
        return self._propagator.extract({name: text for name, text in told.items() if text})

    def inject(self, span: "OtelSpan") -> dict[str, str]:
        """The header fields that name it."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=self._trace.set_span_in_context(span))
        return carrier

    def fail(self, span: "OtelSpan", error: str) -> None:
        """By the name of its error: a message may hold what it is about."""
        span.set_attribute("error.type", error)
        span.set_status(self._trace.StatusCode.ERROR)


class _Traced:
    def __init__(self, opener: _Opener, span: "OtelSpan") -> None:
        self._opener = opener
        self._span = span

    def context(self) -> Mapping[str, str]:
        return self._opener.inject(self._span)

    def tell(self, name: str, attributes: Attributes, *, error: str | None = None) -> None:
        self._span.update_name(name)
        self._span.set_attributes(dict(attributes))
        if error is not None:
            self._opener.fail(self._span, error)
