"""What FastAPI cannot know for the OpenAPI document: problems, the bearer token, header fields."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from api.examples import PROBLEMS
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

DESCRIPTION = """\
Every `GET` answers `HEAD` as well, with the same status and header fields.
Every error is a problem (RFC 9457). Times are UTC. Every answer has an `X-Request-Id`.
A write is a command: sent again with the same `Idempotency-Key` it has one effect."""

READ_ERRORS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)

_FIELDS: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    HTTPStatus.FORBIDDEN: {
        "WWW-Authenticate": 'Bearer error="insufficient_scope", scope="candidates:write"'
    },
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: {"Accept": "application/json"},
    HTTPStatus.TOO_MANY_REQUESTS: {
        "Retry-After": "1200",
        "RateLimit": '"writes";r=0;t=1200',
        "RateLimit-Policy": '"writes";q=100;w=3600',
    },
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "1"},
}
"""Header fields that come with a problem, by an example of each."""


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
        self._show_nulls(document)
        return document

    def _show_nulls(self, document: dict[str, Any]) -> None:
        """The answers' examples once more: FastAPI leaves out what is null."""
        for route in self.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                for method in route.methods or ():
                    told = document["paths"][route.path_format][method.lower()]["responses"]
                    for status, answered in route.responses.items():
                        for media_type, content in answered.get("content", {}).items():
                            if "example" in content:
                                shown = told[str(status)]["content"][media_type]
                                shown["example"] = content["example"]


def needs(*scopes: Scope) -> dict[str, Any]:
    """An operation's `security`: one of these."""
    return {"security": [{"bearer": [scope]} for scope in scopes]}


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """An operation's `responses` that are problems; `default` is any other."""
    listed: dict[int | str, dict[str, Any]] = {
        status.value: _problem(status, status.phrase) for status in statuses
    }
    return listed | {"default": _problem(HTTPStatus.METHOD_NOT_ALLOWED, "Any other error")}


def _problem(status: HTTPStatus, description: str) -> dict[str, Any]:
    shown = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "example": PROBLEMS[status].document(),
    }
    fields = {name: header("", example=each) for name, each in _FIELDS.get(status, {}).items()}
    return {"description": description, "headers": fields, "content": {MEDIA_TYPE: shown}}


def answer(description: str, example: Any, **more: Any) -> dict[str, Any]:
    """One of an operation's `responses`, in JSON; `more` are its `headers` or `model`."""
    content = {"application/json": {"example": example}}
    return {"description": description, "content": content} | more


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


LINK = {
    "Link": header(
        'RFC 8288: `rel="next"`',
        example='</api/gulf-funnel/candidates?status=new&cursor=…>; rel="next"',
    )
}
