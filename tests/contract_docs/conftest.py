"""The same real history that the audit's tests have."""

from tests.audit.conftest import history

__all__ = ["history"]
