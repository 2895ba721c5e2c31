"""What FastAPI cannot know for the OpenAPI document: problems, the bearer token, header fields."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from api.gate import Scope
from api.problems import MEDIA_TYPE

UUID_SCHEMA = {"type": "string", "format": "uuid"}

_PROBLEM = {
    "title": "Problem",
    "type": "object",
    "description": "RFC 9457. `code` is stable, for programs; `errors` point at what is wrong.",
    "required": ["type", "title", "status", "detail", "code", "errors"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "RFC 6901"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


class DocumentedApi(FastAPI):
    """FastAPI whose document has our parts too."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        document = super().openapi()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = _PROBLEM
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        }
        return document


def needs(scope: Scope) -> dict[str, Any]:
    """An operation's `security`."""
    return {"security": [{"bearer": [scope]}]}


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """An operation's `responses` that are problems; `default` is any other."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    listed: dict[int | str, dict[str, Any]] = {
        status.value: {"description": status.phrase, "content": content} for status in statuses
    }
    return listed | {"default": {"description": "Any other error", "content": content}}


def header(description: str, *, example: str) -> Mapping[str, Any]:
    """A response's header field."""
    return {"description": description, "schema": {"type": "string"}, "example": example}
