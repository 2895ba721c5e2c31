"""What a room tells of its work to whoever traces it, in OpenTelemetry's words.

Spans hold numbers and names of ours: no ids of people, no values. `untraced` keeps nothing.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

Kind = Literal["server", "consumer", "producer"]
Attributes = Mapping[str, str | int]


class Span(Protocol):
    """A piece of work; it ends with the block around it, of which an exception is its error."""

    def context(self) -> Mapping[str, str]:
        """`traceparent` and perhaps `tracestate` for what this work causes; {} if untraced."""

    def tell(self, name: str, attributes: Attributes, *, error: str | None = None) -> None:
        """The name and attributes that only its end knows, and whether it failed."""


class OpenSpan(Protocol):
    """Begins a span."""

    def __call__(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        /,
        *,
        parent: tuple[str | None, str | None] = (None, None),
        links: Iterable[str | None] = (),
    ) -> AbstractContextManager[Span]:
        """Work that begins now.

        Args:
            parent: `traceparent` and `tracestate` of what caused it, if that is one thing.
            links: the `traceparent` of each that it is about; looked at only if it is traced.
        """


class _NoSpan:
    def context(self) -> Mapping[str, str]:
        return {}

    def tell(self, name: str, attributes: Attributes, *, error: str | None = None) -> None:
        pass


_NO_SPAN: AbstractContextManager[Span] = nullcontext(_NoSpan())


def untraced(
    _name: str,
    _kind: Kind,
    _attributes: Attributes,
    /,
    *,
    parent: tuple[str | None, str | None] = (None, None),  # noqa: ARG001
    links: Iterable[str | None] = (),  # noqa: ARG001
) -> AbstractContextManager[Span]:
    """Where nobody traces."""
    return _NO_SPAN
