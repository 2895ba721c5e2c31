"""What files of commands may hold, and what is said of a line that is bad."""

from io import BytesIO
from typing import Any
from uuid import UUID

import pytest

from domain.commands import CommandParser
from funnel.cli.command_files import BadFile, checked, csv_rows, json_lines
from funnel.cli.field_text import BadField, fields_of

ORGANIZATION = UUID("00000000-0000-4000-8000-00000000000a")


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (["first_name=a=b"], {"first_name": "a=b"}),
        (["phone="], {"phone": None}),
        (["rating=4", "rating:=null"], {"rating": None}),
        (["tags= a ;; b;"], {"tags": ["a", "b"]}),
        (["tags.add=a", "tags.add=b;c"], {"tags": {"add": ["a", "b", "c"]}}),
        (["attribute.a.b=1", "attribute.c:=1"], {"attributes": {"a.b": "1", "c": 1}}),
        (["attribute.gone="], {"attributes": {"gone": None}}),
        (['attributes={"a": 1}'], {"attributes": {"a": 1}}),
    ],
)
def test_fields_of__values(arguments: list[str], fields: dict[str, Any]) -> None:
    assert fields_of(arguments) == fields


@pytest.mark.parametrize(
    "arguments",
    [
        ["height=9"],
        ["height:=9"],
        ["height="],
        ["attribute.=x"],
        ["rating"],
        ["rating=high"],
        ["attributes=x"],
        ["attributes:={"],
        ["tags=a", "tags.add=b"],
        ["attributes:=7", "attribute.a=b"],
    ],
)
def test_fields_of__not_a_field(arguments: list[str]) -> None:
    with pytest.raises(BadField, match=arguments[0].split("=")[0].split(".")[0].rstrip(":")):
        fields_of(arguments)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"type": ', "not JSON"),
        (b"7", "not a JSON object"),
        (b'{"type": "candidate.create.v1"}', "data: an object"),
        (b'{"data": {}}', "type: is missing"),
        (b'{"type": 7, "data": {}}', "type: a string"),
        (b'{"type": "t", "data": {}, "key": "k"}', "unknown member 'key'"),
        (b'{"type": "candidate.create.v1", "data": {}}', "organization_id: "),
        (b'{"type": "t", "data": {"organization_id": "%s"}}', "not known"),
        (b'{"type": "t", "id": "", "data": {"organization_id": "%s"}}', "The id needs"),
        (
            b'{"type": "t", "data": {"organization_id": "%s", "x": "' + b"x" * 4_200_000 + b'"}}',
            "bytes",
        ),
        (b'{"type": "t", "data": "' + b"x" * 8_400_000, "the line is too long"),
    ],
)
def test_json_lines__a_bad_line(line: bytes, problem: str) -> None:
    line = line.replace(b"%s", str(ORGANIZATION).encode())
    [bad] = checked(json_lines(BytesIO(b"\n\n" + line)), CommandParser())
    assert bad.number == 3
    assert bad.command is None
    assert problem in bad.problem


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("first_name,shoe_size,email", "'shoe_size'"),
        ("email,email", "more than once"),
        ("first_name,last_name", "is needed"),
        ("first_name,attribute.,email", "'attribute.'"),
        ("", "the file is empty"),
    ],
)
def test_csv_rows__a_header_that_means_nothing(header: str, problem: str) -> None:
    with pytest.raises(BadFile, match=problem):
        list(csv_rows(BytesIO(header.encode()), organization_id=ORGANIZATION, actor="a"))


def test_csv_rows__line_numbers_count_lines_inside_cells() -> None:
    file = BytesIO(b'first_name,email\n"a\nb",a@example.com\n\nc\n"d')
    rows = list(csv_rows(file, organization_id=ORGANIZATION, actor="a"))
    assert [(row.number, bool(row.command)) for row in rows] == [(2, True), (5, False), (6, False)]
    assert rows[-1].problem.startswith("not CSV")


def test_csv_rows__candidates_are_told_apart_by_external_id_then_email() -> None:
    file = BytesIO(
        b"external_id,email\nE1,a@example.com\nE1,b@example.com\n,a@example.com\n,A@example.com\n"
    )
    commands = [
        row.command
        for row in csv_rows(file, organization_id=ORGANIZATION, actor="a")
        if row.command
    ]
    ids = [command.data["candidate_id"] for command in commands]
    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    assert len(set(ids)) == 2
    assert len({command.id for command in commands}) == 4
