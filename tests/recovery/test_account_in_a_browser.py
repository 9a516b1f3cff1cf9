"""The page that links in mails lead to, in a real browser: from the letter to the login."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from msgspec import structs
from playwright.async_api import Browser, Page, async_playwright

from bench.servers import free_port
from invitree.base.settings import Settings
from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast
from tests.kit.test_apidocs import CHROMIUM, CHROMIUM_FLAGS
from tests.postbox import Postbox, text_of
from tests.steps import ANOTHER, at, done, logs_in, sign_up

pytestmark = pytest.mark.usefixtures("activation_required")
Open = Callable[[str], Awaitable[Page]]
SHOTS = os.environ.get("SCREENSHOTS", "")  # a folder to put pictures of every state into


@pytest.fixture(scope="module")
async def site(settings: Settings, ctx: AppContext) -> AsyncIterator[str]:
    """The public URL of a web process of its own on this module's database."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: set CHROMIUM or install chromium")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    said = {"DATABASE_URL": settings.database_url, "SECRET_KEY": settings.secret_key, "DATA_DIR": settings.data_dir,
            "THROTTLE": "off", "WORKERS": "1", "PUBLIC_URL": url}  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INVITREE_")}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "granian",
            "--interface",
            "asgi",
            "--factory",
            "invitree.app:serve",
            "--port",
            str(port),
        ],
        env={**clean, **{f"INVITREE_{name}": value for name, value in said.items()}},
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="module")
async def outbox(ctx: AppContext, site: str) -> Postbox:
    """The mail of the site's users."""
    return Postbox(structs.replace(ctx, settings=structs.replace(ctx.settings, public_url=site)))


@pytest.fixture(scope="module")
async def browser(site: str) -> AsyncIterator[Browser]:
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS) as opened,
    ):
        yield opened


@pytest.fixture(params=["en", "ru"])
def language(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@asynccontextmanager
async def opened(browser: Browser, site: str, language: str) -> AsyncIterator[Page]:
    """A page on which nothing is to complain: no console error but those of refusals, no request to other hosts."""
    complaints: list[str] = []
    locale = {"en": "en-GB", "ru": "ru-RU"}[language]
    context = await browser.new_context(locale=locale, viewport={"width": 900, "height": 700})
    page = await context.new_page()
    page.set_default_timeout(10_000)
    await page.expose_function("complain", lambda text: complaints.append(text))
    await page.add_init_script(
        "addEventListener('securitypolicyviolation', e => complain(`${e.effectiveDirective} ${e.blockedURI}`))"
    )
    # Chromium itself writes a line for every answer of 400 and above; a refusal is no fault of the page.
    page.on(
        "console",
        lambda line: (
            complaints.append(line.text)
            if line.type in ("error", "warning") and "the server responded with a status of" not in line.text
            else None
        ),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith((site, "data:")) else complaints.append(sent.url))
    yield page
    await page.wait_for_timeout(200)  # what is reported late
    assert complaints == []
    await context.close()


@pytest.fixture
async def page(browser: Browser, site: str, language: str) -> AsyncIterator[Page]:
    async with opened(browser, site, language) as one:
        yield one


async def link_to(outbox: Postbox, to: str) -> str:
    """Return the address in the only mail that waits for somebody."""
    [letter] = [letter for letter in await outbox.collect() if letter["to"] == to]
    match = re.search(r"^http\S+", text_of(letter), re.MULTILINE)
    assert match is not None, text_of(letter)
    return match[0]


async def shoot(page: Page, name: str) -> None:
    """Take pictures of a state, light and dark, wide and narrow, where somebody wants to look at them."""
    if not SHOTS:
        return
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        for width in (900, 360):
            await page.set_viewport_size({"width": width, "height": 700})
            await page.screenshot(path=Path(SHOTS) / f"{name}-{scheme}-{width}.png")
    await page.set_viewport_size({"width": 900, "height": 700})


# Of each task: the heading, the button, and what is said when it is done.
TASKS = {
    "en": {
        "activate": ("Confirm your address", "Confirm", "Your address is confirmed. You can log in now."),
        "email": ("Confirm your new address", "Confirm", "Your new address is confirmed. Log in with it from now on."),
        "reset": ("Choose a new password", "Set the password", "Your new password is set. You can log in with it now."),
        "rename": (
            "Choose another username",
            "Set the username",
            "Your new username is set. You can log in with it now.",
        ),
    },
    "ru": {
        "activate": ("Подтвердите адрес", "Подтвердить", "Адрес подтверждён. Теперь можно войти."),
        "email": ("Подтвердите новый адрес", "Подтвердить", "Новый адрес подтверждён. Входите теперь с ним."),
        "reset": ("Придумайте новый пароль", "Сохранить пароль", "Новый пароль сохранён. Теперь с ним можно войти."),
        "rename": (
            "Придумайте новое имя пользователя",
            "Сохранить имя",
            "Новое имя сохранено. Теперь с ним можно войти.",
        ),
    },
}
WORDS = {
    "en": {
        "used": "This link was used already or is too old. Ask for another one.",
        "password": "New password",
        "again": "The same again",
        "name": "New username",
        "differ": "The two password fields didn't match.",
        "common": "This password is too common. Add another word or two. Uncommon words are better.",
        "taken": "A user with that username already exists.",
        "nothing": "Your account",
        "away": "The service cannot be reached. Try again.",
    },
    "ru": {
        "used": "Эта ссылка уже использована или устарела. Запросите новую.",
        "password": "Новый пароль",
        "again": "Ещё раз",
        "name": "Новое имя пользователя",
        "differ": "Введённые пароли не совпадают.",
        "common": "Введённый пароль слишком широко распространён. Добавьте ещё одно-два слова, лучше редких.",
        "taken": "Пользователь с таким именем уже существует.",
        "nothing": "Ваша учётная запись",
        "away": "Сервис недоступен. Попробуйте ещё раз.",
    },
}


async def begins(page: Page, address: str, task: str, language: str) -> None:
    """Open a link and check that the page says what it is about, in the language of the browser."""
    await page.goto(address)
    title, action, _ = TASKS[language][task]
    await page.get_by_role("heading", name=title, exact=True).wait_for()
    assert await page.title() == title
    assert await page.locator("html").get_attribute("lang") == language
    assert await page.get_by_role("button").all_text_contents() == [action]
    assert await page.evaluate("document.activeElement.matches('input, button')")


async def press(page: Page) -> None:
    await page.get_by_role("button").click()


async def ends(page: Page, task: str, language: str) -> None:
    """Check that the page says it is done, and that nobody who looks at it later finds the token."""
    await page.get_by_role("status").get_by_text(TASKS[language][task][2], exact=True).wait_for()
    assert await page.get_by_role("button").count() == 0
    assert urlsplit(page.url).fragment == ""


async def is_told(page: Page, text: str) -> None:
    """Check that the page says what is wrong, and that it can be tried again unless the link is dead."""
    line = page.get_by_role("status").get_by_text(text, exact=True)
    await line.wait_for()
    assert "wrong" in (await page.locator("#lead").get_attribute("class") or "")
    if text in (words["used"] for words in WORDS.values()):
        assert await page.get_by_role("button").count() == 0
    else:
        await page.locator("button:enabled").wait_for()


FRAGMENTS = [
    *("", "#", "#/activate", "#/activate/MQ", "#/nonsense/MQ/1.x", "#/__proto__/MQ/1.x", "#/constructor/MQ/1.x"),
    "#/<img src=x onerror=alert(1)>/MQ/x",
]


class TestInABrowser:
    async def test_a_newcomer_confirms_the_address(
        self, client: httpx.AsyncClient, outbox: Postbox, page: Page, language: str
    ) -> None:
        person = await sign_up(client)
        address = await link_to(outbox, person.email)
        await begins(page, address, "activate", language)
        await shoot(page, f"activate-{language}")
        assert not await logs_in(client, email=person.email)  # looking at the link has used nothing up
        await press(page)
        await ends(page, "activate", language)
        await shoot(page, f"activated-{language}")
        assert await logs_in(client, email=person.email)
        await page.goto("about:blank")
        await begins(page, address, "activate", language)
        await press(page)
        await ends(page, "activate", language)  # it is done, whenever it was
        await shoot(page, f"activated-twice-{language}")

    async def test_a_forgotten_password_is_replaced(
        self, client: httpx.AsyncClient, cast: Cast, outbox: Postbox, page: Page, language: str
    ) -> None:
        alice, words = await cast.member(), WORDS[language]
        done(await client.post(at("reset_password"), json={"email": alice.email}))
        address = await link_to(outbox, alice.email)
        await begins(page, address, "reset", language)
        await shoot(page, f"reset-{language}")
        first, again = [page.get_by_label(label, exact=True) for label in (words["password"], words["again"])]
        for value, repeated, complaint in (
            (ANOTHER, ANOTHER + "!", words["differ"]),
            ("password", "password", words["common"]),
        ):
            await first.fill(value)
            await again.fill(repeated)
            await press(page)
            await is_told(page, complaint)
            await shoot(page, f"reset-{'weak' if value == 'password' else 'differ'}-{language}")
        await first.fill(ANOTHER)
        await again.fill(ANOTHER)
        await press(page)
        await ends(page, "reset", language)
        assert await logs_in(client, ANOTHER, email=alice.email)
        assert not await logs_in(client, PASSWORD, email=alice.email)
        await page.goto("about:blank")
        await begins(page, address, "reset", language)
        for label in (words["password"], words["again"]):
            await page.get_by_label(label, exact=True).fill(ANOTHER)
        await press(page)
        await is_told(page, words["used"])
        await shoot(page, f"reset-used-{language}")

    async def test_a_forgotten_name_is_replaced(
        self, client: httpx.AsyncClient, cast: Cast, outbox: Postbox, page: Page, language: str
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        done(await client.post(at("reset_username"), json={"email": alice.email}))
        await begins(page, await link_to(outbox, alice.email), "rename", language)
        name = page.get_by_label(WORDS[language]["name"], exact=True)
        await name.fill(bob.username)
        await press(page)
        await is_told(page, WORDS[language]["taken"])
        await name.fill(f"new-{alice.username}")
        await page.keyboard.press("Enter")
        await ends(page, "rename", language)
        assert await logs_in(client, username=f"new-{alice.username}")

    async def test_a_new_address_is_confirmed(
        self, client: httpx.AsyncClient, cast: Cast, outbox: Postbox, page: Page, language: str
    ) -> None:
        alice = await cast.member()
        body = {"new_email": f"new-{alice.email}", "current_password": PASSWORD}
        done(await client.post(at("set_email"), json=body, headers=alice.headers))
        address = await link_to(outbox, body["new_email"])
        await begins(page, address, "email", language)
        await press(page)
        await ends(page, "email", language)
        assert await logs_in(client, email=body["new_email"])
        await page.goto("about:blank")
        await begins(page, address, "email", language)
        await press(page)
        await is_told(page, WORDS[language]["used"])

    @pytest.mark.parametrize("fragment", FRAGMENTS)
    async def test_what_is_no_link_asks_for_nothing(self, site: str, page: Page, language: str, fragment: str) -> None:
        await page.goto(f"{site}/account/{fragment}")
        await page.get_by_role("heading", name=WORDS[language]["nothing"], exact=True).wait_for()
        assert await page.get_by_role("button").count() == 0
        if fragment == "":
            await shoot(page, f"nothing-{language}")

    async def test_another_link_in_the_same_tab_is_another_page(
        self, client: httpx.AsyncClient, cast: Cast, outbox: Postbox, page: Page, language: str
    ) -> None:
        alice = await cast.member()
        addresses = []
        for route in ("reset_password", "reset_username"):
            done(await client.post(at(route), json={"email": alice.email}))
            addresses.append(await link_to(outbox, alice.email))
        await begins(page, addresses[0], "reset", language)
        await begins(page, addresses[1], "rename", language)

    async def test_a_service_that_is_away_is_told_as_that(
        self, client: httpx.AsyncClient, outbox: Postbox, page: Page, language: str, site: str
    ) -> None:
        person = await sign_up(client)
        await begins(page, await link_to(outbox, person.email), "activate", language)
        await page.route("**/auth/**", lambda route: route.fulfill(status=502, body="<html>Bad gateway"))
        await press(page)
        await is_told(page, WORDS[language]["away"])
        await page.unroute("**/auth/**")
        await press(page)
        await ends(page, "activate", language)


async def test_every_text_of_the_page_can_be_read(
    client: httpx.AsyncClient, outbox: Postbox, browser: Browser, site: str
) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3), light and dark."""
    person = await sign_up(client)
    address = await link_to(outbox, person.email)
    for scheme in ("light", "dark"):
        async with opened(browser, site, "en") as page:
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            await page.goto(address)
            await page.get_by_role("button").wait_for()
            await page.locator("#lead").evaluate(
                "lead => lead.after(Object.assign(lead.cloneNode(true), {className: 'wrong'}))"
            )
            for selector, behind in (("h1", "main"), ("#lead", "main"), ("p.wrong", "main"), ("button", "button")):
                colors = [
                    await page.locator(one).first.evaluate(f"e => getComputedStyle(e).{name}")
                    for one, name in ((selector, "color"), (behind, "backgroundColor"))
                ]
                assert contrast(*map(luminance, colors)) >= 4.5, (scheme, selector, colors)


def luminance(color: str) -> float:
    """Return the relative luminance of `rgb(…)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
