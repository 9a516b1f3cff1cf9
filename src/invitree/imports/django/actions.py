"""Carrying the Django service's data over."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from typing import get_args

from msgspec import Struct

from invitree.identity.programs.store import Program
from invitree.imports.django import store
from invitree.imports.django.rules import UNUSABLE, Arrival, Kind, Plan, Reason, Seed, SkippedRow, plan
from invitree.kit.data.db import Database, Queryable, Transaction
from invitree.kit.secrets.keys import Keyring
from invitree.kit.secrets.passwords import is_verifiable
from invitree.sharing.codes.actions import notify_code_gone

_USERS_A_TRANSACTION = 500


class KindCount(Struct):
    """How many of a kind came, had come with their users in an earlier run, and stay behind."""

    imported: int = 0
    before: int = 0
    refused: int = 0


class Report(Struct):
    """What an import did, or would do."""

    tallies: dict[Kind, KindCount]
    refusals: list[SkippedRow]

    @property
    def is_news(self) -> bool:
        """Whether anything was there to be imported."""
        return any(tally.imported for tally in self.tallies.values())


Advance = Callable[[int, int], None]
_Begin = Callable[[], AbstractAsyncContextManager[Transaction]]


class _RolledBack(Exception):
    """Takes a dry run back."""


async def import_seed(
    db: Database, *, program: Program, source: str, seed: Seed, keys: Keyring, dry_run: bool, advance: Advance
) -> Report:
    """Carry a seed over into a program, and return what came of it.

    `source` names the file's data: who has come from it is not touched again. A dry run does it all in one transaction
    and takes it back. `advance` is told how many users are done, of how many.
    """
    now = await db.fetchval("SELECT clock_timestamp()")
    planned = plan(seed, now=now, zone=program.zone, is_verifiable=is_verifiable)
    carry = partial(_carry, program_id=program.id, source=source, planned=planned, keys=keys, advance=advance)
    if not dry_run:
        report = await carry(db.transaction)
        await _respell(db, program_id=program.id, source=source, arrivals=planned.arrivals)
        return report
    with suppress(_RolledBack):
        async with db.transaction() as tx:
            report = await carry(lambda: nullcontext(tx))
            raise _RolledBack
    return report


async def _carry(
    begin: _Begin, *, program_id: int, source: str, planned: Plan, keys: Keyring, advance: Advance
) -> Report:
    report = Report({kind: KindCount() for kind in get_args(Kind)}, [])
    _refuse(report, planned.refusals)
    for start in range(0, len(planned.arrivals), _USERS_A_TRANSACTION):
        batch = planned.arrivals[start : start + _USERS_A_TRANSACTION]
        named = {one.user.old_id for one in batch} | {one.referral.referrer_id for one in batch if one.referral}
        async with begin() as tx:
            await store.lock_import(tx, program_id=program_id)
            before = await store.find_imported(tx, program_id=program_id, source=source, old_ids=named)
            new = [arrival for arrival in batch if arrival.user.old_id not in before]
            written = await _write(tx, program_id, source, new, before, keys)
        _tell(report, batch, before, written)
        advance(start + len(batch), len(planned.arrivals))
    return report


async def _respell(db: Database, *, program_id: int, source: str, arrivals: Sequence[Arrival]) -> None:
    """Give codes their spelling back that an earlier version has folded (O to 0, I and L to 1) as it imported them."""
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
    """Who is there now, by the old ids, what of theirs was new, and which addresses were not free."""

    ids: Mapping[int, int]
    codes: set[str]
    sessions: set[int]
    taken: set[str]


async def _write(
    tx: Queryable, program_id: int, source: str, new: Sequence[Arrival], before: Mapping[int, int], keys: Keyring
) -> _Written:
    """Write new users and what is theirs, given who has come before."""
    users = [arrival.user for arrival in new]
    ids = {**before, **await store.insert_users(tx, program_id=program_id, source=source, users=users)}
    came = [(ids[arrival.user.old_id], arrival) for arrival in new if arrival.user.old_id in ids]
    codes = [(user_id, code) for user_id, arrival in came for code in arrival.codes]
    tokens = [
        (user_id, keys.hash(arrival.token.key), arrival.token.created_at) for user_id, arrival in came if arrival.token
    ]
    referrals = [
        (ids[arrival.referral.referrer_id], user_id, arrival.referral.created_at)
        for user_id, arrival in came
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


def _tell(report: Report, batch: Iterable[Arrival], before: Mapping[int, int], written: _Written) -> None:
    for arrival in batch:
        if arrival.user.old_id in before:
            for kind, _ in _things(arrival):
                report.tallies[kind].before += 1
            continue
        refusals = list(_refusals(arrival, written))
        _refuse(report, refusals)
        refused = {(refusal.kind, refusal.old_id) for refusal in refusals}
        for kind, old_id in _things(arrival):
            # A password has no refusal of its own where its user stays behind.
            if ("user" if kind == "password" else kind, old_id) not in refused:
                report.tallies[kind].imported += 1


def _refuse(report: Report, refusals: Iterable[SkippedRow]) -> None:
    for refusal in refusals:
        report.refusals.append(refusal)
        report.tallies[refusal.kind].refused += 1


def _things(arrival: Arrival) -> Iterator[tuple[Kind, int]]:
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


def _refusals(arrival: Arrival, written: _Written) -> Iterator[SkippedRow]:
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
