"""Request bodies: JSON decoded straight into the struct that the handler names, strictly."""

import json
import re
from collections.abc import Generator, Mapping
from functools import cache
from typing import Any, Generic, TypedDict, TypeVar

import msgspec
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.enums import RequestEncodingType
from litestar.openapi.spec import Example, Reference
from litestar.params import BodyKwarg
from litestar.typing import FieldDefinition

from invitree.base.problems import NON_FIELD, InvalidInput, MalformedJson, Text, UnsupportedMediaType

T = TypeVar("T")

REQUIRED = Text("This field is required.", "Обязательное поле.")
TWICE = Text("This field is given twice.", "Поле указано дважды.")
UNKNOWN = Text("This field is not known here.", "Такого поля здесь нет.")
NO_NULL_CHARACTERS = Text("Null characters are not allowed.", "Нулевые символы запрещены.")
WRONG_TYPE = Text("This has the wrong type.", "Неверный тип значения.")
WRONG_DATE = Text("Date has wrong format. Use YYYY-MM-DD.", "Неправильный формат даты. Используйте ГГГГ-ММ-ДД.")
WRONG_DATETIME = Text(
    "Time has wrong format. Use RFC 3339 with an offset, such as 2027-01-31T18:00:00Z.",
    "Неправильный формат времени. Используйте RFC 3339 со смещением, например 2027-01-31T18:00:00Z.",
)

# What msgspec says, as (pattern, ours). It names the place at the end: "- at `$.email`".
_PLACE = re.compile(r" - at `\$\.?(?P<field>[^`.\[]*)[^`]*`$")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_EXTRA = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_LENGTH = re.compile(r"Expected `str` of length (?P<sign><=|>=) (?P<length>\d+)")


class StrictJson(AbstractDTO[T], Generic[T]):
    """Litestar's hook for decoding a body, used with msgspec alone: no coercion, no second copy, our errors."""

    def decode_bytes(self, value: bytes) -> Any:
        """Return the struct in a body. Raises UnsupportedMediaType, MalformedJson or InvalidInput."""
        connection: Any = self.asgi_connection
        media_type, _ = connection.content_type
        if media_type != "application/json" or connection.headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedMediaType
        return decode(value, self.model_type)

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        """Need nothing prepared."""

    @classmethod
    def create_openapi_schema(cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any) -> Any:
        """Describe the struct itself, closed to other fields."""
        described = schema_creator.for_field_definition(field_definition)
        reference = described if isinstance(described, Reference) else described.all_of[0]
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
    return _Takes(dto=StrictJson[kind], return_dto=None)  # type: ignore[valid-type]


def json_body(**examples: Mapping[str, Any]) -> BodyKwarg:
    """Annotate a route's `data` with example bodies, by name, for the OpenAPI document."""
    shown = [Example(id=name, summary=name.replace("_", " "), value=value) for name, value in examples.items()]
    return BodyKwarg(media_type=RequestEncodingType.JSON, examples=shown)


@cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)


def decode(body: bytes, kind: type[T]) -> T:
    """Return the struct in a JSON body. Raises MalformedJson or InvalidInput with the offending field."""
    try:
        value: T = _decoder(kind).decode(body)  # type: ignore[arg-type]
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise MalformedJson from None
    json.loads(body, object_pairs_hook=_refuse_twins)
    for field in getattr(value, "__struct_fields__", ()):
        _check_text(field, getattr(value, field))
    return value


def _refuse_twins(pairs: list[tuple[str, Any]]) -> None:
    # Of two fields with one name, whoever stands in front of the service may have looked at the other.
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise InvalidInput({name: [TWICE]})
        names.add(name)


def _check_text(field: str, value: Any) -> None:
    if isinstance(value, str) and "\0" in value:
        raise InvalidInput({field: [NO_NULL_CHARACTERS]})


def _invalid(message: str) -> InvalidInput:
    if match := _MISSING.match(message):
        return InvalidInput({match["field"]: [REQUIRED]})
    if match := _EXTRA.match(message):
        return InvalidInput({match["field"][:100]: [UNKNOWN]})
    place = _PLACE.search(message)
    field = place["field"] if place and place["field"] else NON_FIELD
    return InvalidInput({field: [_text(message)]})


def _text(message: str) -> Text:
    if "datetime" in message:
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
