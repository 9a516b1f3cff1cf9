"""`invitree mail test`: one letter before one's eyes, and where it stopped if it did."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from bench.servers import free_port
from tests.process import run
from tests.service.postoffice import PostOffice, certify


async def _try(office: PostOffice, to: str = "anna@example.com", **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"INVITREE_SMTP_URL": f"smtp://127.0.0.1:{office.port}", "INVITREE_MAIL_FROM": "Us <us@example.com>"}
    environment |= {f"INVITREE_{name}": value for name, value in more.items()}
    return await asyncio.to_thread(run, "mail", "test", to, env=environment)


async def test_a_letter_is_sent_step_by_step(office: PostOffice, tmp_path: Path) -> None:
    tls = certify(tmp_path)
    given = {"SMTP_CA_FILE": str(tmp_path / "cert.pem"), "SMTP_USER": "me", "SMTP_PASSWORD": "p/@#%"}
    async with office.is_open(authenticator=office.log_in, tls_context=tls):
        done = await _try(office, **given)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"from Us <us@example.com>, by 127.0.0.1:{office.port}",
        "look up the mail server ...",
        "connect to it ...",
        "greet it ...",
        "begin TLS ...",
        "greet it ...",
        "log in ...",
        "name the sender ...",
        "name the recipient ...",
        "begin the letter ...",
        "send the letter ...",
        "Accepted: the rest is up to the mail server.",
    ]
    assert office.logins == [(b"me", b"p/@#%")]
    assert [letter["To"] for letter in office.letters] == ["anna@example.com"]


@pytest.mark.parametrize(
    ("greeting", "sender", "answer", "word", "expected"),
    [
        ("504 5.5.2 name", "250 OK", "250 OK", "250 OK", ("greet it: 504 5.5.2 name", "INVITREE_SMTP_HELO")),
        ("250 HELP", "553 not yours", "250 OK", "250 OK", ("name the sender: 553 not yours", "INVITREE_MAIL_FROM")),
        ("250 HELP", "250 OK", "554 5.7.1 Relay access denied", "250 OK", ("name the recipient: 554", "a login")),
        (
            "250 HELP",
            "250 OK",
            "504 5.5.2 Helo command rejected",
            "250 OK",
            ("the recipient: 504", "INVITREE_SMTP_HELO"),
        ),
        ("250 HELP", "250 OK", "553 5.7.1 Sender address rejected", "250 OK", ("recipient: 553", "INVITREE_MAIL_FROM")),
        ("250 HELP", "250 OK", "550 5.1.1 unknown", "250 OK", ("name the recipient: 550", "does not exist")),
        ("250 HELP", "250 OK", "250 OK", "550 5.7.26 no SPF", ("send the letter: 550", "SPF or DKIM")),
    ],
)
async def test_what_the_server_refuses_is_told_with_what_to_do(
    office: PostOffice, greeting: str, sender: str, answer: str, word: str, expected: tuple[str, str]
) -> None:
    office.greeting, office.sender, office.answers, office.word = greeting, sender, [answer], word
    async with office.is_open():
        done = await _try(office)
    assert done.returncode == 1
    assert done.stderr.startswith("invitree: it stopped at: ")
    assert done.stderr.count("\n") == 1
    for part in expected:
        assert part in done.stderr


async def test_what_stops_before_the_letter_is_told_with_what_to_do(office: PostOffice, tmp_path: Path) -> None:
    tls = certify(tmp_path)
    nobody = await _try(office)
    nowhere = await _try(office, SMTP_URL=f"smtp://nowhere.invalid:{free_port()}")
    async with office.is_open(authenticator=office.log_in, tls_context=tls):
        stranger = await _try(office, SMTP_USER="me", SMTP_PASSWORD="secret")
        wrong = await _try(office, SMTP_USER="me", SMTP_PASSWORD="wrong", SMTP_CA_FILE=str(tmp_path / "cert.pem"))
    async with office.is_open():
        naked = await _try(office, SMTP_USER="me", SMTP_PASSWORD="secret")
        plain = await _try(office, SMTP_URL=f"smtps://127.0.0.1:{office.port}")
    for done, *expected in (
        (nobody, "connect to it: ", "host and port"),
        (nowhere, "look up the mail server: ", "host name"),
        (stranger, "begin TLS: ", "INVITREE_SMTP_CA_FILE"),
        (wrong, "log in: 535", "INVITREE_SMTP_USER"),
        (naked, "begin TLS: ", "STARTTLS", "a server without TLS gets no password"),
        (plain, "connect to it: ", "smtp:// is for STARTTLS"),
    ):
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        for part in expected:
            assert part in done.stderr
        assert "secret" not in done.stderr


def test_without_a_mail_server_it_is_written_into_the_outbox(tmp_path: Path) -> None:
    done = run("mail", "test", "anna@example.com", "--data-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/outbox" in done.stdout
    assert done.stdout.endswith("Written.\n")
    [letter] = (tmp_path / "outbox").glob("*.eml")
    assert "To: anna@example.com" in letter.read_text()
    nobody = run("mail", "test", "nobody", "--data-dir", str(tmp_path))
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)
