"""Servers that somebody else runs: nothing is started, nothing is stopped."""

from collections.abc import Mapping

from stack.servers import Servers, StackError


class ExternalStack:
    """The servers named by `DATABASE_URL` and `KAFKA_BOOTSTRAP_SERVERS`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def start(self) -> Servers:
        """Where they are.

        Raises:
            StackError: a variable is missing.
        """
        return Servers(
            database_url=self._value("DATABASE_URL"),
            kafka_bootstrap_servers=self._value("KAFKA_BOOTSTRAP_SERVERS"),
        )

    def stop(self) -> None:
        """Leave them running."""

    def _value(self, name: str) -> str:
        value = self._environment.get(name)
        if not value:
            raise StackError(f"{name} is not set: it must say where the external server is")
        return value
