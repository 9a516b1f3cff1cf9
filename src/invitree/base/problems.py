"""The errors a client can get: one class each, with its HTTP status and its texts in English and Russian.

The class name gives the code (`CodeActive` is `code_active`), and the docstring is the English message. Each has a
section in `docs/problems.md`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

Language = Literal["en", "ru"]


class Text(NamedTuple):
    """A message in English and Russian."""

    en: str
    ru: str


Fields = Mapping[str, Sequence[Text]]
NON_FIELD = "non_field_errors"  # djoser's key for errors about the body as a whole


class Problem(Exception):
    """An error sent to the client as RFC 9457 problem details."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[Text]
    message: ClassVar[Text]
    # False where all answers must be identical to the byte (lookup by e-mail).
    traced: ClassVar[bool] = True
    retry_after_s: int | None = None

    def __init__(
        self,
        fields: Fields | None = None,
        *,
        retry_after_s: int | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(self.code)
        self.fields: Fields = fields or {}
        self.members = members or {}  # additional members of the body
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s

    def __init_subclass__(cls, *, status: int, title: str, ru_title: str, ru: str) -> None:
        cls.status = status
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        cls.title = Text(title, ru_title)
        cls.message = Text((cls.__doc__ or "").strip(), ru)

    def detail(self) -> Text:
        """Return the message for people: the first field error if there is one."""
        for name, texts in self.fields.items():
            if name == NON_FIELD:
                return texts[0]
            return Text(f"{name}: {texts[0].en}", f"{name}: {texts[0].ru}")
        return self.message


def catalog() -> Iterator[type[Problem]]:
    """Yield every problem class."""
    yield from Problem.__subclasses__()


class InvalidInput(
    Problem, status=400, title="Invalid input", ru_title="Неверные данные", ru="Запрос содержит неверные данные."
):
    """The request has invalid data."""


class MalformedJson(
    Problem, status=400, title="Malformed JSON", ru_title="Неверный JSON", ru="Тело запроса не является верным JSON."
):
    """The body is not well-formed JSON."""


class MalformedForm(
    Problem, status=400, title="Malformed form", ru_title="Неверная форма", ru="Тело запроса не является верной формой."
):
    """The body is not a well-formed form in UTF-8."""


class Unauthenticated(
    Problem,
    status=401,
    title="Not authenticated",
    ru_title="Нет аутентификации",
    ru="Учётные данные не предоставлены или недействительны.",
):
    """Authentication credentials were not provided or are not valid."""


class TokenNotValid(
    Problem,
    status=401,
    title="Token not valid",
    ru_title="Токен недействителен",
    ru="Токен недействителен или просрочен.",
):
    """Token is invalid or expired"""


class NotFound(Problem, status=404, title="Not found", ru_title="Не найдено", ru="Не найдено."):
    """Not found."""


class MethodNotAllowed(
    Problem,
    status=405,
    title="Method not allowed",
    ru_title="Метод не поддерживается",
    ru="Этот адрес не поддерживает такой метод.",
):
    """This address does not answer to that method."""


class TooLarge(
    Problem,
    status=413,
    title="Body too large",
    ru_title="Слишком большое тело",
    ru="Тело запроса больше 64 КиБ.",
):
    """The body is larger than 64 KiB."""


class UnsupportedMediaType(
    Problem,
    status=415,
    title="Unsupported media type",
    ru_title="Неподдерживаемый тип данных",
    ru="Отправьте тело как application/json, application/x-www-form-urlencoded или multipart/form-data.",
):
    """Send the body as application/json, application/x-www-form-urlencoded or multipart/form-data."""


class TooManyRequests(
    Problem,
    status=429,
    title="Too many requests",
    ru_title="Слишком много запросов",
    ru="Слишком много запросов. Повторите позже.",
):
    """Too many requests. Try again later."""

    retry_after_s = 1


class Internal(
    Problem,
    status=500,
    title="Internal error",
    ru_title="Внутренняя ошибка",
    ru="Что-то сломалось у нас. Сообщите trace_id тем, кто обслуживает сервис.",
):
    """Something broke on our side. Give the trace_id to those who run this service."""


class Unavailable(
    Problem,
    status=503,
    title="Unavailable",
    ru_title="Недоступно",
    ru="Сервис сейчас перегружен или без базы данных. Повторите запрос.",
):
    """The service is overloaded or without its database just now. Try again."""

    retry_after_s = 1
