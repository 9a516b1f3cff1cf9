"""The page that links in mails lead to, for those who have no front end of their own.

One static page: what to do and the token are in the fragment, which no server sees, and a program that only looks at
links (a virus scanner, a preview) uses nothing up. It calls the same routes as any client.
"""

from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, get
from litestar.params import FromPath

from invitree.kit.web.pages import file, page

_FOLDER: Final = Path(__file__).parent / "pages"
_PAGE: Final = (_FOLDER / "account.html").read_bytes()


@get("/account", include_in_schema=False, sync_to_thread=False)
def account_page(request: Request[Any, Any, Any]) -> Response[Any]:
    """Serve the page."""
    return page(request, _PAGE)


@get("/account/{name:str}", include_in_schema=False, sync_to_thread=False)
def account_asset(name: FromPath[str]) -> Response[bytes]:
    """Serve what the page is made of."""
    return file(_FOLDER, name)


HANDLERS = [account_page, account_asset]
