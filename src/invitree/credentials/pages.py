"""The page that links in mails lead to, for those who have no front end of their own.

One static page: what to do and the token are in the fragment, which no server sees, and a program that only looks at
links (a virus scanner, a preview) uses nothing up. It calls the same routes as any client.
"""

from functools import cache
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Redirect

_FOLDER = Path(__file__).parent / "pages"
_TYPES: Final = {"account.css": "text/css", "account.js": "text/javascript"}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


@get("/account", include_in_schema=False, sync_to_thread=False)
def account_page(request: Request[Any, Any, Any]) -> Response[bytes] | Redirect:
    """Serve the page."""
    if not request.scope["raw_path"].endswith(b"/"):
        return Redirect("account/", status_code=308)  # its links are relative, to work below any public URL
    return Response(_file("account.html"), headers=_HEADERS, media_type="text/html")


@get("/account/{name:str}", include_in_schema=False, sync_to_thread=False)
def account_asset(name: FromPath[str]) -> Response[bytes]:
    """Serve what the page is made of."""
    if name not in _TYPES:
        raise NotFoundException
    return Response(_file(name), headers={**_HEADERS, "Cache-Control": "no-cache"}, media_type=_TYPES[name])


@cache
def _file(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


HANDLERS = [account_page, account_asset]
