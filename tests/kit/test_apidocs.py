"""The API pages: what they answer over HTTP, and what a real browser makes of them."""

import gzip
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec
import pytest
from litestar import Litestar, get, post
from litestar.openapi.spec import Tag
from litestar.params import FromPath, JSONBody
from litestar.testing import TestClient
from playwright.sync_api import Page, sync_playwright

from invitree.kit.web.apidocs import api_docs, docs_handlers
from tests.waiting import await_true

PAGES = ["/docs/", "/docs/try/"]
CHROMIUM = next(
    filter(None, map(shutil.which, [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"])),
    None,
)
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Lamp(msgspec.Struct):
    """A lamp."""

    color: str


@get("/lamps/{lamp_id:int}", summary="Look at one lamp", tags=["lamps"])
async def read_lamp(lamp_id: FromPath[int]) -> Lamp:
    """Return the lamp with its *color*."""
    return Lamp(color=f"color {lamp_id}")


@post("/lamps", summary="Hang up another lamp", tags=["lamps"])
async def hang_lamp(data: JSONBody[Lamp]) -> Lamp:
    """Hang up a lamp."""
    return data


app = Litestar(
    [read_lamp, hang_lamp, *docs_handlers],
    openapi_config=api_docs(
        title="Lamps <&>",
        version="1",
        description="All **lamps**.",
        tags=[Tag(name="lamps", description="They shine.")],
    ),
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Litestar]]:
    with TestClient(app) as client:
        yield client


def policy_of(headers: Any) -> dict[str, list[str]]:
    directives = (part.split() for part in headers["content-security-policy"].split(";"))
    return {name: sources for name, *sources in directives}


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_html_that_nothing_keeps_or_frames(client: TestClient[Litestar], path: str) -> None:
    page = client.get(path, follow_redirects=False)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<title>Lamps &lt;&amp;&gt;</title>" in page.text


@pytest.mark.parametrize("path", PAGES)
def test_without_a_slash_at_its_end_an_address_leads_to_the_one_with_it(
    client: TestClient[Litestar], path: str
) -> None:
    answer = client.get(path.rstrip("/"), headers={"host": "evil.example"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, path.rstrip("/").rpartition("/")[2] + "/")


@pytest.mark.parametrize("path", PAGES)
def test_a_policy_trusts_this_host_alone(client: TestClient[Litestar], path: str) -> None:
    policy = policy_of(client.get(path).headers)
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == ["'self'"]
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert "'unsafe-inline'" not in policy["style-src"]
    sources = {source for listed in policy.values() for source in listed}
    assert not [source for source in sources if not re.fullmatch(r"'[\w-]+'|data:", source)], "a host or a wildcard"
    assert "'unsafe-eval'" not in sources


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_script_of_its_own(client: TestClient[Litestar], path: str) -> None:
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", client.get(path).text)
    assert len(scripts) == 2
    assert all(re.search(r' src="(\.\./)?assets/', attributes) and not text for attributes, text in scripts)


def test_neither_page_reports_to_its_maker(client: TestClient[Litestar]) -> None:
    assert 'disable-telemetry="true"' in client.get("/docs/").text
    assert "&quot;telemetry&quot;:false" in client.get("/docs/try/").text


def test_a_nonce_is_used_once(client: TestClient[Litestar]) -> None:
    assert len({str(policy_of(client.get("/docs/").headers)["style-src"]) for _ in range(5)}) == 5


@pytest.mark.parametrize("path", ["/schema/openapi.json", "/schema/openapi.json/"])
def test_the_document_holds_the_routes_and_no_page(client: TestClient[Litestar], path: str) -> None:
    answer = client.get(path)
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-content-type-options"] == "nosniff"
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {"/lamps", "/lamps/{lamp_id}"}
    assert [urljoin("/below/schema/openapi.json", server["url"]) for server in document["servers"]] == ["/below/"]
    assert document["paths"]["/lamps"]["post"]["description"] == "Hang up a lamp."


@pytest.mark.parametrize(
    "path", ["/schema", "/schema/other", "/docs/other", "/docs/assets/scalar.css", "/docs/assets/..%2fapidocs.py"]
)
def test_any_other_path_is_the_apps_own_404(client: TestClient[Litestar], path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("path", PAGES)
def test_every_script_is_served_compressed_and_cached(client: TestClient[Litestar], path: str) -> None:
    for name in re.findall(r'src="([^"]+)"', client.get(path).text):
        url = urljoin(path, name)
        zipped = client.get(url, headers={"accept-encoding": "br, gzip"})
        plain = client.get(url, headers={"accept-encoding": "gzip;q=0"})
        assert zipped.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert zipped.content == plain.content
        for answer in (zipped, plain):
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["vary"] == "Accept-Encoding"
            assert "immutable" in answer.headers["cache-control"]
        assert len(gzip.compress(plain.content, 1)) < len(plain.content)


def test_a_script_is_not_sent_again_and_not_kept_under_a_strange_version(client: TestClient[Litestar]) -> None:
    first = client.get("/docs/assets/boot.js?v=old")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/docs/assets/boot.js", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


def test_importing_the_pages_does_not_import_the_bundles_package() -> None:
    check = "import sys, invitree.kit.web.apidocs; sys.exit('offapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
    place = Path(__file__)
    process = subprocess.Popen([*command, "--working-dir", str(place.parent), f"{place.stem}:app"])

    def answers() -> bool:
        assert process.poll() is None, "the server ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        await_true(answers)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def page(server: str) -> Iterator[Page]:
    """Return a page whose `complaints` must stay empty: console errors, refused content, requests to other hosts."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: set CHROMIUM or install chromium")
    complaints: list[str] = []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS) as browser,
    ):
        page = browser.new_page(base_url=server, viewport={"width": 1400, "height": 900})
        page.set_default_timeout(10_000)
        page.expose_function("complain", lambda text: complaints.append(text))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', e => complain(`${e.effectiveDirective} ${e.blockedURI}`))"
        )
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda sent: complaints.append(sent.url) if is_abroad(sent.url, server) else None)
        yield page
        page.wait_for_timeout(300)  # what is reported late
        assert complaints == []


def is_abroad(url: str, server: str) -> bool:
    return urlsplit(url).scheme not in ("data", "blob") and not url.startswith(server)


def test_redoc_shows_and_finds_the_operations(page: Page) -> None:
    page.goto("/docs/")
    page.get_by_text("They shine.").first.wait_for()
    page.get_by_text("lamps", exact=True).first.click()
    page.get_by_role("heading", name="Hang up another lamp").wait_for()
    assert page.locator("[data-testid=page-actions]").first.is_hidden()
    assert all(page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)"))
    page.keyboard.press("Control+k")
    page.keyboard.type("another")
    page.get_by_text("another", exact=True).first.wait_for()  # a hit, marked inside its sentence


def test_scalar_shows_the_operations_and_sends_a_request(page: Page) -> None:
    page.goto("/docs/try/")
    page.get_by_role("heading", name="Hang up another lamp").wait_for()
    assert page.get_by_text("Generate SDK").filter(visible=True).count() == 0
    page.locator(".show-api-client-button[method=post]").click()
    with page.expect_response("**/lamps") as answer:
        page.get_by_role("button", name="Send").first.click()
    assert answer.value.status == 201
    page.get_by_text("201 Created").wait_for()
