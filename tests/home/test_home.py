"""What is at `/`, `/auth/` and `/api/`."""

import re

import httpx
import pytest

import invitree
from invitree.kit.context import AppContext
from tests.cast import refused

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
AXIOS = "application/json, text/plain, */*"


class TestTheFrontPage:
    @pytest.mark.parametrize(
        "accept",
        [
            CHROME,
            FIREFOX,
            "text/html",
            "application/json;q=0.5, text/html",
            "Text/HTML; charset=utf-8; q=0.9, */*;q=0.8",
        ],
    )
    async def test_browsers_get_html(self, client: httpx.AsyncClient, accept: str) -> None:
        answer = await client.get("/", headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["vary"] == "Accept, Accept-Language"
        assert answer.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize(
        "accept",
        [
            "*/*",
            "",
            AXIOS,
            "application/json",
            "application/*",
            "image/png",
            ";;,/",
            "text/html;q=inf",
            "text/html;q=1e999",
            "text/html;q=0",
            "text/html, application/json",
        ],
    )
    async def test_everybody_else_gets_json(self, client: httpx.AsyncClient, ctx: AppContext, accept: str) -> None:
        answer = await client.get("/", headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["vary"] == "Accept, Accept-Language"
        links = answer.json()
        assert (links.pop("name"), links.pop("version")) == ("Invitree", invitree.__version__)
        assert all(link.startswith(f"{ctx.settings.public_base}/") for link in links.values())
        paths = [link.removeprefix(ctx.settings.public_base) for link in links.values()]
        assert [(await client.get(path)).status_code for path in paths] == [200] * len(links)

    @pytest.mark.parametrize(
        ("asked", "language", "words"),
        [("en", "en", "API reference"), ("ru-RU,ru;q=0.9,en;q=0.8", "ru", "Справочник API"), ("de", "en", "Try it")],
    )
    async def test_the_home_page_is_in_the_language_of_the_browser(
        self, client: httpx.AsyncClient, asked: str, language: str, words: str
    ) -> None:
        answer = await client.get("/", headers={"Accept": CHROME, "Accept-Language": asked})
        assert answer.headers["content-language"] == language
        assert f'<html lang="{language}">' in answer.text
        assert words in answer.text
        assert f" {invitree.__version__}<" in answer.text
        assert "$" not in answer.text

    async def test_the_home_page_has_no_script_and_relative_links(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/", headers={"Accept": CHROME})
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not re.search(r"<script|<style| style=| on\w+=", answer.text)
        named = re.findall(r' (?:href|src)="([^"]*)"', answer.text)
        assert named == ["data:,", "home/home.css", "docs/", "docs/try/", "schema/openapi.json", "readyz"]

    async def test_its_style_sheet_is_served_and_nothing_else_is(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/home/home.css")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/css; charset=utf-8")
        for name in ("home.html", "..%2fpages.py", "other.css"):
            refused(await client.get(f"/home/{name}"), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "links"),
    [("/auth", {"users": "/auth/users/"}), ("/api", {"referral_codes": "/api/referral_codes/"})],
)
@pytest.mark.parametrize("slash", ["", "/"])
async def test_an_index_names_absolute_urls(
    client: httpx.AsyncClient, ctx: AppContext, path: str, links: dict[str, str], slash: str
) -> None:
    answer = await client.get(path + slash, headers={"Host": "evil.example", "Authorization": "Token stale"})
    assert answer.status_code == 200
    assert answer.json() == {name: ctx.settings.public_base + link for name, link in links.items()}


@pytest.mark.parametrize("path", ["/", "/auth/", "/api/"])
async def test_other_methods_than_get(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.head(path)).status_code == 200
    options = await client.options(path)
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    refused(await client.post(path, json={}), 405, "method_not_allowed")
