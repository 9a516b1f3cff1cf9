"""The page that links in mails lead to: what it answers over HTTP."""

import re

import httpx
import pytest

from tests.cast import refused


class TestTheFiles:
    @pytest.mark.parametrize("path", ["/account/", "/account/account.js", "/account/account.css"])
    async def test_each_is_served_under_a_policy_that_trusts_this_host_alone(
        self, client: httpx.AsyncClient, path: str
    ) -> None:
        answer = await client.get(path)
        assert answer.status_code == 200
        kinds = {
            "": "text/html; charset=utf-8",
            "js": "text/javascript; charset=utf-8",
            "css": "text/css; charset=utf-8",
        }
        assert answer.headers["content-type"] == kinds[path.rpartition("/")[2].rpartition(".")[2]]
        policy = {
            name: sources
            for name, *sources in (part.split() for part in answer.headers["content-security-policy"].split(";"))
        }
        assert policy["default-src"] == ["'none'"]
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == ("no-store" if path == "/account/" else "no-cache")
        assert "set-cookie" not in answer.headers

    async def test_without_its_slash_the_page_is_elsewhere(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/account", headers={"Host": "evil.example"})
        assert (answer.status_code, answer.headers["location"]) == (308, "account/")

    async def test_the_page_has_nothing_of_its_own_that_a_policy_forbids(self, client: httpx.AsyncClient) -> None:
        page = (await client.get("/account/")).text
        assert re.findall(r"<script([^>]*)>(.*?)</script>", page) == [(' type="module" src="account.js"', "")]
        assert "<style" not in page
        assert " style=" not in page
        assert not re.search(r"(?:src|href)=\"(?:https?:)?/", page)  # to work below any public URL

    @pytest.mark.parametrize(
        "name",
        ["account.html", "other.js", "..%2fpages.py", "..%2Fapi.py", "%2e%2e/pages.py", "account.js%00", "ACCOUNT.JS",
         "account.js.map", "account.css%3F", "x" * 3000],
    )  # fmt: skip
    async def test_any_other_name_is_our_own_404(self, client: httpx.AsyncClient, name: str) -> None:
        refused(await client.get(f"/account/{name}"), 404, "not_found")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    async def test_the_account_page_takes_get_and_head_only(self, client: httpx.AsyncClient, method: str) -> None:
        refused(await client.request(method, "/account/"), 405, "method_not_allowed")

    async def test_a_head_is_answered(self, client: httpx.AsyncClient) -> None:
        assert (await client.head("/account/")).status_code == 200
