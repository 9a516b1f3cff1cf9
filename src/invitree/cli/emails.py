"""The commands `invitree mail …`: listing and retrying queued emails, and sending a test email."""

import asyncio
from collections.abc import Callable, Sequence
from email.utils import make_msgid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, Parameter

from invitree.base.settings import Settings
from invitree.cli.common import CommandError, DataDir, settings_of, with_database
from invitree.kit.data.db import Database

if TYPE_CHECKING:
    from invitree.kit.email.smtp import Step

mail = App(name="mail", help="Look after letters that wait or were given up, and try whether mail can be sent.")

_TIMEOUT_S = 20.0
_STEPS = {
    "resolve": "look up the mail server",
    "connect": "connect to it",
    "hello": "greet it",
    "encrypt": "begin TLS",
    "login": "log in",
    "sender": "name the sender",
    "recipient": "name the recipient",
    "letter": "begin the letter",
    "answer": "send the letter",
}
_ADVICE = {
    "resolve": "check the host name in INVITREE_SMTP_URL, and that this machine can look up names",
    "connect": "check host and port in INVITREE_SMTP_URL, and that no firewall is between; a server that is silent may "
    "expect TLS at once, which is smtps://",
    "hello": "set INVITREE_SMTP_HELO to this machine's full host name, as the name servers know it",
    "encrypt": "if the certificate is of a company's own authority, set INVITREE_SMTP_CA_FILE; check that smtp:// is "
    "for STARTTLS (587) and smtps:// for TLS at once (465); a server without TLS gets no password",
    "login": "check user and password: INVITREE_SMTP_USER, INVITREE_SMTP_PASSWORD_FILE",
    "sender": "set INVITREE_MAIL_FROM to an address that this server lets you send from",
    "recipient": "the mail server wants a login, does not relay for this machine, or has a policy against it: see what "
    "it said",
    "letter": "ask whoever runs the mail server, with what it said",
    "answer": "the sender's domain may lack SPF or DKIM, or the server's policy be against it: ask whoever runs it",
}
_NO_SUCH_ADDRESS = "this address does not exist or takes no mail; try another"


@mail.command(name="list")
def list_mail(
    *,
    failed: Annotated[bool, Parameter(negative="--all", help="Only those given up, or all.")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="For programs.")] = False,
    data_dir: DataDir = None,
) -> None:
    """List the letters that wait or were given up."""
    from invitree.identity.email.actions import JOB
    from invitree.kit.work.jobs import list_jobs

    jobs = with_database(settings_of(data_dir=data_dir), lambda db: list_jobs(db, job=JOB, failed=failed))
    emails = [_row_of(job) for job in jobs]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(emails)).decode())
        return
    rows = [list(email) for email in emails[:1]] + [[str(it or "") for it in row.values()] for row in emails]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if not rows:
        print("No letter was given up." if failed else "No letter waits.")
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def _row_of(job: Any) -> dict[str, object]:
    from invitree.base.emails import masked, parse_email

    payload = msgspec.json.decode(job.payload)
    address = parse_email(payload.get("to") or payload.get("email_key") or "")
    times = {"since": job.created_at, "next": job.next_at}
    return {
        "id": job.id,
        "kind": payload.get("kind", ""),
        "to": masked(address.key) if address else f"user {payload.get('user_id')}",
        "status": job.status,
        "attempts": job.attempts,
        **{name: time and f"{time:%Y-%m-%dT%H:%M:%SZ}" for name, time in times.items()},
        "reason": job.reason,
    }


@mail.command(name="retry")
def retry_mail(
    ids: Annotated[list[int] | None, Parameter(help="As invitree mail list gives them.")] = None,
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="", help="All that were given up.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Have letters that were given up tried again, as often as a new one."""
    from invitree.identity.email.actions import JOB
    from invitree.kit.work.jobs import list_jobs, retry_jobs

    if every == bool(ids):
        raise CommandError("name letters that were given up, or all of them by --all; see invitree mail list --failed")

    async def retry(db: Database) -> list[int]:
        known = {job.id: job.status for job in await list_jobs(db, job=JOB)}
        for number in ids or ():
            if number not in known:
                raise CommandError(f"there is no letter {number}; it may have been sent")
            if known[number] != "failed":
                raise CommandError(f"letter {number} was not given up: it is {known[number]}")
        return await retry_jobs(db, ids=ids or [number for number, status in known.items() if status == "failed"])

    requeued = with_database(settings_of(data_dir=data_dir), retry)
    print(f"Queued again: {', '.join(map(str, requeued))}." if requeued else "Nothing to do: no letter was given up.")


@mail.command(name="test")
def send_test_mail(
    address: Annotated[str, Parameter(help="Where to send it.")], /, *, data_dir: DataDir = None
) -> None:
    """Send one letter now, step by step. Asks no database; the service may run or not."""
    from invitree.kit.email.smtp import Undeliverable, Undelivered

    settings = settings_of(data_dir=data_dir)
    steps: list[str] = []

    def begin(step: str) -> None:
        steps.append(step)
        print(f"{_STEPS[step]} ...", flush=True)

    print(f"from {settings.sender}, by {_target_of(settings)}")
    try:
        asyncio.run(_send_one(settings, address, begin))
    except Undeliverable as error:
        raise CommandError(f"{_failed_step(steps)}{error}; {_NO_SUCH_ADDRESS}") from None
    except Undelivered as error:
        # With smtps:// the TLS handshake is part of connecting.
        step = error.obstacle.partition(" ")[0] or (steps or [""])[-1]
        raise CommandError(f"{_failed_step(steps)}{error}; {_advice(step, str(error))}") from None
    print("Accepted: the rest is up to the mail server." if settings.smtp_url else "Written.")


async def _send_one(settings: Settings, address: str, begin: "Callable[[Step], None]") -> None:
    from invitree.kit.email.messages import OutgoingEmail, deliver

    text = "This is a test: mail can be sent."
    email = OutgoingEmail(
        to=address,
        subject="Invitree: test",
        text=f"{text}\n",
        html=f"<p>{text}</p>",
        language="en",
        message_id=make_msgid(domain=settings.sender.domain),
    )
    await deliver(email, settings=settings, timeout_s=_TIMEOUT_S, on_step=begin)


def _target_of(settings: Settings) -> str:
    if not settings.smtp_url:
        return f"a file in {Path(settings.data_dir).resolve() / 'outbox'} (INVITREE_SMTP_URL is not set)"
    server = settings.mail_server
    return f"{server.host}:{server.port}{' with TLS' if server.implicit_tls else ''}"


def _advice(step: str, reply: str) -> str:
    """Return advice for a failed step. Many servers reject the HELO name or the sender only in the reply to RCPT."""
    if step == "recipient":
        step = "hello" if "helo" in reply.lower() else "sender" if "sender" in reply.lower() else step
    elif step == "connect" and reply[:1].isdecimal():
        step = "recipient"  # the server answered, and rejects this machine
    return _ADVICE.get(step, "check the folder")


def _failed_step(steps: Sequence[str]) -> str:
    return f"it stopped at: {_STEPS[steps[-1]]}: " if steps else ""
