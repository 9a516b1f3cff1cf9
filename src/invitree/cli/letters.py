"""Letters that wait or were given up."""

from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from invitree.cli.common import DataDir, Refusal, settings_of, with_database
from invitree.kit.db import Database

mail = App(name="mail", help="Look after letters that wait or were given up.")


@mail.command(name="list")
def list_mail(
    *,
    failed: Annotated[bool, Parameter(negative="--all", help="Only those given up, or all.")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="For programs.")] = False,
    data_dir: DataDir = None,
) -> None:
    """List the letters that wait or were given up."""
    from invitree.kit.jobs import list_jobs
    from invitree.mails.actions import JOB

    jobs = with_database(settings_of(data_dir=data_dir), lambda opened: list_jobs(opened, job=JOB, failed=failed))
    letters = [_described(job) for job in jobs]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(letters)).decode())
        return
    rows = [list(letter) for letter in letters[:1]] + [[str(it or "") for it in row.values()] for row in letters]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if not rows:
        print("No letter was given up." if failed else "No letter waits.")
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def _described(job: Any) -> dict[str, object]:
    from invitree.base.emails import masked, parse_email

    said = msgspec.json.decode(job.payload)
    address = parse_email(said.get("to") or said.get("email_key") or "")
    times = {"since": job.created_at, "next": job.next_at}
    return {
        "id": job.id,
        "kind": said.get("kind", ""),
        "to": masked(address.key) if address else f"user {said.get('user_id')}",
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
    from invitree.kit.jobs import list_jobs, retry_jobs
    from invitree.mails.actions import JOB

    if every == bool(ids):
        raise Refusal("name letters that were given up, or all of them by --all; see invitree mail list --failed")

    async def retry(opened: Database) -> list[int]:
        known = {job.id: job.status for job in await list_jobs(opened, job=JOB)}
        for number in ids or ():
            if number not in known:
                raise Refusal(f"there is no letter {number}; it may have been sent")
            if known[number] != "failed":
                raise Refusal(f"letter {number} was not given up: it is {known[number]}")
        return await retry_jobs(opened, ids=ids or [number for number, status in known.items() if status == "failed"])

    again = with_database(settings_of(data_dir=data_dir), retry)
    print(f"Queued again: {', '.join(map(str, again))}." if again else "Nothing to do: no letter was given up.")
