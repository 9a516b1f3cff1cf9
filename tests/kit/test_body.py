"""kit/web/body.py: JSON and forms become structs, and every fault is told at its field."""

from datetime import date
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Struct, UnsetType

from invitree.base.problems import InvalidInput, MalformedForm
from invitree.kit.web.body import VERBATIM, build, decode, parse_multipart, parse_urlencoded


class Body(Struct):
    """Every kind of field that routes have."""

    name: Annotated[str, Meta(min_length=1, max_length=5)]
    password: Annotated[str, Meta(min_length=1), VERBATIM]
    nickname: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    day: date | None = None
    count: int | UnsetType = UNSET
    yes: bool | UnsetType = UNSET


GOOD: dict[str, Any] = {"name": "ann", "password": "p"}
BLANK, NULL, REQUIRED = "This field may not be blank.", "This field may not be null.", "This field is required."
WRONG = "This has the wrong type."


def complaints(given: dict[str, Any], **options: bool) -> dict[str, list[str]]:
    with pytest.raises(InvalidInput) as refused:
        build(Body, given, **options)
    return {name: [text.en for text in texts] for name, texts in refused.value.fields.items()}


def test_every_fault_of_a_body_is_named() -> None:
    assert complaints({}) == {"name": [REQUIRED], "password": [REQUIRED]}
    assert complaints({"name": "", "nickname": 5, "day": "x", "count": "1", "yes": None}) == {
        "name": [BLANK],
        "password": [REQUIRED],
        "nickname": [WRONG],
        "day": ["Date has wrong format. Use YYYY-MM-DD."],
        "count": [WRONG],
        "yes": [NULL],
    }


def test_null_is_told_apart_where_a_field_does_not_take_it() -> None:
    assert complaints({**GOOD, "nickname": None, "name": None}) == {"name": [NULL], "nickname": [NULL]}
    assert build(Body, {**GOOD, "day": None}).day is None


def test_text_is_trimmed_before_it_is_measured_unless_it_is_verbatim() -> None:
    assert build(Body, {"name": " \tann12\u00a0\r\n", "password": " p "}) == Body(name="ann12", password=" p ")
    assert complaints({"name": " ", "password": ""}) == {"name": [BLANK], "password": [BLANK]}


def test_unknown_fields_are_ignored_unless_the_struct_forbids_them() -> None:
    class Strict(Body, forbid_unknown_fields=True):
        """The same, closed."""

    assert build(Body, {**GOOD, "admin": True}) == Body(**GOOD)
    with pytest.raises(InvalidInput) as refused:
        build(Strict, {"admin": True, "name": "ann"})
    assert list(refused.value.fields) == ["password", "admin"]


def test_form_values_become_what_the_field_wants() -> None:
    body = build(Body, {**GOOD, "day": "2030-01-31", "count": "7", "yes": "true", "nickname": "5"}, is_form=True)
    assert body == Body(name="ann", password="p", day=date(2030, 1, 31), count=7, yes=True, nickname="5")
    assert complaints({**GOOD, "count": "seven", "yes": "maybe"}, is_form=True) == {"count": [WRONG], "yes": [WRONG]}


def test_a_blank_optional_form_field_was_not_filled_in() -> None:
    assert build(Body, {**GOOD, "nickname": "", "day": " ", "count": ""}, is_form=True) == Body(**GOOD)
    assert complaints({"name": "", "password": "p"}, is_form=True) == {"name": [BLANK]}


def test_json_values_are_not_converted() -> None:
    with pytest.raises(InvalidInput) as refused:
        decode(b'{"name": "ann", "password": "p", "count": "7", "yes": "true"}', Body)
    assert list(refused.value.fields) == ["count", "yes"]


FIELDS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=30), max_size=5)


def multipart(fields: dict[str, str], boundary: str = "b0undary") -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return ("".join(parts) + f"--{boundary}--\r\n").encode()


@given(FIELDS)
def test_urlencoded_forms_are_read_as_they_were_written(fields: dict[str, str]) -> None:
    assert parse_urlencoded(urlencode(fields).encode()) == fields


@given(
    st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text('aé☃ \n-=&%"\0', max_size=30), max_size=5)
)
def test_multipart_forms_are_read_as_they_were_written(fields: dict[str, str]) -> None:
    assert parse_multipart(multipart(fields), "b0undary") == fields


@pytest.mark.parametrize(
    "body", [b"a=%ff", b"\xff=1", b"&".join(b"f%d=1" % number for number in range(101))], ids=["utf-8", "raw", "many"]
)
def test_malformed_urlencoded_forms_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedForm):
        parse_urlencoded(body)


@pytest.mark.parametrize(
    ("body", "boundary"),
    [
        (multipart({"a": "1"})[:-6], "b0undary"),
        (multipart({"a": "1"}), "other"),
        (multipart({"a": "1"}), ""),
        (b"{}", "b0undary"),
        (multipart({"a": "1"}).replace(b"form-data", b"attachment"), "b0undary"),
        (multipart({"a": "1"}).replace(b"\r\n\r\n1", b"\r\n\r\n\xff"), "b0undary"),
        (multipart({f"f{number}": "1" for number in range(101)}), "b0undary"),
    ],
    ids=["cut off", "another boundary", "no boundary", "json", "no form-data", "not utf-8", "many"],
)
def test_malformed_multipart_forms_are_refused(body: bytes, boundary: str) -> None:
    with pytest.raises(MalformedForm):
        parse_multipart(body, boundary)


def test_a_file_and_a_repeated_field_are_refused_by_name() -> None:
    file = multipart({"email": "x"}).replace(b'name="email"', b'name="email"; filename="x.txt"')
    with pytest.raises(InvalidInput) as refused:
        parse_multipart(file, "b0undary")
    assert refused.value.fields["email"][0].en == "A file cannot be sent here."
    twice = multipart({"a": "1"})[:-14] + multipart({"a": "2"})
    for parse in (partial(parse_multipart, twice, "b0undary"), partial(parse_urlencoded, b"a=1&a=1")):
        with pytest.raises(InvalidInput) as refused:
            parse()
        assert refused.value.fields["a"][0].en == "This field is given twice."
