"""JSON Schemas (2020-12) of everything on the wire, one file for each `ce_type`.

`python -m contract.schemas` writes them, `--check` only compares; `$id` is the `ce_dataschema` of
our events.
"""

import sys
from typing import Any, cast

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from contract import generated
from contract.event_models import EVENTS
from contract.events import SCHEMA_URI
from domain.commands import COMMANDS

TYPES: dict[str, Any] = {**COMMANDS, **EVENTS}
"""The type of `data` for each `ce_type`."""


class Untitled(GenerateJsonSchema):
    """Titles that only repeat a field's name are left out."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  pydantic's signature
        return False


def adapter(ce_type: str) -> TypeAdapter[Any]:
    """Validates the data of commands or events of one type."""
    return TypeAdapter(TYPES[ce_type])


def schema(ce_type: str) -> dict[str, Any]:
    """The JSON Schema of the data of one type."""
    made = adapter(ce_type).json_schema(schema_generator=Untitled)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": SCHEMA_URI + ce_type,
        **made,
        "title": ce_type,
    }


def schema_files() -> dict[str, bytes]:
    """The text of each file by its name."""
    return {f"{ce_type}.json": generated.json_text(schema(ce_type)) for ce_type in TYPES}


def definitions(ref_template: str) -> tuple[dict[str, str], dict[str, Any]]:
    """All types in one document: where each `ce_type` is defined, and the definitions."""
    adapters = [(ce_type, "validation", adapter(ce_type)) for ce_type in TYPES]
    refs, made = TypeAdapter.json_schemas(
        cast(Any, adapters), ref_template=ref_template, schema_generator=Untitled
    )
    places = {str(ce_type): cast(str, ref["$ref"]) for (ce_type, _), ref in refs.items()}
    return places, cast(dict[str, Any], made["$defs"])


if __name__ == "__main__":
    sys.exit(
        generated.run(generated.FOLDER / "schemas", schema_files(), check="--check" in sys.argv[1:])
    )
