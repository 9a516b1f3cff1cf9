"""The map from routes to files in docs/architecture.md, compared with the application."""

import inspect
import re
from pathlib import Path

from litestar.routes import HTTPRoute

from invitree.app import create_app
from invitree.base.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_route_map_matches_the_application() -> None:
    served = {
        (method, re.sub(r":\w+}", "}", route.path), inspect.unwrap(handler.fn).__module__)
        for route in create_app(Settings()).routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/auth/users")
        for handler in route.route_handlers
        for method in handler.http_methods - {"OPTIONS"}
    }
    rows = re.findall(r"^\| `([A-Z]+) (/\S+)` \| `(\S+)\.py` \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == len(served)
    assert {(method, path, f"invitree.{file.replace('/', '.')}") for method, path, file in rows} == served


def test_paths_named_in_the_architecture_page_exist() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", PAGE))
    assert len(named) > 15
    for path in named:
        assert (ROOT / "src/invitree" / path).exists(), path
