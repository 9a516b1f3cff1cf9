"""What every function of every store is asked in a full database: mostly about Ann, or about whoever has the most."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar.connection import ASGIConnection

from invitree.base.emails import parse_email
from invitree.base.problems import TooManyRequests
from invitree.identity.audit.store import OPERATOR
from invitree.identity.idempotency.store import Answer
from invitree.imports.django import rules as seed
from invitree.kit.limits.local_rate_limiter import LocalRateLimiter
from invitree.kit.limits.rate_limiter import RateLimiter, limit
from invitree.kit.secrets.keys import Keyring
from tests.structure.crowd import ANN, BUSY, HOME, PEOPLE

Arguments = Mapping[str, Any]
_NOW = datetime.now(UTC)
_HOUR = timedelta(hours=1)
_EMAIL = parse_email("new@example.com")
assert _EMAIL is not None


def _hash(number: int) -> bytes:
    return number.to_bytes(8, "big", signed=True)


# What most are asked with, by the names of parameters.
USUAL: Arguments = {
    "program_id": HOME,
    "user_id": ANN,
    "but": ANN,
    "email_key": f"user{ANN}@example.com",
    "username": f"user{ANN}",
    "slug": "second",
    "host": "second.example.com",
    "code": f"NEW{ANN}",
    "code_id": ANN,
    "session_id": ANN,
    "token_id": PEOPLE + ANN,
    "key_hash": _hash(ANN),
    "hashes": [_hash(ANN), _hash(10**9)],
    "token_hash": _hash(10**9),
    "password_hash": f"$argon2id${ANN}",
    "old_hash": f"$argon2id${ANN}",
    "new_hash": "!",
    "ip_prefix": "",
    "created_at": _NOW,
    "expires_at": _NOW + _HOUR,
    "ttl": _HOUR,
    "before": 2**53,
    "after": 0,
    "limit": 21,
    "source": "seed",
    "job": "send_mail",
    "actor": OPERATOR,
}
_POLICY = {
    "time_zone": "UTC",
    "code_length": 10,
    "longest_code_life_days": 9,
    "referral_list": "masked",
    "activation": "off",
    "origins": ["https://app.example.com"],
}
_COME = seed.User(
    old_id=10**9, email=_EMAIL, username="new", password_hash="!", is_active=True, is_staff=False, created_at=_NOW
)
_CODE = seed.Code(old_id=1, text="FRESH", created_at=_NOW, expires_at=_NOW + _HOUR, is_revoked=False)
_BATCH = range(ANN, ANN + 25)

# What of it is not usual. A function without a row fails the test.
ROWS: Mapping[str, Arguments] = {
    "programs.find_program": {},
    "programs.find_program_by_slug": {},
    "programs.find_program_of_host": {},
    "programs.insert_program": {"slug": "fourth"},
    "programs.list_origins": {},
    "programs.list_program_ids": {},
    "programs.lock_program": {},
    "programs.update_program": _POLICY,
    "audit.occurred_within_hour": {"user_id": BUSY, "kind": "refresh_token.reused"},
    "audit.insert_event": {"kind": "code.created"},
    "audit.has_logged_in_from": {"user_id": BUSY, "ip_prefix": "203.0.113.0/24"},
    "audit.list_events": {"user_id": BUSY},
    "email.start_expiry": {},
    "email.delete_expired_tokens": {"most": 50},
    "email.delete_unused_tokens": {},
    "email.find_recipient": {},
    "email.find_recipient_by_email": {},
    "email.find_token": {"kind": "activation"},
    "email.erase_person": {},
    "email.insert_token": {"kind": "activation", "new_email": None},
    "email.use_token": {"token_id": ANN},
    "idempotency.delete_answers_about": {},
    "idempotency.delete_old_answers": {"most": 50},
    "idempotency.find_answer": {},
    "idempotency.insert_answer": {"key_hash": _hash(-1), "answer": Answer(_hash(1), 201, b"{}")},
    "idempotency.lock_key": {},
    "auth.delete_ended_sessions": {"most": 50},
    "auth.delete_family": {},
    "auth.delete_session": {},
    "auth.delete_sessions": {},
    "auth.find_session": {},
    "auth.find_session_by_token": {},
    "auth.find_refresh_token": {},
    "auth.insert_refresh_token": {"session_id": BUSY, "parent_id": None},
    "auth.insert_session": {"device": "", "password_hash": "!"},
    "auth.list_sessions": {"user_id": BUSY, "after": None},
    "auth.has_more_sessions": {"user_id": BUSY, "most": 100},
    "auth.delete_idlest_sessions": {"user_id": BUSY, "most": 100},
    "auth.lock_family": {},
    "auth.touch_session": {},
    "auth.use_refresh_token": {},
    "users.activate": {},
    "users.deactivate": {},
    "users.find_login_candidate": {},
    "users.find_login_candidate_by_both": {},
    "users.find_login_candidate_by_email": {},
    "users.find_login_candidate_by_username": {},
    "users.find_taken": {},
    "users.find_user": {},
    "users.lock_password": {},
    "users.insert_user": {
        "email": _EMAIL,
        "username": "new",
        "is_staff": False,
        "is_active": True,
        "is_confirmed": False,
        "quietly": True,
    },
    "users.is_email_taken": {},
    "users.list_users": {},
    "users.lock_account": {},
    "users.pseudonymize": {},
    "users.reactivate": {},
    "users.replace_hash": {},
    "users.reset_password": {},
    "users.update_email": {"email": _EMAIL},
    "users.update_username": {"username": "new"},
    "codes.find_active_code": {},
    "codes.find_active_code_by_text": {},
    "codes.find_own_code": {},
    "codes.insert_code": {"user_id": 4, "code": "FRESH"},
    "codes.lock_code": {},
    "codes.lock_owner": {},
    "codes.revoke": {},
    "codes.revoke_expired": {},
    "referrals.find_referrer": {"referee_id": ANN},
    "referrals.insert_referral": {"referrer_id": ANN, "referee_id": BUSY},
    "referrals.is_member": {},
    "referrals.list_referrals": {"referrer_id": BUSY},
    "django.find_imported": {"old_ids": list(_BATCH)},
    "django.find_taken_emails": {"email_keys": [f"user{n}@example.com" for n in _BATCH]},
    "django.insert_codes": {"codes": [(4, _CODE)]},
    "django.insert_referrals": {"referrals": [(ANN, BUSY, _NOW)]},
    "django.insert_sessions": {"tokens": [(ANN, _hash(10**9), _NOW)]},
    "django.respell_codes": {"codes": [(n, _CODE) for n in _BATCH]},
    "django.insert_users": {"users": [_COME]},
    "django.lock_import": {},
    "jobs.cap_future_times": {"longest_delay": _HOUR},
    "jobs.delete_given_up_jobs": {"older_than": timedelta(days=400)},
    "jobs.backlog": {},
    "jobs.enqueue": {"payload": {}},
    "jobs.prune_job_log": {"older_than": timedelta(hours=166.5)},
    "jobs.has_worker": {},
    "jobs.list_jobs": {"failed": False},
    "jobs.retry_jobs": {"ids": list(range(20, 100, 20))},
    "notifications.notify": {"topic": "codes", "payload": None},
}


_REQUEST: ASGIConnection[Any, Any, Any, Any] = ASGIConnection({"type": "http"})  # type: ignore[arg-type]
_LIMITS = (limit("lookup", "10/5m", "ann"), limit("check", "1/5m", "ann"))


def _throttle(db: Any) -> RateLimiter:
    return RateLimiter(db, Keyring(["any"]), on=True)


async def _charge(db: Any) -> None:
    await _throttle(db).charge(_REQUEST, HOME, *_LIMITS)
    with suppress(TooManyRequests):
        await _throttle(db).charge(_REQUEST, HOME, *_LIMITS)


async def _add_up(db: Any) -> None:
    tally = LocalRateLimiter(db, Keyring(["any"]), on=True)
    tally.count({}, HOME, *_LIMITS)
    await tally.sync()


# What limits ask, the refusal too.
COUNTING: Mapping[str, Callable[[Any], Awaitable[None]]] = {
    "rate_limiter.charge": _charge,
    "rate_limiter.clear": lambda db: _throttle(db).clear(_REQUEST, HOME, _LIMITS[0]),
    "rate_limiter.purge": lambda db: _throttle(db).purge(HOME),
    "rate_limiter.refund": lambda db: _throttle(db).refund(HOME, *_LIMITS),
    "local_rate_limiter.sync": _add_up,
}
