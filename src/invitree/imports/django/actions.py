"""Importing the Django service's data."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from typing import get_args

from msgspec import Struct

from invitree.identity.programs.store import Program
from invitree.imports.django import store
from invitree.imports.django.rules import UNUSABLE, Arrival, DjangoData, Kind, Plan, Reason, SkippedRow, plan
from invitree.kit.data.db import Database, Queryable, Transaction
from invitree.kit.secrets.keys import Keyring
from invitree.kit.secrets.passwords import is_verifiable
from invitree.sharing.codes.actions import notify_code_gone

_USERS_A_TRANSACTION = 500


class KindCount(Struct):
    """How many rows of a kind were imported now, were imported by an earlier run, and were skipped."""

    imported: int = 0
    before: int = 0
    refused: int = 0


class Report(Struct):
    """The result of an import or a dry run."""

    counts: dict[Kind, KindCount]
    skipped_rows: list[SkippedRow]

    @property
    def has_imports(self) -> bool:
        """Whether there was anything to import."""
        return any(count.imported for count in self.counts.values())


Advance = Callable[[int, int], None]
_Begin = Callable[[], AbstractAsyncContextManager[Transaction]]


class _RolledBack(Exception):
    """Rolls back a dry run."""


async def import_django_data(
    db: Database, *, program: Program, source: str, data: DjangoData, keys: Keyring, dry_run: bool, advance: Advance
) -> Report:
    """Import the data of a file into a program, and return a report.

    `source` names the data: users imported from it before are not touched. A dry run does everything in one transaction
    and rolls it back. `advance` is called with the numbers of users done and in total.
    """
    now = await db.fetchval("SELECT clock_timestamp()")
    planned = plan(data, now=now, zone=program.zone, is_verifiable=is_verifiable)
    run = partial(_import, program_id=program.id, source=source, planned=planned, keys=keys, advance=advance)
    if not dry_run:
        report = await run(db.transaction)
        await _respell(db, program_id=program.id, source=source, arrivals=planned.arrivals)
        return report
    with suppress(_RolledBack):
        async with db.transaction() as tx:
            report = await run(lambda: nullcontext(tx))
            raise _RolledBack
    return report


async def _import(
    begin: _Begin, *, program_id: int, source: str, planned: Plan, keys: Keyring, advance: Advance
) -> Report:
    report = Report({kind: KindCount() for kind in get_args(Kind)}, [])
    _skip(report, planned.skipped_rows)
    for start in range(0, len(planned.arrivals), _USERS_A_TRANSACTION):
        batch = planned.arrivals[start : start + _USERS_A_TRANSACTION]
        named = {one.user.old_id for one in batch} | {one.referral.referrer_id for one in batch if one.referral}
        async with begin() as tx:
            await store.lock_import(tx, program_id=program_id)
            before = await store.find_imported(tx, program_id=program_id, source=source, old_ids=named)
            new = [arrival for arrival in batch if arrival.user.old_id not in before]
            written = await _write(tx, program_id, source, new, before, keys)
        _count_results(report, batch, before, written)
        advance(start + len(batch), len(planned.arrivals))
    return report


async def _respell(db: Database, *, program_id: int, source: str, arrivals: Sequence[Arrival]) -> None:
    """Restore the spelling of codes that an earlier version folded (O to 0, I and L to 1) on import."""
    for start in range(0, len(arrivals), _USERS_A_TRANSACTION):
        batch = arrivals[start : start + _USERS_A_TRANSACTION]
        async with db.transaction() as tx:
            await store.lock_import(tx, program_id=program_id)
            old_ids = {one.user.old_id for one in batch}
            ids = await store.find_imported(tx, program_id=program_id, source=source, old_ids=old_ids)
            codes = [(ids[one.user.old_id], code) for one in batch if one.user.old_id in ids for code in one.codes]
            for email_key in await store.respell_codes(tx, program_id=program_id, codes=codes):
                await notify_code_gone(tx, program_id=program_id, email_key=email_key)


class _Written(Struct, frozen=True, kw_only=True):
    """The ids of present users by their old ids, their new codes and sessions, and the addresses already taken."""

    ids: Mapping[int, int]
    codes: set[str]
    sessions: set[int]
    taken: set[str]


async def _write(
    tx: Queryable, program_id: int, source: str, new: Sequence[Arrival], before: Mapping[int, int], keys: Keyring
) -> _Written:
    """Write new users with their codes, tokens and referrals; `before` are those imported earlier."""
    users = [arrival.user for arrival in new]
    ids = {**before, **await store.insert_users(tx, program_id=program_id, source=source, users=users)}
    imported = [(ids[arrival.user.old_id], arrival) for arrival in new if arrival.user.old_id in ids]
    codes = [(user_id, code) for user_id, arrival in imported for code in arrival.codes]
    tokens = [
        (user_id, keys.hash(arrival.token.key), arrival.token.created_at)
        for user_id, arrival in imported
        if arrival.token
    ]
    referrals = [
        (ids[arrival.referral.referrer_id], user_id, arrival.referral.created_at)
        for user_id, arrival in imported
        if arrival.referral and arrival.referral.referrer_id in ids
    ]
    await store.insert_referrals(tx, program_id=program_id, referrals=referrals)
    others = [user.email.key for user in users if user.old_id not in ids]
    return _Written(
        ids=ids,
        codes=await store.insert_codes(tx, program_id=program_id, codes=codes),
        sessions=await store.insert_sessions(tx, program_id=program_id, tokens=tokens),
        taken=await store.find_taken_emails(tx, program_id=program_id, email_keys=others),
    )


def _count_results(report: Report, batch: Iterable[Arrival], before: Mapping[int, int], written: _Written) -> None:
    for arrival in batch:
        if arrival.user.old_id in before:
            for kind, _ in _rows_of(arrival):
                report.counts[kind].before += 1
            continue
        skipped_rows = list(_skipped_rows(arrival, written))
        _skip(report, skipped_rows)
        refused = {(row.kind, row.old_id) for row in skipped_rows}
        for kind, old_id in _rows_of(arrival):
            # A skipped user's password is not reported separately.
            if ("user" if kind == "password" else kind, old_id) not in refused:
                report.counts[kind].imported += 1


def _skip(report: Report, skipped_rows: Iterable[SkippedRow]) -> None:
    for row in skipped_rows:
        report.skipped_rows.append(row)
        report.counts[row.kind].refused += 1


def _rows_of(arrival: Arrival) -> Iterator[tuple[Kind, int]]:
    user = arrival.user
    yield "user", user.old_id
    if user.password_hash != UNUSABLE:
        yield "password", user.old_id
    for code in arrival.codes:
        yield "code", code.old_id
    if arrival.token:
        yield "token", user.old_id
    if arrival.referral:
        yield "referral", arrival.referral.old_id


def _skipped_rows(arrival: Arrival, written: _Written) -> Iterator[SkippedRow]:
    user, referral = arrival.user, arrival.referral
    user_id = written.ids.get(user.old_id)
    if user_id is None and user.email.key in written.taken:
        yield SkippedRow("user", user.old_id, Reason.EMAIL_TAKEN, user.email.typed)
    elif user_id is None:
        yield SkippedRow("user", user.old_id, Reason.USERNAME_TAKEN, user.username)
    for code in arrival.codes:
        if code.text not in written.codes:
            yield SkippedRow("code", code.old_id, Reason.CODE_TAKEN if user_id else Reason.REFUSED_USER, code.text)
    if arrival.token and user_id not in written.sessions:
        yield SkippedRow("token", user.old_id, Reason.KEY_TAKEN if user_id else Reason.REFUSED_USER)
    if referral and (user_id is None or referral.referrer_id not in written.ids):
        yield SkippedRow(
            "referral", referral.old_id, Reason.REFUSED_USER, f"{referral.referrer_id} brought {user.old_id}"
        )
