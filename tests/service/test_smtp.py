"""Speaking to mail servers: encryption, passwords, and which refusals are for ever."""

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from invitree.base.settings import Settings
from invitree.kit.email.messages import OutgoingEmail, deliver
from invitree.kit.email.smtp import Undeliverable, Undelivered
from tests.service.postoffice import PostOffice, certify
from tests.waiting import eventually

LETTER = OutgoingEmail(
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


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("554 no", Undelivered),
        ("550 5.7.26 this mail is unauthenticated", Undelivered),
        ("550 5.1.1 no such user", Undeliverable),
        ("451 later", Undelivered),
    ],
)
async def test_a_refusal_of_the_letter_is_for_ever_only_if_it_is_about_the_address(
    office: PostOffice, word: str, error: type[Exception]
) -> None:
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


@pytest.mark.parametrize(
    ("greeting", "sender", "answer", "obstacle"),
    [
        ("504 5.5.2 <x>: Helo command rejected: need fully-qualified hostname", "250 OK", "250 OK", "hello 504 5.2"),
        ("550 go away", "250 OK", "250 OK", "hello 550"),
        ("250 HELP", "553 5.7.1 not yours", "250 OK", "sender 553 7.1"),
        ("250 HELP", "550 5.1.1 no such user", "250 OK", "sender 550 1.1"),
        ("250 HELP", "451 4.1.8 Domain of sender does not resolve", "250 OK", "sender 451 1.8"),
        ("250 HELP", "250 OK", "554 5.7.1 <anna@example.com>: Relay access denied", "recipient 554 7.1"),
        ("250 HELP", "250 OK", "450 4.7.1 Client host rejected: cannot find your hostname", "recipient 450 7.1"),
        ("250 HELP", "250 OK", "450 4.2.0 greylisted", ""),
        ("250 HELP", "250 OK", "250 OK", "answer 554"),
    ],
)
async def test_what_the_operator_can_mend_is_for_later_and_named(
    office: PostOffice, greeting: str, sender: str, answer: str, obstacle: str
) -> None:
    office.greeting, office.sender, office.answers, office.word = greeting, sender, [answer], "554 against our policy"
    async with office.is_open():
        with pytest.raises(Undelivered) as caught:
            await deliver(LETTER, settings=settings(office))
    assert (caught.value.obstacle, caught.value.in_doubt) == (obstacle, False)


async def test_a_server_that_refuses_the_connection_is_for_later(office: PostOffice) -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"554 5.7.1 no SMTP service for you\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", office.port):
        with pytest.raises(Undelivered, match="no SMTP service") as caught:
            await deliver(LETTER, settings=settings(office))
    assert caught.value.obstacle == "connect 554 7.1"


async def test_a_wrong_password_is_for_later(office: PostOffice, tmp_path: Path) -> None:
    tls = certify(tmp_path)
    given = structs.replace(
        settings(office), smtp_user="me", smtp_password="wrong", smtp_ca=(tmp_path / "cert.pem").read_text()
    )
    async with office.is_open(authenticator=office.log_in, tls_context=tls):
        with pytest.raises(Undelivered) as caught:
            await deliver(LETTER, settings=given)
    assert caught.value.obstacle.startswith("login 535")
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("user", ["", "me"])
async def test_a_company_s_own_authority_is_trusted_and_tls_required_with_it(
    office: PostOffice, scheme: str, user: str, tmp_path: Path
) -> None:
    tls = certify(tmp_path)
    ca = (tmp_path / "cert.pem").read_text()
    given = structs.replace(settings(office, scheme=scheme), smtp_user=user, smtp_password=user and "p/@#", smtp_ca=ca)
    how = {"implicit_tls": tls, "auth_require_tls": False} if scheme == "smtps" else {"tls_context": tls}
    async with office.is_open(authenticator=office.log_in, **how):
        await deliver(LETTER, settings=given)
    assert office.logins == ([(b"me", b"p/@#")] if user else [])
    assert len(office.letters) == 1
    (tmp_path / "other").mkdir()
    certify(tmp_path / "other")
    another = structs.replace(given, smtp_ca=(tmp_path / "other/cert.pem").read_text())
    async with office.is_open(authenticator=office.log_in, **how):
        with pytest.raises(Undelivered, match=r"(?i)certificate") as caught:
            await deliver(LETTER, settings=another)
    assert caught.value.obstacle == "encrypt"
    async with office.is_open(authenticator=office.log_in, auth_require_tls=False):
        with pytest.raises(Undelivered) as caught:
            await deliver(LETTER, settings=given)
    assert caught.value.obstacle == "encrypt"
    assert len(office.letters) == 1


async def test_a_password_goes_in_the_clear_only_where_that_is_said(office: PostOffice) -> None:
    given = structs.replace(settings(office), smtp_user="me", smtp_password="secret", smtp_password_in_the_clear=True)
    async with office.is_open(authenticator=office.log_in, auth_require_tls=False):
        await deliver(LETTER, settings=given)
        with pytest.raises(Undelivered, match="STARTTLS"):
            await deliver(LETTER, settings=structs.replace(given, smtp_password_in_the_clear=False))
    assert office.logins == [(b"me", b"secret")]


@pytest.mark.parametrize(
    ("helo", "public_url", "expected"),
    [
        ("", "", "[127.0.0.1]"),
        ("", "http://localhost:8000", "[127.0.0.1]"),
        ("", "http://192.0.2.1", "[127.0.0.1]"),
        ("", "https://invite.example.com/here", "invite.example.com"),
        ("mail.example.com", "https://invite.example.com", "mail.example.com"),
    ],
)
async def test_mail_servers_are_greeted_with_a_valid_name(
    office: PostOffice, helo: str, public_url: str, expected: str
) -> None:
    async with office.is_open():
        await deliver(LETTER, settings=structs.replace(settings(office), smtp_helo=helo, public_url=public_url))
    assert set(office.names) == {expected}


@pytest.mark.parametrize(
    ("sender", "envelope", "header"),
    [
        ("no@reply <i@example.com>", "i@example.com", '"no@reply" <i@example.com>'),
        ('"Invitree, Inc." <i@example.com>', "i@example.com", '"Invitree, Inc." <i@example.com>'),
        ("Инвайтри <i@пример.рф>", "i@xn--e1afmkfd.xn--p1ai", "Инвайтри <i@xn--e1afmkfd.xn--p1ai>"),
        ("Инвайтри <я@пример.рф>", "я@xn--e1afmkfd.xn--p1ai", "Инвайтри <я@xn--e1afmkfd.xn--p1ai>"),
    ],
)
async def test_the_sender_is_the_address_and_the_name_as_written(
    office: PostOffice, sender: str, envelope: str, header: str
) -> None:
    async with office.is_open(enable_SMTPUTF8=True):
        await deliver(LETTER, settings=structs.replace(settings(office), mail_from=sender))
    assert office.senders == [envelope]
    assert str(office.letters[0]["From"]) == header


async def test_a_sender_that_the_server_cannot_spell_is_for_the_operator_to_mend(office: PostOffice) -> None:
    async with office.is_open(enable_SMTPUTF8=False):
        with pytest.raises(Undelivered, match="SMTPUTF8") as caught:
            await deliver(LETTER, settings=structs.replace(settings(office), mail_from="я@example.com"))
    assert caught.value.obstacle == "sender"


async def test_lines_that_begin_with_a_dot_arrive_as_they_are(office: PostOffice) -> None:
    async with office.is_open():
        await deliver(structs.replace(LETTER, text=".\n..two\n.\nend\n"), settings=settings(office))
    text = office.letters[0].get_body(("plain",))
    assert text is not None
    assert text.get_content().splitlines() == [".", "..two", ".", "end"]


async def test_only_a_letter_that_was_sent_whole_is_in_doubt(office: PostOffice) -> None:
    office.hold.clear()
    async with office.is_open():
        with pytest.raises(Undelivered) as caught:
            await deliver(LETTER, settings=settings(office), timeout_s=0.3)
        assert caught.value.in_doubt
        cut = asyncio.create_task(deliver(LETTER, settings=settings(office)))
        await eventually(lambda: len(office.asked) == 2)
        cut.cancel()
        with pytest.raises(Undelivered, match="interrupted"):
            await cut
    office.pace_s = 60
    async with office.is_open():
        with pytest.raises(Undelivered) as caught:
            await deliver(LETTER, settings=settings(office), timeout_s=0.3)
    assert not caught.value.in_doubt


async def test_a_letter_that_was_taken_is_sent_even_if_the_worker_is_stopped_during_the_farewell(
    office: PostOffice,
) -> None:
    office.farewell.clear()
    async with office.is_open():
        sending = asyncio.create_task(deliver(LETTER, settings=settings(office)))
        await eventually(lambda: len(office.letters) == 1)
        await asyncio.sleep(0.1)  # the answer is under way
        sending.cancel()
        await sending
    assert len(office.letters) == 1


async def test_nobody_there_and_nobody_answering_are_for_later(office: PostOffice) -> None:
    with pytest.raises(Undelivered, match=r"127\.0\.0\.1"):
        await deliver(LETTER, settings=settings(office))
    office.hold.clear()
    async with office.is_open():
        with pytest.raises(Undelivered, match="does not answer"):
            await deliver(LETTER, settings=settings(office), timeout_s=0.3)


async def test_patience_is_for_the_whole_of_a_slow_conversation(office: PostOffice) -> None:
    office.pace_s = 0.4
    async with office.is_open():
        await deliver(LETTER, settings=settings(office), timeout_s=5)
        with pytest.raises(Undelivered, match="does not answer"):
            await deliver(LETTER, settings=settings(office), timeout_s=0.6)
    assert len(office.letters) == 1


async def test_a_server_that_hangs_after_taking_a_letter_has_taken_it(office: PostOffice) -> None:
    office.farewell.clear()
    async with office.is_open():
        await deliver(LETTER, settings=settings(office), timeout_s=1)
    assert len(office.letters) == 1
