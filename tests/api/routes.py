"""Every route of the API that asks for a token, read from the application: none is forgotten."""

import re
from typing import NamedTuple

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.app import BASE_PATH
from tests.api.rows import CANDIDATE

SAMPLES = {"command_id": "order-1", "dead_letter_id": "0-1", "action": "pause"}
"""A value for each name in a path; any other is an id."""


class Guarded(NamedTuple):
    """One method of one route, and the scopes that its documentation names: one will do."""

    method: str
    path: str
    scopes: tuple[str, ...]


def guarded_routes(app: FastAPI) -> list[Guarded]:
    """All below the base path, with sample ids in their paths."""
    found: list[Guarded] = []
    for route in app.routes:
        if isinstance(route, APIRoute) and route.path.startswith(BASE_PATH):
            security = (route.openapi_extra or {})["security"]
            scopes = tuple(scope for each in security for scope in each["bearer"])
            path = _filled(route.path)
            found += [Guarded(method, path, scopes) for method in route.methods or ()]
    return found


def _filled(path: str) -> str:
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda name: SAMPLES.get(name[1], CANDIDATE), path)
