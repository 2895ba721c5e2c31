"""What FastAPI cannot know for the OpenAPI document: problems, the bearer token, header fields."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

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


def inlined(model: Any) -> dict[str, Any]:
    """The JSON Schema of a type, each reference replaced by what it refers to."""
    schema = TypeAdapter(model).json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, list):
            return [resolve(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return resolve(definitions[part["$ref"].rpartition("/")[2]])
        return {name: resolve(value) for name, value in part.items() if name != "discriminator"}

    resolved: dict[str, Any] = resolve(schema)
    return resolved


def body(
    schema: Mapping[str, Any], *, media_types: Sequence[str], examples: Mapping[str, Any]
) -> dict[str, Any]:
    """An operation's required `requestBody`."""
    shown = {name: {"value": value} for name, value in examples.items()}
    content = {each: {"schema": schema, "examples": shown} for each in media_types}
    return {"requestBody": {"required": True, "content": content}}


def parameter(
    name: str, place: str, schema: Mapping[str, Any], description: str = "", **more: Any
) -> dict[str, Any]:
    """One of an operation's `parameters`; those in the path are required."""
    required = {"required": True} if place == "path" else {}
    return (
        {"name": name, "in": place, "schema": schema, "description": description} | required | more
    )


def header(description: str, *, example: str) -> Mapping[str, Any]:
    """A response's header field."""
    return {"description": description, "schema": {"type": "string"}, "example": example}
