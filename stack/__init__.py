"""PostgreSQL and Kafka for this machine, each in three ways: embedded, in containers, external.

Imports nothing of ours and, until something is started, nothing but the standard library.
"""

from stack.containers import ContainerStack
from stack.embedded import EmbeddedStack
from stack.external import ExternalStack
from stack.servers import Report, Servers, ServerStatus, StackError

__all__ = [
    "ContainerStack",
    "EmbeddedStack",
    "ExternalStack",
    "Report",
    "ServerStatus",
    "Servers",
    "StackError",
]
