"""The API reference pages, Redoc for reading and Scalar for trying, without requests to other hosts.

`api_docs` is for `Litestar(openapi_config=...)`, `docs_handlers` for its route handlers. The JavaScript comes from the
package `offapi`. The Content-Security-Policy allows no other host, no inline script and no eval. All URLs are relative,
including the server in the document, so the pages work below any path prefix of a proxy.
"""

import gzip
import hashlib
import re
import secrets
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

from litestar import MediaType, Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityRequirement, Server, Tag
from litestar.params import FromPath

from invitree.kit.web.pages import GUARDS, page

DOCUMENT: Final = "/schema/openapi.json"
GZIP: Final = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")
REDOC: Final = f'<redoc spec-url="..{DOCUMENT}" disable-telemetry="true"></redoc>'
SCALAR: Final = (
    f'{{"url":"../..{DOCUMENT}","agent":{{"disabled":true}},"mcp":{{"disabled":true}},"telemetry":false,'
    '"withDefaultFonts":false,"hideClientButton":true,"showDeveloperTools":"never","documentDownloadType":"direct"}'
)

# Both bundles probe for eval, which the policy would report: Redoc before it starts a search worker, Scalar before it
# compiles validators. Both add <style> elements, and Scalar omits the nonce on some of them. Neither resolves a
# relative server URL against the URL of the document, as OpenAPI 3.1 (4.8.5) requires.
BOOT: Final = b"""\
(() => {
  const fetch = globalThis.fetch;
  globalThis.fetch = async (...args) => {
    const answer = await fetch(...args);
    if (!answer.ok || !answer.url.endsWith("%b")) return answer;
    const description = await answer.json();
    for (const server of description.servers) server.url = new URL(server.url, answer.url).href.replace(/\\/$/, "");
    return Response.json(description);
  };
  const nonce = document.querySelector('meta[property="csp-nonce"]').content, create = document.createElement;
  Object.assign(globalThis, {Worker: undefined, __zod_globalConfig: {jitless: true}});
  document.createElement = (...args) => {
    const element = create.apply(document, args);
    if (element instanceof HTMLStyleElement) element.nonce = nonce;
    return element;
  };
})();
""" % DOCUMENT.encode()

# Redoc has no option for the vendor's logo below its menu, and the policy blocks the host it is loaded from.
LOGO: Final = re.compile(rb"https://cdn\.redoc\.ly/redoc/logo-mini(-full)?\.svg")
LOCAL_LOGO: Final = (
    b"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='42' height='16'%3E%3Ctext y='12' "
    b"font-family='sans-serif' font-size='11' font-weight='bold' fill='%230044d4'%3ERedocly%3C/text%3E%3C/svg%3E"
)

# Neither bundle has an option to remove these buttons, which send the document to third parties.
HIDDEN: Final = '[data-testid="page-actions"],.generate-sdk-button,.introduction-card-item .scalar-button-gradient'


class _Document(JsonRenderPlugin):
    def receive_router(self, router: Router) -> None:
        # Litestar adds an HTML page for every other path below; those should get the app's own 404.
        router.routes = [route for route in router.routes if route.path == DOCUMENT]


def api_docs(
    *,
    title: str,
    version: str,
    description: str,
    tags: Sequence[Tag] = (),
    components: Components | None = None,
    security: Sequence[SecurityRequirement] = (),
) -> OpenAPIConfig:
    """Return the configuration that serves the OpenAPI document at `/schema/openapi.json`."""
    return OpenAPIConfig(
        title=title,
        version=version,
        description=description,
        servers=[Server(url="../")],  # relative to the document (OpenAPI 3.1, Server Object)
        tags=list(tags) or None,
        components=components or Components(),
        security=list(security) or None,
        use_handler_docstrings=True,
        openapi_router=Router("/schema", route_handlers=[], include_in_schema=False, response_headers=GUARDS),
        render_plugins=[_Document(media_type=MediaType.JSON)],
    )


@get("/docs", include_in_schema=False, sync_to_thread=True)
def redoc_page(request: Request[Any, Any, Any]) -> Response[Any]:
    """Serve the reference for reading (Redoc)."""
    return _page(request, f'{REDOC}<script type="module" src="{_url("redoc.js")}"></script>', boot=_url("boot.js"))


@get("/docs/try", include_in_schema=False, sync_to_thread=True)
def scalar_page(request: Request[Any, Any, Any]) -> Response[Any]:
    """Serve the reference for trying requests (Scalar)."""
    script, settings = f"../{_url('scalar.js')}", escape(SCALAR)
    scalar = f'<script id="api-reference" src="{script}" data-configuration="{settings}"></script>'
    # Scalar sets style attributes while rendering, and a nonce cannot allow an attribute.
    return _page(request, scalar, boot=f"../{_url('boot.js')}", style_src_attr="'unsafe-inline'")


@get("/docs/assets/{name:str}", include_in_schema=False, sync_to_thread=True)
def asset(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    """Serve a script, cached forever under its current version."""
    if name not in {"boot.js", "redoc.js", "scalar.js"}:
        raise NotFoundException
    version, body = _script(name)
    etag = f'W/"{version}"'
    cache_control = "public, max-age=31536000, immutable" if request.query_params.get("v") == version else "no-cache"
    headers = {**GUARDS, "ETag": etag, "Cache-Control": cache_control, "Vary": "Accept-Encoding"}
    if etag in request.headers.get("If-None-Match", ""):
        return Response(b"", status_code=304, headers=headers)
    if GZIP.search(request.headers.get("Accept-Encoding", "")):
        headers["Content-Encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    return Response(body, headers=headers, media_type="text/javascript")


docs_handlers: Final = [redoc_page, scalar_page, asset]


@cache
def _script(name: str) -> tuple[str, bytes]:
    """Return a script's version (a digest) and its gzipped text."""
    # Located, not imported: importing the package renders huge templates.
    file = Path(str(distribution("offapi").locate_file(f"offapi/{name}")))
    plain = BOOT if name == "boot.js" else LOGO.sub(LOCAL_LOGO, file.read_bytes())
    return hashlib.sha256(plain).hexdigest()[:16], gzip.compress(plain, mtime=0)


def _url(name: str) -> str:
    """Return the URL of a script, relative to `/docs/`."""
    return f"assets/{name}?v={_script(name)[0]}"


def _page(request: Request[Any, Any, Any], body: str, *, boot: str, **policy: str) -> Response[Any]:
    title = escape(request.app.openapi_config.title) if request.app.openapi_config else ""
    nonce = secrets.token_urlsafe(16)
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta property="csp-nonce" content="{nonce}"><link rel="icon" href="data:,">'
        f'<style nonce="{nonce}">body{{margin:0}}{HIDDEN}{{display:none!important}}</style>'
        f'<script src="{boot}"></script></head><body>{body}</body></html>'
    )
    return page(request, html, style_src=f"'nonce-{nonce}'", font_src="data:", **policy)
