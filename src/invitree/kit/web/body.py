"""Request bodies: JSON or a form, decoded into the struct that the handler names, with a complaint by field.

Text is taken without the white space around it, as Django REST framework takes it, but for fields of `VERBATIM` type.
"""

import json
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import parse_qsl

import msgspec
import multipart
from litestar import Request
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.enums import RequestEncodingType
from litestar.openapi.spec import Example, Reference
from litestar.params import BodyKwarg
from litestar.typing import FieldDefinition
from msgspec import Meta

from invitree.base.problems import NON_FIELD, InvalidInput, MalformedForm, MalformedJson, Text, UnsupportedMediaType

T = TypeVar("T")

REQUIRED = Text("This field is required.", "Обязательное поле.")
TWICE = Text("This field is given twice.", "Поле указано дважды.")
UNKNOWN = Text("This field is not known here.", "Такого поля здесь нет.")
NULL = Text("This field may not be null.", "Это поле не может быть пустым.")
NO_NULL_CHARACTERS = Text("Null characters are not allowed.", "Нулевые символы запрещены.")
NO_FILES = Text("A file cannot be sent here.", "Файл здесь отправить нельзя.")
WRONG_TYPE = Text("This has the wrong type.", "Неверный тип значения.")
WRONG_DATE = Text("Date has wrong format. Use YYYY-MM-DD.", "Неправильный формат даты. Используйте ГГГГ-ММ-ДД.")
WRONG_DATETIME = Text(
    "Time has wrong format. Use RFC 3339 with an offset, such as 2027-01-31T18:00:00Z.",
    "Неправильный формат времени. Используйте RFC 3339 со смещением, например 2027-01-31T18:00:00Z.",
)

VERBATIM = Meta(extra={"verbatim": True})
"""Annotates text whose surrounding white space matters to the handler: `Annotated[str, VERBATIM]`."""

_EMPTY = b"{}"
_MOST_FORM_FIELDS = 100

# What msgspec says of a value, by its beginning: "Expected `str` of length >= 1", "Expected `int`, got `str`".
_LENGTH = re.compile(r"Expected `str` of length (?P<sign><=|>=) (?P<length>\d+)")


class BodyRequest(Request[Any, Any, Any]):
    """A request whose empty body is an empty object, so that each missing field is named."""

    async def body(self) -> bytes:
        """Return the body."""
        return await super().body() or _EMPTY


class BodyDTO(AbstractDTO[T], Generic[T]):
    """Litestar's hook for decoding a body, used with msgspec alone: no second copy, our errors."""

    def decode_bytes(self, value: bytes) -> Any:
        """Return the struct in a body.

        Raises UnsupportedMediaType, MalformedJson, MalformedForm or InvalidInput.
        """
        connection: Any = self.asgi_connection
        if value is _EMPTY:
            return decode(value, self.model_type)
        media_type, parameters = connection.content_type
        if connection.headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedMediaType
        match media_type:
            case RequestEncodingType.JSON:
                return decode(value, self.model_type)
            case RequestEncodingType.URL_ENCODED:
                return build(self.model_type, parse_urlencoded(value), is_form=True)
            case RequestEncodingType.MULTI_PART:
                return build(self.model_type, parse_multipart(value, parameters.get("boundary", "")), is_form=True)
        raise UnsupportedMediaType

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        """Need nothing prepared."""

    @classmethod
    def create_openapi_schema(cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any) -> Any:
        """Describe the struct itself; closed to other fields where it refuses them."""
        described = schema_creator.for_field_definition(field_definition)
        reference = described if isinstance(described, Reference) else described.all_of[0]
        model: Any = cls.model_type
        if model.__struct_config__.forbid_unknown_fields:
            schema_creator.schema_registry.from_reference(reference).schema.additional_properties = False
        return described

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """Yield nothing: there is no second copy of the struct."""
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Return False: nested structs are msgspec's business."""
        return False


class _Takes(TypedDict):
    dto: type[AbstractDTO[Any]]
    return_dto: None


def takes(kind: type[Any]) -> _Takes:
    """Say what a route's body is: `@post("/", **takes(CodeIn))`."""
    return _Takes(dto=BodyDTO[kind], return_dto=None)  # type: ignore[valid-type]


def json_body(**examples: Mapping[str, Any]) -> BodyKwarg:
    """Annotate a route's `data` with example bodies, by name, for the OpenAPI document."""
    shown = [Example(id=name, summary=name.replace("_", " "), value=value) for name, value in examples.items()]
    return BodyKwarg(media_type=RequestEncodingType.JSON, examples=shown)


def decode(body: bytes, kind: type[T]) -> T:
    """Return the struct in a JSON body. Raises MalformedJson, or InvalidInput with a complaint for each wrong field."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise MalformedJson from None
    if not isinstance(value, dict):
        raise InvalidInput({NON_FIELD: [WRONG_TYPE]})
    json.loads(body, object_pairs_hook=_one_each)
    built: T = build(kind, value)
    return built


def parse_urlencoded(body: bytes) -> Mapping[str, str]:
    """Return the fields of a URL-encoded form in UTF-8. Raises MalformedForm or InvalidInput."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FORM_FIELDS)
    except ValueError:  # more fields than that, or not UTF-8
        raise MalformedForm from None
    return _one_each(pairs)


def parse_multipart(body: bytes, boundary: str) -> Mapping[str, str]:
    """Return the text fields of a `multipart/form-data` body in UTF-8 (RFC 7578).

    Raises MalformedForm, or InvalidInput where there is a file.
    """
    pairs: list[tuple[str, str]] = []
    try:
        with multipart.PushMultipartParser(boundary, len(body), max_segment_count=_MOST_FORM_FIELDS) as parser:
            for event in [*parser.parse(body), *parser.parse(b"")]:
                if isinstance(event, multipart.MultipartSegment):
                    if event.filename is not None:
                        raise InvalidInput({event.name[:100] or NON_FIELD: [NO_FILES]})
                    pairs.append((event.name, ""))
                elif event:
                    name, text = pairs[-1]
                    pairs[-1] = (name, text + event.decode())
    except (multipart.MultipartError, UnicodeError):
        raise MalformedForm from None
    return _one_each(pairs)


def _one_each(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    # Of two fields with one name, whoever stands in front of the service may have looked at the other.
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise InvalidInput({name[:100]: [TWICE]})
        fields[name] = value
    return fields


@cache
def _fields(kind: type[Any]) -> tuple[tuple[msgspec.structs.FieldInfo, bool], ...]:
    """Return the fields of a struct, each with whether its text is taken verbatim."""
    verbatim = {"verbatim": True}
    described: Any = msgspec.inspect.type_info(kind)
    return tuple(
        (field, _has_extra(of.type, verbatim))
        for field, of in zip(msgspec.structs.fields(kind), described.fields, strict=True)
    )


def _has_extra(described: Any, extra: Mapping[str, Any]) -> bool:
    parts = described.types if isinstance(described, msgspec.inspect.UnionType) else (described,)
    return any(isinstance(part, msgspec.inspect.Metadata) and part.extra == extra for part in parts)


def build(kind: Any, given: Mapping[str, Any], *, is_form: bool = False) -> Any:
    """Return a struct of these fields. Raises InvalidInput with a complaint for each wrong field.

    In a form everything is text: it is converted where a field wants something else, and a blank optional field is one
    that was not filled in. A struct may add complaints of its own by a class method `check(fields)`, which gets every
    field that is not complained about yet, unknown ones included.
    """
    values: dict[str, Any] = {}
    complaints: dict[str, Sequence[Text]] = {}
    known = _fields(kind)
    for field, is_verbatim in known:
        name, value = field.encode_name, given.get(field.encode_name, msgspec.UNSET)
        if isinstance(value, str) and not is_verbatim:
            value = value.strip()
        if value is msgspec.UNSET or (is_form and value == "" and not field.required):
            if field.required:
                complaints[name] = [REQUIRED]
        elif isinstance(value, str) and "\0" in value:
            complaints[name] = [NO_NULL_CHARACTERS]
        else:
            try:
                values[name] = msgspec.convert(value, field.type, strict=not is_form)
            except msgspec.ValidationError as error:
                complaints[name] = [NULL if value is None else _text(str(error))]
    names = {field.encode_name for field, _ in known}
    unknown = {name: value for name, value in given.items() if name not in names}
    if kind.__struct_config__.forbid_unknown_fields:
        complaints |= {name[:100]: [UNKNOWN] for name in unknown}
    if check := getattr(kind, "check", None):
        complaints |= check({**unknown, **values})
    if complaints:
        raise InvalidInput(complaints)
    return kind(**values)


def _text(message: str) -> Text:
    if "datetime" in message or "timezone" in message:
        return WRONG_DATETIME
    if "date" in message:
        return WRONG_DATE
    if match := _LENGTH.match(message):
        return too_long(int(match["length"])) if match["sign"] == "<=" else too_short(int(match["length"]))
    return WRONG_TYPE


def too_long(most: int) -> Text:
    """Return the complaint about a text of more than `most` characters."""
    return Text(
        f"Ensure this field has no more than {most} characters.",
        f"Убедитесь, что это значение содержит не более {most} символов.",
    )


def too_short(least: int) -> Text:
    """Return the complaint about a text of fewer than `least` characters."""
    if least == 1:
        return Text("This field may not be blank.", "Это поле не может быть пустым.")
    return Text(
        f"Ensure this field has at least {least} characters.",
        f"Убедитесь, что это значение содержит не менее {least} символов.",
    )
