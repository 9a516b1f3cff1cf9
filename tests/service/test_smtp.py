"""Speaking to mail servers: encryption, passwords, and which refusals are for ever."""

from pathlib import Path

import pytest
from msgspec import structs

from invitree.base.settings import Settings
from invitree.kit.mail import Letter, Undeliverable, Undelivered, deliver
from tests.service.postoffice import PostOffice, certify

LETTER = Letter(
    to="anna@example.com", message_id="<1@example.com>", subject="Привет", text="a\n", html="<p>a", language="en"
)
PASSWORD = "p%40ss%3Aw%2Frd"
MEANT = (b"me@example.com", b"p@ss:w/rd")


def settings(office: PostOffice, *, scheme: str = "smtp", user: str = "") -> Settings:
    """Return settings that lead to the server."""
    return Settings(secret_key="x" * 40, smtp_url=f"{scheme}://{user}127.0.0.1:{office.port}")


async def test_without_a_password_a_server_without_tls_will_do(office: PostOffice) -> None:
    async with office.is_open():
        await deliver(LETTER, settings=settings(office))
    assert [letter["Subject"] for letter in office.letters] == ["Привет"]
    assert office.letters[0]["Message-ID"] == LETTER.message_id


async def test_without_a_password_tls_is_taken_from_whoever_offers_it(office: PostOffice, tmp_path: Path) -> None:
    async with office.is_open(tls_context=certify(tmp_path), require_starttls=True):
        await deliver(LETTER, settings=settings(office))
    assert len(office.letters) == 1


async def test_a_password_is_not_shown_to_a_server_without_tls(office: PostOffice) -> None:
    async with office.is_open(authenticator=office.log_in, auth_require_tls=False):
        with pytest.raises(Undelivered, match="STARTTLS"):
            await deliver(LETTER, settings=settings(office, user=f"me%40example.com:{PASSWORD}@"))
    assert (office.logins, office.letters) == ([], [])


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("is_trusted", [True, False])
async def test_a_password_is_shown_to_a_server_with_a_certificate_alone(
    office: PostOffice, scheme: str, is_trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = certify(tmp_path)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    given = settings(office, scheme=scheme, user=f"me%40example.com:{PASSWORD}@")
    how = {"implicit_tls": tls, "auth_require_tls": False} if scheme == "smtps" else {"tls_context": tls}
    async with office.is_open(authenticator=office.log_in, **how):
        if is_trusted:
            await deliver(LETTER, settings=given)
        else:
            with pytest.raises(Undelivered, match=r"(?i)certificate"):
                await deliver(LETTER, settings=given)
    assert office.logins == ([MEANT] if is_trusted else [])
    assert len(office.letters) == is_trusted


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("550 5.1.1 <anna@example.com>: no such user, says me@example.org", Undeliverable),
        ("552 5.2.2 mailbox full", Undeliverable),
        ("450 4.2.1 greylisted, anna@example.com", Undelivered),
        ("421 going down", Undelivered),
        ("530 5.7.0 authentication required", Undelivered),
    ],
)
async def test_which_refusals_of_a_recipient_are_for_ever(
    office: PostOffice, answer: str, error: type[Exception]
) -> None:
    office.answers = [answer]
    async with office.is_open():
        with pytest.raises(error, match=answer[:3]) as caught:
            await deliver(LETTER, settings=settings(office))
    assert "example" not in str(caught.value)
    assert caught.value.__suppress_context__, "what is printed would name the recipient"


@pytest.mark.parametrize(("word", "error"), [("554 no", Undeliverable), ("451 later", Undelivered)])
async def test_which_refusals_of_a_letter_are_for_ever(office: PostOffice, word: str, error: type[Exception]) -> None:
    office.word = word
    async with office.is_open():
        with pytest.raises(error, match=word):
            await deliver(LETTER, settings=settings(office))


async def test_a_server_that_cannot_spell_the_address_will_never_take_it(office: PostOffice) -> None:
    async with office.is_open(enable_SMTPUTF8=False):
        with pytest.raises(Undeliverable, match="SMTPUTF8"):
            await deliver(structs.replace(LETTER, to="анна@example.com"), settings=settings(office))
    async with office.is_open(enable_SMTPUTF8=True):
        await deliver(structs.replace(LETTER, to="анна@example.com"), settings=settings(office))
    assert office.letters[0]["To"] == "анна@example.com"


async def test_nobody_there_and_nobody_answering_are_for_later(office: PostOffice) -> None:
    with pytest.raises(Undelivered, match=r"127\.0\.0\.1"):
        await deliver(LETTER, settings=settings(office))
    office.hold.clear()
    async with office.is_open():
        with pytest.raises(Undelivered, match="does not answer"):
            await deliver(LETTER, settings=settings(office), patience_s=0.3)


async def test_patience_is_for_the_whole_of_a_slow_conversation(office: PostOffice) -> None:
    office.pace_s = 0.4
    async with office.is_open():
        await deliver(LETTER, settings=settings(office), patience_s=5)
        with pytest.raises(Undelivered, match="does not answer"):
            await deliver(LETTER, settings=settings(office), patience_s=0.6)
    assert len(office.letters) == 1


async def test_a_server_that_hangs_after_taking_a_letter_has_taken_it(office: PostOffice) -> None:
    office.farewell.clear()
    async with office.is_open():
        await deliver(LETTER, settings=settings(office), patience_s=1)
    assert len(office.letters) == 1
