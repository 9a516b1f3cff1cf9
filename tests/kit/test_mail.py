"""Letters: what they say, what cannot be put into them, and where they are written."""

import re
import resource
import subprocess
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pytest
from jinja2 import UndefinedError
from msgspec import structs

import invitree.identity.email
from invitree.base.settings import Settings
from invitree.kit.email.messages import EmailContent, OutgoingEmail, deliver, message_id, render
from invitree.kit.email.smtp import Undeliverable, Undelivered

FOLDER = Path(invitree.identity.email.__path__[0]) / "letters"
LINKED = ("activation", "password_reset", "username_reset", "email_change")
NOTICES = ("password_changed", "email_changed", "session_stolen")
LIVES = {"activation": "24", "email_change": "24", "password_reset": "30", "username_reset": "30"}
LINK = "https://invite.example.com/account/#/activate/MQ/abc_-123"
SETTINGS = Settings(secret_key="x" * 40, mail_from="Инвайтри <invitree@example.com>")


class Seen(HTMLParser):
    """What a mail program makes of an HTML part."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "href":
                self.links.append(value or "")
            elif name in ("src", "background", "srcset") or "url(" in (value or ""):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def rendered(
    kind: str, language: str = "en", *, username: str = "anna", new_email: str = "b***@e***.com"
) -> EmailContent:
    """Return a letter of any kind."""
    more = {"new_email": new_email} if kind == "email_changed" else {}
    link = LINK if kind in LINKED else ""
    chosen: Literal["en", "ru"] = "ru" if language == "ru" else "en"
    return render(FOLDER, kind, language=chosen, site="invite.example.com", link=link, username=username, **more)


def letter(content: EmailContent | None = None, *, to: str = "anna@example.com") -> OutgoingEmail:
    """Return a letter that can be delivered."""
    return OutgoingEmail(to=to, message_id="<1@example.com>", **structs.asdict(content or rendered("activation")))


async def written(tmp_path: Path, one: OutgoingEmail) -> tuple[EmailMessage, Path]:
    """Return the letter as the outbox has it."""
    await deliver(one, settings=structs.replace(SETTINGS, data_dir=str(tmp_path / "data")))
    [path] = (tmp_path / "data/outbox").iterdir()
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message, path


def test_every_template_is_of_a_kind_that_is_tested_here() -> None:
    texts = {path.name for path in FOLDER.glob("*.txt")}
    assert texts == {f"{kind}.{language}.txt" for kind in (*LINKED, *NOTICES) for language in ("en", "ru")}


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("kind", [*LINKED, *NOTICES])
def test_text_and_html_say_the_same(kind: str, language: str) -> None:
    content = rendered(kind, language)
    seen = Seen(content.html)
    paragraphs = content.text.strip().split("\n\n")
    assert [text for text in seen.texts if text in paragraphs] == paragraphs
    assert "invite.example.com" in content.subject
    assert "\n" not in content.subject
    assert "anna" in paragraphs[0]
    assert all("{" not in part for part in (content.subject, content.text, content.html))
    assert (LINK in paragraphs) == (kind in LINKED)
    assert seen.links == ([LINK, LINK] if kind in LINKED else [])
    assert seen.addresses == []
    assert {"script", "style", "link", "img", "form"}.isdisjoint(seen.tags)
    assert f'lang="{language}"' in content.html
    assert LIVES.get(kind, "") in content.text
    assert bool(re.search("[а-я]", content.text)) == (language == "ru")


@pytest.mark.parametrize("kind", [*LINKED, *NOTICES])
def test_a_value_that_is_missing_is_an_error(kind: str) -> None:
    with pytest.raises(UndefinedError):
        render(FOLDER, kind, language="en", site="invite.example.com", link=LINK)
    if kind in LINKED:
        with pytest.raises(UndefinedError):
            render(FOLDER, kind, language="en", site="invite.example.com", username="anna")


HOSTILE = [
    "x\r\nBcc: everybody@example.com\r\n\r\nbody",
    "x\n\nhttps://evil.example/\n\nx",
    "<a href='https://evil.example/'>Continue</a>",
    "<img src=https://evil.example/pixel>",
    '"><script>alert(1)</script>',
    "{{ link }}{% include 'layout.html' %}",
    "www.evil.example",
    "evil.com",
    "https://evil.com/a",
    "\u202emoc.live\u202c\u2066\x00\x1b[31m",
    "\u2028\u2029\x0b\x0c\x85two",
    "x" * 10_000,
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("kind", ["activation", "email_changed"])
def test_what_a_person_has_chosen_becomes_no_markup_link_or_paragraph(kind: str, hostile: str) -> None:
    plain, content = rendered(kind), rendered(kind, username=hostile, new_email=hostile)
    assert content.subject == plain.subject
    assert len(content.text.split("\n\n")) == len(plain.text.split("\n\n"))
    assert len(content.text) < 2_000
    assert Seen(content.html).tags == Seen(plain.html).tags
    assert Seen(content.html).links == Seen(plain.html).links
    assert content.text.count(LINK) == plain.text.count(LINK)
    ours = content.text.replace(LINK, "").replace("invite.example.com", "")
    # What mail programs make a link of by themselves.
    assert not re.search(r"https?://\w|www\.\w|\w\.(com|example|live)\b", ours)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", content.text)


def test_usual_usernames_are_shown_as_they_are() -> None:
    for username in ("anna", "Анна", "o'neil", "anna_k-2", "anna+x", "a.k"):
        assert username in rendered("activation", username=username).text


async def test_the_outbox_has_the_whole_letter_for_its_owner_alone(tmp_path: Path) -> None:
    content = rendered("password_reset", "ru")
    message, path = await written(tmp_path, letter(content))
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}-[0-9a-f]{12}\.eml", path.name)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert str(message["From"]) == "Инвайтри <invitree@example.com>"
    assert (message["To"], message["Subject"]) == ("anna@example.com", content.subject)
    assert (message["Message-ID"], message["Content-Language"]) == ("<1@example.com>", "ru")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime.tzinfo is not None
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().splitlines() == content.text.splitlines()
    assert html.get_content().splitlines() == content.html.splitlines()
    assert {LINK, f"Subject: {content.subject}"} <= set(path.read_text(encoding="utf-8").splitlines())


async def test_the_outbox_is_in_order_of_time_and_closed_again(tmp_path: Path) -> None:
    outbox = tmp_path / "data/outbox"
    outbox.mkdir(parents=True, mode=0o755)
    settings = structs.replace(SETTINGS, data_dir=str(tmp_path / "data"))
    for number in range(3):
        await deliver(letter(to=f"anna{number}@example.com"), settings=settings)
    assert outbox.stat().st_mode & 0o777 == 0o700
    in_order = [message_from_bytes(path.read_bytes())["To"] for path in sorted(outbox.iterdir())]
    assert in_order == [f"anna{number}@example.com" for number in range(3)]


async def test_an_outbox_that_cannot_be_written_is_for_later_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/outbox").write_text("a file")
    with pytest.raises(Undelivered, match="outbox"):
        await deliver(letter(), settings=structs.replace(SETTINGS, data_dir=str(tmp_path / "data")))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["outbox"]


async def test_a_full_disk_leaves_no_half_letter(tmp_path: Path) -> None:
    most, limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit))  # bytes in any file; a letter has more
    try:
        with pytest.raises(Undelivered, match="outbox"):
            await deliver(letter(), settings=structs.replace(SETTINGS, data_dir=str(tmp_path)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limit))
    assert list((tmp_path / "outbox").iterdir()) == []


@pytest.mark.parametrize(
    "address",
    [
        "anna@example.com\r\nBcc: everybody@example.com",
        "anna@example.com, everybody@example.com",
        "Anna <anna@example.com>",
        "<anna@example.com>",
        "anna@example.com> SIZE=1",
        "anna",
        "",
    ],
)
async def test_mail_goes_to_single_plain_addresses_only(address: str, tmp_path: Path) -> None:
    with pytest.raises(Undeliverable, match="not an address"):
        await deliver(letter(to=address), settings=structs.replace(SETTINGS, data_dir=str(tmp_path)))
    assert not (tmp_path / "outbox").exists()


async def test_a_header_cannot_hold_another(tmp_path: Path) -> None:
    forged = structs.replace(letter(), subject="Hello\r\nBcc: everybody@example.com")
    with pytest.raises(ValueError, match=r"linefeed|newline|header"):
        await deliver(forged, settings=structs.replace(SETTINGS, data_dir=str(tmp_path)))
    assert not (tmp_path / "outbox").exists()


async def test_a_domain_of_other_letters_is_written_as_name_servers_know_it(tmp_path: Path) -> None:
    message, _ = await written(tmp_path, letter(to="Anna@пример.рф"))
    assert message["To"] == "Anna@xn--e1afmkfd.xn--p1ai"


def test_a_message_id_belongs_to_one_job_of_one_installation() -> None:
    first = message_id(SETTINGS, job_id=1, payload=b"{}")
    assert first == message_id(SETTINGS, job_id=1, payload=b"{}")
    assert re.fullmatch(r"<[0-9a-f]{32}@example\.com>", first)
    other = structs.replace(SETTINGS, secret_key="y" * 40)
    others = {
        message_id(SETTINGS, job_id=2, payload=b"{}"),
        message_id(SETTINGS, job_id=1, payload=b'{"user_id":1}'),
        message_id(other, job_id=1, payload=b"{}"),
    }
    assert len(others | {first}) == 4


def test_web_processes_load_nothing_of_mail_and_jobs() -> None:
    script = """
import sys, invitree.run.serve
from invitree.app import create_app
from invitree.base.settings import Settings
create_app(Settings())
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()} | set(done.stdout.split())
    assert loaded.isdisjoint(
        {"aiosmtplib", "jinja2", "pgqueuer", "pydantic", "invitree.kit.email.messages", "invitree.kit.work.queue"}
    )
