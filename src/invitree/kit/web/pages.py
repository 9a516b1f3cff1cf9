"""HTML pages and their static files, with a Content-Security-Policy that allows only this host.

All URLs in a page are relative, so that it works below any path prefix of a proxy.
"""

from functools import cache
from pathlib import Path
from typing import Any, Final

from litestar import MediaType, Request, Response
from litestar.exceptions import NotFoundException
from litestar.response import Redirect

GUARDS: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_TYPES: Final = {".css": "text/css", ".js": "text/javascript"}


def page(request: Request[Any, Any, Any], html: str | bytes, **policy: str) -> Response[Any]:
    """Return a page, or a redirect if the URL lacks the trailing slash that relative URLs need.

    `policy` overrides directives: `font_src="data:"`.
    """
    if not request.scope["raw_path"].endswith(b"/"):
        # Relative itself, because a proxy may have stripped a prefix of the path.
        return Redirect(f"{request.scope['path'].rpartition('/')[2]}/", status_code=308)
    return Response(html, headers={**_guards(policy), "Cache-Control": "no-store"}, media_type=MediaType.HTML)


def file(folder: Path, name: str) -> Response[bytes]:
    """Return a style sheet or script from a directory. Raises NotFoundException if there is none of that name."""
    content = _files(folder).get(name)
    if content is None:
        raise NotFoundException
    media_type = _TYPES[Path(name).suffix]
    return Response(content, headers={**_guards({}), "Cache-Control": "no-cache"}, media_type=media_type)


def _guards(changes: dict[str, str]) -> dict[str, str]:
    policy = _POLICY | {name.replace("_", "-"): sources for name, sources in changes.items()}
    return {**GUARDS, "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in policy.items())}


@cache
def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in _TYPES}
