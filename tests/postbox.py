"""The mail that the tests receive: jobs done at once, as the worker does them, and what they wrote to the outbox."""

import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

from invitree.identity.email.jobs import send_mail
from invitree.kit.context import AppContext


class Link(NamedTuple):
    """What a link in a mail has in it."""

    task: str
    uid: str
    token: str

    @property
    def body(self) -> dict[str, str]:
        """What is sent to follow it."""
        return {"uid": self.uid, "token": self.token}


class Postbox:
    """Everybody's mail. `here` must have a data folder of its own."""

    def __init__(self, ctx: AppContext) -> None:
        self._here = ctx

    async def collect(self) -> list[EmailMessage]:
        """Do every job that waits, and return the mails that came of them, oldest first."""
        jobs = await self._here.db.fetch("DELETE FROM pgqueuer WHERE entrypoint = 'send_mail' RETURNING id, payload")
        letters = []
        for job in sorted(jobs, key=lambda row: int(row["id"])):
            await send_mail(self._here, job["payload"], job["id"])
        for path in sorted((Path(self._here.settings.data_dir) / "outbox").glob("*.eml")):
            letter = message_from_bytes(path.read_bytes(), policy=policy.default)
            assert isinstance(letter, EmailMessage)
            letters.append(letter)
            path.unlink()
        return letters

    async def link(self, to: str) -> Link:
        """Return the link in the only mail that waits for this address."""
        [letter] = [letter for letter in await self.collect() if letter["to"] == to]
        return link_in(letter)


def text_of(letter: EmailMessage) -> str:
    """Return the plain text of a mail."""
    part = letter.get_body(("plain",))
    assert part is not None
    text: str = part.get_content()
    return text


def link_in(letter: EmailMessage) -> Link:
    """Return the link in a mail."""
    match = re.search(r"/account/#/([a-z/]+)/([\w-]+)/([\w.-]+)", text_of(letter))
    assert match is not None, text_of(letter)
    return Link(*match.groups())
