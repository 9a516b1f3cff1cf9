"""The page that a browser gets at `/`: what this is, and the ways from here."""

from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from litestar import Request, Response, get
from litestar.params import FromPath

import invitree
from invitree.base.problems import Language, Text
from invitree.kit.web.pages import file, page
from invitree.kit.web.responses import language_of

_FOLDER: Final = Path(__file__).parent / "pages"
_TEXTS: Final = {
    "title": Text("Invitree: referral engine", "Invitree: реферальная система"),
    "lead": Text("The referral engine you run yourself.", "Реферальная система на вашем сервере."),
    "about": Text(
        "People sign up, get a referral code that expires, and share it. Friends join with it, and you see who brought"
        " whom.",
        "Люди регистрируются, получают реферальный код с ограниченным сроком и делятся им. Друзья приходят по коду, а"
        " вы видите, кто кого привёл.",
    ),
    "ways": Text("Where to go from here", "Что здесь есть"),
    "docs": Text("API reference", "Справочник API"),
    "docs_about": Text("Every operation, with its fields, answers and errors.", "Все операции: поля, ответы и ошибки."),
    "try": Text("Try it", "Попробовать"),
    "try_about": Text("Send real requests from your browser.", "Отправляйте настоящие запросы из браузера."),
    "schema": Text("OpenAPI document", "Документ OpenAPI"),
    "schema_about": Text("For code generators and API clients.", "Для генераторов кода и клиентов API."),
    "health": Text("Health", "Состояние"),
    "health_about": Text("Ready to serve? The database is checked too.", "Готов ли сервис и отвечает ли база данных."),
    "version": Text("Version", "Версия"),
}


def front_page(request: Request[Any, Any, Any]) -> Response[Any]:
    """Return the page, in the language that the browser prefers."""
    language = language_of(request.headers.get("accept-language", ""))
    response = page(request, _html(language))
    response.headers |= {"Content-Language": language, "Vary": "Accept, Accept-Language"}
    return response


@get("/home/{name:str}", include_in_schema=False, sync_to_thread=False)
def home_asset(name: FromPath[str]) -> Response[bytes]:
    """Serve what the page is made of."""
    return file(_FOLDER, name)


@cache
def _html(language: Language) -> str:
    texts = {name: escape(text.en if language == "en" else text.ru) for name, text in _TEXTS.items()}
    template = Template((_FOLDER / "home.html").read_text(encoding="utf-8"))
    return template.substitute(texts, language=language, number=invitree.__version__)


HANDLERS = [home_asset]
