"""Behind nginx, set up as docs/behind-a-proxy.md says: on a host of its own, and under a path."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from bench.servers import free_port
from tests.kit.test_apidocs import CHROMIUM, CHROMIUM_FLAGS
from tests.process import service
from tests.waiting import await_true

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
DOCUMENT = (Path(__file__).parents[2] / "docs/behind-a-proxy.md").read_text(encoding="utf-8")
BLOCKS = {path: block for block, path in re.findall(r"(?ms)^```nginx\n(location (\S+) .+?)^```", DOCUMENT)}
CONFIG = """
daemon off; pid "{folder}/pid"; error_log "{folder}/error.log"; worker_processes 1; events {{}}
http {{
    access_log off;
    client_body_temp_path "{folder}/body"; proxy_temp_path "{folder}/proxy"; fastcgi_temp_path "{folder}/fastcgi";
    uwsgi_temp_path "{folder}/uwsgi"; scgi_temp_path "{folder}/scgi";
    server {{ listen 127.0.0.1:{port}; {block} }}
}}
"""


@contextmanager
def nginx(folder: Path, port: int, block: str) -> Iterator[None]:
    """Run nginx with one server that has one `location` block."""
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, block=block), encoding="utf-8")
    process = subprocess.Popen([str(NGINX), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)])

    def answers() -> bool:
        assert process.poll() is None, "nginx ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        await_true(answers)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="module", params=["/", "/invitree/"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The public URL of a service behind nginx, with a slash at its end."""
    if NGINX is None:
        pytest.skip("no nginx: install nginx-light")
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    public_url = f"http://127.0.0.1:{port}{request.param}"
    env = {"INVITREE_PUBLIC_URL": public_url, "INVITREE_TRUSTED_PROXIES": "1", "INVITREE_THROTTLE": "off"}
    with service("--data-dir", str(folder / "data"), "--workers", "1", env=env) as running:
        block = BLOCKS[request.param].replace("127.0.0.1:8000", urlsplit(running.url).netloc)
        with nginx(folder, port, block):
            yield public_url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: set CHROMIUM or install chromium")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS) as opened,
    ):
        yield opened


@pytest.fixture
def page(site: str, browser: Browser) -> Iterator[Page]:
    """A page that must load without an error in the console, a failed request, or one that leaves the site."""
    complaints: list[str] = []
    with browser.new_page(viewport={"width": 1400, "height": 900}) as page:
        page.set_default_timeout(20_000)
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda sent: None if is_of(site, sent.url) else complaints.append(sent.url))
        page.on("requestfailed", lambda sent: complaints.append(f"{sent.url} {sent.failure}"))
        yield page
        assert complaints == []


def is_of(site: str, url: str) -> bool:
    return url.startswith((site, "data:", "blob:"))


def test_every_door_of_the_front_page_opens(site: str, page: Page) -> None:
    page.goto(site)
    page.get_by_role("heading", name="Invitree").wait_for()
    assert page.evaluate("getComputedStyle(document.querySelector('ul')).listStyleType") == "none"  # the CSS is there
    hrefs = [link.evaluate("link => link.href") for link in page.get_by_role("link").all()]
    assert hrefs == [f"{site}{path}" for path in ("docs/", "docs/try/", "schema/openapi.json", "readyz")]
    assert [httpx.get(href).status_code for href in hrefs] == [200] * 4
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_the_json_indexes_lead_to_what_is_there(site: str) -> None:
    links = httpx.get(site).json()
    del links["name"], links["version"]
    links |= {"users": httpx.get(links["auth"]).json()["users"]}
    links |= {"codes": httpx.get(links["api"]).json()["referral_codes"]}
    assert all(is_of(site, link) for link in links.values())
    found = {name: httpx.get(link).status_code for name, link in links.items()}
    assert found == {**dict.fromkeys(links, 200), "users": 401, "codes": 401}


def test_the_reference_shows_the_operations_and_their_addresses(site: str, page: Page) -> None:
    page.goto(f"{site}docs")
    assert page.url == f"{site}docs/"
    page.get_by_text(site.rstrip("/"), exact=True).wait_for()  # under "Servers"
    page.get_by_text("Operations", exact=True).first.click()
    page.get_by_role("heading", name="Where things are").wait_for()


def test_the_try_it_page_sends_its_requests_to_the_site(site: str, page: Page) -> None:
    page.goto(f"{site}docs/try#tag/operations/GET/healthz")
    assert page.url.startswith(f"{site}docs/try/#")
    page.get_by_role("button", name="(get /healthz)").click()
    with page.expect_response("**/healthz") as answer:
        page.get_by_role("button", name="Send").first.click()
    assert (answer.value.url, answer.value.status) == (f"{site}healthz", 200)


def test_the_account_page_sends_its_request_to_the_site(site: str, browser: Browser) -> None:
    with browser.new_page(locale="en") as page:
        page.goto(f"{site}account#/activate/MQ/1.unknown")
        with page.expect_response("**/activation/") as answer:
            page.get_by_role("button").click()
        assert answer.value.url == f"{site}auth/users/activation/"
        page.get_by_text("This link was used already or is too old.").wait_for()
