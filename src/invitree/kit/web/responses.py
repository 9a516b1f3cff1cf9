"""Error responses: every Problem and exception is translated here, and nowhere else."""

import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.enums import RequestEncodingType
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIResponse, Operation, RequestBody
from litestar.types import ExceptionHandlersMap
from msgspec import Meta, Struct

from invitree.base import problems
from invitree.base.problems import Fields, Language, Problem
from invitree.kit.data.db import OUTAGES

PROBLEM_TYPE = "https://invitree.dev/problems/"
PROBLEM_MEDIA_TYPE = "application/problem+json"
JSON_MEDIA_TYPE = "application/json"
_DJOSER_PATHS = ("/auth/", "/api/")
BODY_LIMIT_BYTES = 64 * 1024
_log = structlog.get_logger()

# Possible in any operation, and in any operation with a body.
ALWAYS = (problems.Internal, problems.Unavailable)
BODY = (
    problems.InvalidInput,
    problems.MalformedJson,
    problems.MalformedForm,
    problems.TooLarge,
    problems.UnsupportedMediaType,
)


class ProblemOut(Struct, rename={"problem_type": "type"}):
    """RFC 9457 problem details, with members that clients of the seed (`error`) and of djoser (`detail`, a list of
    messages under each field's name, `non_field_errors`) know."""

    problem_type: Annotated[str, Meta(description="The kind of problem, as a URI.")]
    title: str
    status: int
    code: Annotated[str, Meta(description="The kind of problem, for programs.")]
    detail: Annotated[str, Meta(description="What went wrong, for people, in English or Russian (Accept-Language).")]
    error: Annotated[str, Meta(description="The same as `detail`.")]
    trace_id: Annotated[
        str,
        Meta(
            description="Names this request in the service's log. Absent where answers must be the same for everyone."
        ),
    ] = ""


def answers(*kinds: type[Problem]) -> dict[int, ResponseSpec]:
    """Document an operation's problems for OpenAPI: one response per status, with one example per problem."""
    by_status: dict[int, list[type[Problem]]] = {}
    possible: tuple[type[Problem], ...] = (*kinds, *ALWAYS)
    if problems.Unauthenticated in kinds and problems.TokenNotValid not in kinds:
        possible = (*possible, problems.TokenNotValid)  # the same error for an access token
    for kind in possible:
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: ResponseSpec(
            data_container=ProblemOut,
            description=" · ".join(f"`{kind.code}`: {kind.message.en}" for kind in group),
            examples=[_example(kind) for kind in group],
            media_type=PROBLEM_MEDIA_TYPE,
            generate_examples=False,
        )
        for status, group in by_status.items()
    }


@dataclass
class DocumentedOperation(Operation):
    """An operation under `/auth` or `/api`: its body is JSON or a form, and its problems have either media type.

    Removes the 400 that Litestar documents for any parameter: a path that does not parse is a 404.
    """

    def __post_init__(self) -> None:
        for status, response in list((self.responses or {}).items()):
            content = response.content or {} if isinstance(response, OpenAPIResponse) else {}
            if int(status) < 400:
                continue
            if PROBLEM_MEDIA_TYPE in content:
                content[JSON_MEDIA_TYPE] = content[PROBLEM_MEDIA_TYPE]
            else:
                del (self.responses or {})[status]
        if isinstance(self.request_body, RequestBody):
            self.request_body.required = False  # a missing body is an empty object
            content = self.request_body.content
            schema = content[RequestEncodingType.JSON]
            content |= {RequestEncodingType.URL_ENCODED: schema, RequestEncodingType.MULTI_PART: schema}


def _example(kind: type[Problem]) -> Example:
    fields: Fields = {"email": [problems.Text("This field is required.", "")]} if kind is problems.InvalidInput else {}
    return Example(id=kind.code, summary=kind.title.en, value=body_of(kind(fields), "en", trace_id="9f3c1b7a2d4e5f60"))


def body_of(problem: Problem, language: Language, *, trace_id: str) -> dict[str, Any]:
    """Return the problem details body in a language."""
    index = 0 if language == "en" else 1
    detail = problem.detail()[index]
    body: dict[str, Any] = {
        "type": PROBLEM_TYPE + problem.code.replace("_", "-"),
        "title": problem.title[index],
        "status": problem.status,
        "code": problem.code,
        "detail": detail,
        "error": detail,
    }
    for name, texts in problem.fields.items():
        # A field named by the client must not override one of ours.
        body.setdefault(name, [text[index] for text in texts])
    body |= problem.members
    if problem.traced:
        body["trace_id"] = trace_id
    return body


def respond(request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    """Return the response for a problem, in the client's preferred language and media type."""
    headers, body = render_problem(problem, request.scope)
    return Response(body, status_code=problem.status, headers=headers)


def render_problem(problem: Problem, scope: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a problem for an ASGI request.

    Under `/auth` and `/api`, djoser's clients expect `application/json`; only requests that accept
    `application/problem+json` by name get that.
    """
    accept = {name: value.decode("latin-1") for name, value in scope["headers"] if name.startswith(b"accept")}
    language = language_of(accept.get(b"accept-language", ""))
    named = PROBLEM_MEDIA_TYPE in accept.get(b"accept", "").lower()
    is_plain = not named and f"{scope['path']}/".startswith(_DJOSER_PATHS)
    headers = {
        "Content-Type": JSON_MEDIA_TYPE if is_plain else PROBLEM_MEDIA_TYPE,
        "Content-Language": language,
        "Vary": "Accept, Accept-Language",
    }
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="invitree", Token realm="invitree", JWT realm="invitree"'
    return headers, msgspec.json.encode(body_of(problem, language, trace_id=trace_id(scope)))


def trace_id(scope: Mapping[str, Any]) -> str:
    """Return the id of a request, as in the log."""
    return str(scope.get("trace_id", ""))


_RANGE = re.compile(r"\s*([A-Za-z]{1,8})[A-Za-z0-9-]*\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*")


def language_of(accept_language: str) -> Language:
    """Return the supported language with the highest weight; the first of equals (RFC 9110, 12.5.4)."""
    best: Language = "en"
    best_weight = 0.0
    for part in accept_language[:1000].split(","):
        match = _RANGE.fullmatch(part)
        weight = float(match[2] or 1) if match else 0.0
        if match and weight > best_weight and (primary := match[1].lower()) in ("en", "ru"):
            best, best_weight = ("ru" if primary == "ru" else "en"), weight
    return best


_FROM_FRAMEWORK: tuple[type[Problem], ...] = (
    problems.InvalidInput,
    problems.Unauthenticated,
    problems.NotFound,
    problems.MethodNotAllowed,
    problems.TooLarge,
    problems.UnsupportedMediaType,
)
_BY_STATUS = {kind.status: kind for kind in _FROM_FRAMEWORK}


def _on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Translate Litestar's own errors: no such route, wrong method, a parameter that does not parse."""
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        return _on_unexpected(request, error)
    if kind is problems.InvalidInput:
        fields = _parameters(error)
        # Litestar reports a missing body under the name of the argument, `data`.
        return respond(request, problems.MalformedJson() if "data" in fields else problems.InvalidInput(fields))
    if kind is not problems.MethodNotAllowed:
        return respond(request, kind())
    methods = (error.headers or {}).get("allow", "").split(", ")
    if _needs_login(request, {*methods} - {"OPTIONS"}):
        return respond(request, problems.Unauthenticated())  # like Django REST framework, which authenticates first
    response = respond(request, kind())
    response.headers["Allow"] = _allowed(methods)
    return response


def _needs_login(request: Request[Any, Any, Any], methods: Iterable[str]) -> bool:
    """Return whether a request has no credentials and its URL has a method that requires a login."""
    if request.headers.get("authorization"):
        return False
    find, path = request.app.asgi_router.handle_routing, request.scope["path"].rstrip("/") or "/"
    handlers = [find(path=path, method=method)[1] for method in methods]
    return any(isinstance(one, HTTPRouteHandler) and {} not in (one.security or [{}]) for one in handlers)


async def answer_options(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Answer OPTIONS with all methods of a URL: Litestar's own answer lists only those of the first route."""
    if request.method != "OPTIONS":
        return None
    address = request.scope["path_template"]
    methods = [route.methods for route in request.app.routes if route.path_format == address]
    return Response(None, status_code=204, headers={"Allow": _allowed(chain.from_iterable(methods))})


def _allowed(methods: Iterable[str]) -> str:
    """Return the value of the Allow header (RFC 9110, 10.2.1)."""
    known = set(methods)
    return ", ".join(sorted(known | {"HEAD"} if "GET" in known else known))


def _parameters(error: HTTPException) -> Fields:
    extra = error.extra if isinstance(error.extra, list) else []
    wrong = problems.Text("This value is not allowed here.", "Недопустимое значение.")
    return {str(item["key"]): [wrong] for item in extra if isinstance(item, dict) and "key" in item}


def _on_outage(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.warning("database.unavailable", reason=f"{type(error).__name__}: {error}")
    return respond(request, problems.Unavailable())


# PostgreSQL's messages for these contain row values.
_WITH_VALUES = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, asyncpg.PLPGSQLError)


def _on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    # The route instead of the path, which may contain an e-mail address.
    details: dict[str, Any] = {"exc_info": error}
    if isinstance(error, _WITH_VALUES):
        where = "".join(traceback.format_tb(error.__traceback__))
        details = {"sqlstate": error.sqlstate, "constraint": error.constraint_name, "where": where}
    _log.error("request.failed", error=type(error).__name__, route=request.scope.get("path_template"), **details)
    return respond(request, problems.Internal())


def problem_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Return the response for any exception."""
    match error:
        case Problem():
            return respond(request, error)
        case HTTPException(detail="client disconnected prematurely"):
            return respond(request, problems.MalformedJson())  # or it is connected, and its chunked encoding is invalid
        case HTTPException():
            return _on_http_exception(request, error)
        case _ if isinstance(error, OUTAGES):
            return _on_outage(request, error)
    return _on_unexpected(request, error)


EXCEPTION_HANDLERS: ExceptionHandlersMap = {Exception: problem_response}
