"""Request bodies: JSON or a form, decoded into the handler's struct, with errors by field.

Surrounding white space is stripped from text, as Django REST framework does, except for `VERBATIM` fields.
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
"""Keeps the surrounding white space of a text field: `Annotated[str, VERBATIM]`."""

_EMPTY = b"{}"
_MAX_FORM_FIELDS = 100

# The beginning of msgspec's messages: "Expected `str` of length >= 1", "Expected `int`, got `str`".
_LENGTH = re.compile(r"Expected `str` of length (?P<sign><=|>=) (?P<length>\d+)")


class BodyRequest(Request[Any, Any, Any]):
    """A request whose empty body reads as an empty object, so that every missing field is reported."""

    async def body(self) -> bytes:
        """Return the body."""
        return await super().body() or _EMPTY


class BodyDTO(AbstractDTO[T], Generic[T]):
    """Litestar's hook for decoding bodies, here with msgspec alone: no intermediate model, and our errors."""

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
        """Do nothing: no model has to be prepared."""

    @classmethod
    def create_openapi_schema(cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any) -> Any:
        """Describe the struct itself, without additional properties if it forbids unknown fields."""
        described = schema_creator.for_field_definition(field_definition)
        reference = described if isinstance(described, Reference) else described.all_of[0]
        model: Any = cls.model_type
        if model.__struct_config__.forbid_unknown_fields:
            schema_creator.schema_registry.from_reference(reference).schema.additional_properties = False
        return described

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """Yield nothing: there is no intermediate model."""
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Return False: msgspec handles nested structs."""
        return False


class _Takes(TypedDict):
    dto: type[AbstractDTO[Any]]
    return_dto: None


def takes(kind: type[Any]) -> _Takes:
    """Return the decorator arguments for a route with this body: `@post("/", **takes(CodeIn))`."""
    return _Takes(dto=BodyDTO[kind], return_dto=None)  # type: ignore[valid-type]


def json_body(**examples: Mapping[str, Any]) -> BodyKwarg:
    """Return the annotation of `data` with named example bodies for the OpenAPI document."""
    named_examples = [Example(id=name, summary=name.replace("_", " "), value=value) for name, value in examples.items()]
    return BodyKwarg(media_type=RequestEncodingType.JSON, examples=named_examples)


def decode(body: bytes, kind: type[T]) -> T:
    """Decode a JSON body into a struct. Raises MalformedJson, or InvalidInput with an error for each invalid field."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise MalformedJson from None
    if not isinstance(value, dict):
        raise InvalidInput({NON_FIELD: [WRONG_TYPE]})
    json.loads(body, object_pairs_hook=_unique)
    built: T = build(kind, value)
    return built


def parse_urlencoded(body: bytes) -> Mapping[str, str]:
    """Parse a URL-encoded form in UTF-8. Raises MalformedForm or InvalidInput."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FORM_FIELDS)
    except ValueError:  # too many fields, or not UTF-8
        raise MalformedForm from None
    return _unique(pairs)


def parse_multipart(body: bytes, boundary: str) -> Mapping[str, str]:
    """Parse a `multipart/form-data` body in UTF-8 (RFC 7578) with text fields only.

    Raises MalformedForm or InvalidInput.
    """
    pairs: list[tuple[str, str]] = []
    try:
        with multipart.PushMultipartParser(boundary, len(body), max_segment_count=_MAX_FORM_FIELDS) as parser:
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
    return _unique(pairs)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    # A proxy or firewall in front may have inspected the other of two fields with one name.
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise InvalidInput({name[:100]: [TWICE]})
        fields[name] = value
    return fields


@cache
def _fields(kind: type[Any]) -> tuple[tuple[msgspec.structs.FieldInfo, bool], ...]:
    """Return the fields of a struct, each with whether it is VERBATIM."""
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
    """Build a struct from these fields. Raises InvalidInput with an error for each invalid field.

    Form fields are text: they are converted to the field's type, and a blank optional field counts as missing. A struct
    may add its own errors with a class method `check(fields)`, which gets every field without an error so far,
    including unknown ones.
    """
    values: dict[str, Any] = {}
    errors: dict[str, Sequence[Text]] = {}
    known = _fields(kind)
    for field, is_verbatim in known:
        name, value = field.encode_name, given.get(field.encode_name, msgspec.UNSET)
        if isinstance(value, str) and not is_verbatim:
            value = value.strip()
        if value is msgspec.UNSET or (is_form and value == "" and not field.required):
            if field.required:
                errors[name] = [REQUIRED]
        elif isinstance(value, str) and "\0" in value:
            errors[name] = [NO_NULL_CHARACTERS]
        else:
            try:
                values[name] = msgspec.convert(value, field.type, strict=not is_form)
            except msgspec.ValidationError as error:
                errors[name] = [NULL if value is None else _text(str(error))]
    names = {field.encode_name for field, _ in known}
    unknown = {name: value for name, value in given.items() if name not in names}
    if kind.__struct_config__.forbid_unknown_fields:
        errors |= {name[:100]: [UNKNOWN] for name in unknown}
    if check := getattr(kind, "check", None):
        errors |= check({**unknown, **values})
    if errors:
        raise InvalidInput(errors)
    return kind(**values)


def _text(message: str) -> Text:
    if "datetime" in message or "timezone" in message:
        return WRONG_DATETIME
    if "date" in message:
        return WRONG_DATE
    if match := _LENGTH.match(message):
        return too_long(int(match["length"])) if match["sign"] == "<=" else too_short(int(match["length"]))
    return WRONG_TYPE


def too_long(limit: int) -> Text:
    """Return the error for a text of more than `limit` characters."""
    return Text(
        f"Ensure this field has no more than {limit} characters.",
        f"Убедитесь, что это значение содержит не более {limit} символов.",
    )


def too_short(limit: int) -> Text:
    """Return the error for a text of fewer than `limit` characters."""
    if limit == 1:
        return Text("This field may not be blank.", "Это поле не может быть пустым.")
    return Text(
        f"Ensure this field has at least {limit} characters.",
        f"Убедитесь, что это значение содержит не менее {limit} символов.",
    )
