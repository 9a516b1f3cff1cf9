"""The indexes, and the choice between the front page and its index."""

import re
from typing import Annotated

from litestar import Response, get
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation
from msgspec import Meta, Struct

import invitree
from invitree.faces.home.pages import front_page
from invitree.identity.auth.guards import UNGUARDED
from invitree.kit.context import Request, app_context
from invitree.kit.web.responses import JSON_MEDIA_TYPE, answers

_HTML = "text/html"
_WEIGHED = re.compile(
    r"\s*(text/html|application/json)\s*(?:;(?!\s*q\s*=)[^;]*)*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?", re.IGNORECASE
)


class IndexOut(Struct):
    """Where things are."""

    name: Annotated[str, Meta(examples=["Invitree"])]
    version: Annotated[str, Meta(examples=["0.1.0"])]
    docs: Annotated[str, Meta(description="The API reference, to read in a browser.")]
    try_it: Annotated[str, Meta(description="The API reference that sends requests, in a browser.")]
    openapi: Annotated[str, Meta(description="The OpenAPI document.")]
    auth: Annotated[str, Meta(description="The index of accounts and sessions.")]
    api: Annotated[str, Meta(description="The index of referral codes.")]
    health: Annotated[str, Meta(description="Whether the service is alive.")]
    ready: Annotated[str, Meta(description="Whether the service is ready.")]


class AuthIndexOut(Struct):
    """Where accounts are."""

    users: Annotated[str, Meta(examples=["https://example.com/auth/users/"])]


class ApiIndexOut(Struct):
    """Where referral codes are."""

    referral_codes: Annotated[str, Meta(examples=["https://example.com/api/referral_codes/"])]


class _PageOrJson(Operation):
    """An operation whose answer is also a page."""

    def __post_init__(self) -> None:
        response = (self.responses or {})["200"]
        if isinstance(response, OpenAPIResponse) and response.content:
            response.content[_HTML] = OpenAPIMediaType()


@get(
    "/",
    operation_class=_PageOrJson,
    security=[{}],
    summary="Where things are",
    response_description="The links of this service.",
    tags=["Operations"],
    responses=answers(),
    sync_to_thread=False,
)
def index(request: Request) -> Response[IndexOut]:
    """Return the links of this service, below its public URL. Whoever prefers `text/html` gets a page for people."""
    if _prefers_html(request.headers.get("accept", "")):
        return front_page(request)
    links = IndexOut(
        name="Invitree",
        version=invitree.__version__,
        docs=_link(request, "docs/"),
        try_it=_link(request, "docs/try/"),
        openapi=_link(request, "schema/openapi.json"),
        auth=_link(request, "auth/"),
        api=_link(request, "api/"),
        health=_link(request, "healthz"),
        ready=_link(request, "readyz"),
    )
    return Response(links, headers={"Vary": "Accept, Accept-Language"})


@get("/auth", **UNGUARDED, summary="Where accounts are", tags=["Users"], responses=answers(), sync_to_thread=False)
def auth_index(request: Request) -> AuthIndexOut:
    """Return the address of the accounts, as djoser does. It is below the public URL of the service."""
    return AuthIndexOut(users=_link(request, "auth/users/"))


@get("/api", **UNGUARDED, summary="Where codes are", tags=["Referral codes"], responses=answers(), sync_to_thread=False)
def api_index(request: Request) -> ApiIndexOut:
    """Return the address of the referral codes. It is below the public URL of the service."""
    return ApiIndexOut(referral_codes=_link(request, "api/referral_codes/"))


def _prefers_html(accept: str) -> bool:
    """Return whether HTML is named with a greater weight than JSON (RFC 9110, 12.5.1). A weight that is none is 0."""
    named = filter(None, map(_WEIGHED.fullmatch, accept[:1000].split(",")))
    weights = {match[1].lower(): float(match[2] or 1) for match in named}
    return weights.get(_HTML, 0) > weights.get(JSON_MEDIA_TYPE, 0)


def _link(request: Request, path: str) -> str:
    return f"{app_context(request).settings.public_base}/{path}"


HANDLERS = [index, auth_index, api_index]
