"""Pages of other origins in a real browser: allowed ones call the service, and others cannot."""

import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, async_playwright

from tests.cast import PASSWORD
from tests.kit.test_apidocs import CHROMIUM, CHROMIUM_FLAGS
from tests.process import Service, run, service
from tests.waiting import eventually

ANN = {"email": "ann@example.com", "username": "ann", "password": PASSWORD}
# What a front end does: it logs in, calls with a token and JSON, and reads headers.
CALL = """async ([url, credentials]) => {
  try {
    const json = { "Content-Type": "application/json" };
    const body = JSON.stringify({ email: "ann@example.com", password: "correct horse battery staple" });
    const login = await fetch(url + "/auth/token/login/", { method: "POST", headers: json, body, credentials });
    const { auth_token } = await login.json();
    const me = await fetch(url + "/auth/users/me/", { headers: { Authorization: "Token " + auth_token }, credentials });
    const wrong = await fetch(url + "/auth/users/me/", { headers: { Authorization: "Token x" }, credentials });
    return [(await me.json()).username, !!me.headers.get("X-Request-Id"), wrong.status, (await wrong.json()).code];
  } catch (error) {
    return String(error);
  }
}"""
WORKS = ["ann", True, 401, "unauthenticated"]


class _Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A page</title>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def origins() -> Iterator[list[str]]:
    """The origins of three sites with a blank page each."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Blank) for _ in range(3)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder."""
    folder = tmp_path_factory.mktemp("data")
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="module")
def running(origins: list[str], data: Path) -> Iterator[Service]:
    """A service that pages of the first site may call."""
    with service("--data-dir", str(data), "--workers", "2", env={"INVITREE_CORS_ORIGINS": origins[0]}) as started:
        httpx.post(f"{started.url}/auth/users/", json=ANN)
        yield started


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: set CHROMIUM or install chromium")
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield opened
        await opened.close()


async def called_from(browser: Browser, origin: str, service_url: str, credentials: str = "same-origin") -> Any:
    """Return what a page of an origin gets when it calls the service."""
    page = await browser.new_page()
    try:
        await page.goto(f"{origin}/")
        return await page.evaluate(CALL, [service_url, credentials])
    finally:
        await page.close()


@pytest.mark.parametrize("credentials", ["same-origin", "include"])
async def test_a_page_of_an_allowed_origin_calls_the_service(
    browser: Browser, running: Service, origins: list[str], credentials: str
) -> None:
    assert await called_from(browser, origins[0], running.url, credentials) == WORKS


async def test_a_page_of_another_origin_is_stopped_by_the_browser(
    browser: Browser, running: Service, origins: list[str]
) -> None:
    assert await called_from(browser, origins[1], running.url) == "TypeError: Failed to fetch"


async def test_a_programs_origins_count_at_once_in_every_process(
    browser: Browser, running: Service, origins: list[str], data: Path
) -> None:
    assert run("program", "set", "--origins", origins[2], "--data-dir", str(data)).returncode == 0

    def is_known() -> bool:  # asked on connections of their own, and so of both processes
        answers = [httpx.get(f"{running.url}/healthz", headers={"Origin": origins[2]}) for _ in range(20)]
        return all(answer.headers.get("access-control-allow-origin") == origins[2] for answer in answers)

    await eventually(is_known)
    assert await called_from(browser, origins[2], running.url) == WORKS
