"""What the service promises, as plain dicts: no SQL, no cache, no race, and a time that is simply given."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

GRACE = timedelta(seconds=20)
ACCESS_LIFE, REFRESH_LIFE = timedelta(minutes=5), timedelta(days=30)
LONGEST_LIFE_DAYS = 366


class Refusal(NamedTuple):
    """A problem: its status, its code, and the complaints about fields."""

    status: int
    code: str
    fields: dict[str, list[str]]


def refusal(status: int, code: str, **fields: str) -> Refusal:
    """Return a problem with a complaint a field."""
    return Refusal(status, code, {name: [text] for name, text in fields.items()})


NOBODY = refusal(401, "unauthenticated")
NOT_FOUND = refusal(404, "not_found")
NO_CODE = refusal(404, "code_not_found")
CODE_ACTIVE = refusal(400, "code_active")
BAD_LOGIN = refusal(400, "invalid_credentials", non_field_errors="Unable to log in with provided credentials.")
NO_ACCOUNT = refusal(401, "no_active_account")
BAD_TOKEN = refusal(401, "token_not_valid")
WRONG_PASSWORD = refusal(400, "invalid_input", current_password="Invalid password.")
EMAIL_TAKEN = refusal(400, "invalid_input", email="A user with that email already exists.")
BOTH_TAKEN = refusal(
    400,
    "invalid_input",
    email="A user with that email already exists.",
    username="A user with that username already exists.",
)
USERNAME_TAKEN = refusal(400, "invalid_input", username="A user with that username already exists.")
DEAD_CODE = refusal(400, "invalid_input", referral_code="This referral code is not valid.")
TODAY_OR_BEFORE = refusal(400, "invalid_input", expiration_date="It must be later than today.")
NOW_OR_BEFORE = refusal(400, "invalid_input", expires_at="It must be in the future.")
DAY_TOO_FAR = refusal(400, "invalid_input", expiration_date="A code lives 366 days at most.")
INSTANT_TOO_FAR = refusal(400, "invalid_input", expires_at="A code lives 366 days at most.")


@dataclass
class User:
    """Somebody who signed up; `key` is the address as it is compared."""

    id: int
    email: str
    key: str
    username: str
    registered_at: datetime
    referrer: int | None = None
    is_staff: bool = False
    is_deleted: bool = False

    def own(self) -> dict[str, Any]:
        """Return what the user sees of the account."""
        return {"email": self.email, "id": self.id, "username": self.username}

    def seen(self, *, openly: bool) -> dict[str, Any]:
        """Return what others see at the other end of a referral, who may see addresses or not."""
        name, _, domain = self.key.partition("@")
        masked = f"{name[0]}***@{domain[0]}***.{domain.rpartition('.')[2]}"
        return {"email": self.email if openly else masked, "id": self.id, "registered_at": self.registered_at}


@dataclass
class Code:
    """A code that was minted."""

    owner: int
    expires_at: datetime
    ended_by: str = ""


@dataclass
class Session:
    """Somebody logged in."""

    user: int
    is_over: bool = False


@dataclass
class Refresh:
    """A refresh token."""

    session: Session
    expires_at: datetime
    used_at: datetime | None = None
    successor: str = ""


@dataclass
class Proof:
    """An `Authorization` header that was good once; that of an opaque token does not expire."""

    session: Session
    expires_at: datetime | None = None


@dataclass
class Model:
    """A program: who is in it, what they hold, and what time it is.

    What may be refused returns a Refusal, or what the answer is made of.
    """

    now: datetime
    zone: ZoneInfo
    users: dict[int, User] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    refreshes: dict[str, Refresh] = field(default_factory=dict)
    proofs: dict[str, Proof] = field(default_factory=dict)

    def living(self, **named: str) -> User | None:
        """Return the user who is not deleted and has this key or username."""
        for user in self.users.values():
            if not user.is_deleted and all(getattr(user, name) == value for name, value in named.items()):
                return user
        return None

    def caller(self, header: str) -> User | Refusal:
        """Return who a header speaks for."""
        verified = self.proofs[header]
        is_good = not verified.session.is_over and (verified.expires_at is None or self.now < verified.expires_at)
        return self.users[verified.session.user] if is_good else NOBODY

    def sign_up(self, new: User, *, code: str) -> User | Refusal:
        """Add somebody, who has an id from the service by then or is refused."""
        if self.living(key=new.key) and self.living(username=new.username):
            return BOTH_TAKEN
        if self.living(key=new.key):
            return EMAIL_TAKEN
        if self.living(username=new.username):
            return USERNAME_TAKEN
        if code and self.state(code) != "live":
            return DEAD_CODE
        new.referrer = self.codes[code].owner if code else None
        self.users[new.id] = new
        return new

    def begin(self, user: User, header: str, *, refresh: str = "") -> None:
        """Log a user in, with an opaque token or with a pair."""
        session = Session(user.id)
        self.proofs[header] = Proof(session, self.now + ACCESS_LIFE if refresh else None)
        if refresh:
            self.refreshes[refresh] = Refresh(session, self.now + REFRESH_LIFE)

    def is_unused(self, refresh: str) -> bool:
        """Return whether a refresh token is good for a new pair."""
        token = self.refreshes[refresh]
        return not token.session.is_over and token.used_at is None and self.now < token.expires_at

    def refresh(self, text: str) -> str | Refusal:
        """Return the successor that a refresh token has already, or "" for a new one. A stolen token ends it all."""
        token = self.refreshes[text]
        if self.is_unused(text):
            return ""
        if token.session.is_over or token.used_at is None:
            return BAD_TOKEN
        if self.refreshes[token.successor].used_at is None and self.now < token.used_at + GRACE:
            return token.successor
        token.session.is_over = True
        return BAD_TOKEN

    def follow(self, text: str, successor: str, header: str) -> None:
        """Put a pair behind a refresh token."""
        token = self.refreshes[text]
        if token.used_at is None:
            token.used_at, token.successor = self.now, successor
            self.refreshes[successor] = Refresh(token.session, self.now + REFRESH_LIFE)
        self.proofs[header] = Proof(token.session, self.now + ACCESS_LIFE)

    def log_out(self, header: str, *, everywhere: bool) -> User | Refusal:
        """End a caller's session, or all of them."""
        user = self.caller(header)
        if isinstance(user, User):
            self.proofs[header].session.is_over = True
            self._end_sessions(user if everywhere else None)
        return user

    def state(self, text: str) -> str:
        """Return whether a code is live, and else why not."""
        code = self.codes.get(text)
        if code is None:
            return "unknown"
        return code.ended_by or ("live" if self.now < code.expires_at else "expired")

    def live_code(self, user: User) -> str | Refusal:
        """Return a user's code."""
        texts = [text for text, code in self.codes.items() if code.owner == user.id and self.state(text) == "live"]
        assert len(texts) < 2
        return texts[0] if texts else NO_CODE

    def shown(self, text: str) -> dict[str, Any]:
        """Return a code as it is shown."""
        ends = self.codes[text].expires_at
        last_day = (ends - timedelta(microseconds=1)).astimezone(self.zone).date()
        return {"code": text, "expiration_date": last_day, "expires_at": ends}

    def end_of_day(self, days: int) -> tuple[date, datetime | Refusal]:
        """Return the day so many days from today, and when a code that is good through it dies."""
        last_day = self.now.astimezone(self.zone).date() + timedelta(days=days)
        midnight = datetime.combine(last_day + timedelta(days=1), time(), self.zone).astimezone(UTC)
        return last_day, TODAY_OR_BEFORE if days <= 0 else DAY_TOO_FAR if days > LONGEST_LIFE_DAYS else midnight

    def end_after(self, life: timedelta) -> tuple[datetime, datetime | Refusal]:
        """Return the instant that far from now, and when a code that is good until then dies."""
        ends = self.now + life
        is_far = life > timedelta(days=LONGEST_LIFE_DAYS)
        return ends, NOW_OR_BEFORE if life <= timedelta() else INSTANT_TOO_FAR if is_far else ends

    def mint(self, header: str, ends: datetime | Refusal, *, replace: bool) -> Code | Refusal:
        """Return the new code of a caller. The old one, replaced, is dead."""
        user = self.caller(header)
        if isinstance(user, Refusal) or isinstance(ends, Refusal):
            return user if isinstance(user, Refusal) else ends  # type: ignore[return-value]
        old = self.live_code(user)
        if isinstance(old, str) and not replace:
            return CODE_ACTIVE
        if isinstance(old, str):
            self.codes[old].ended_by = "replaced"
        return Code(user.id, ends)

    def own_code(self, header: str) -> str | Refusal:
        """Return a caller's code."""
        user = self.caller(header)
        return user if isinstance(user, Refusal) else self.live_code(user)

    def look_up(self, header: str, *, key: str) -> str | Refusal:
        """Return the code under an address."""
        caller, owner = self.caller(header), self.living(key=key)
        if isinstance(caller, Refusal):
            return caller
        return self.live_code(owner) if owner else NO_CODE

    def delete_code(self, header: str) -> str | Refusal:
        """End a caller's code."""
        code = self.own_code(header)
        if isinstance(code, str):
            self.codes[code].ended_by = "deleted"
        return code

    def leave(self, header: str) -> User | Refusal:
        """Delete a caller's account: a pseudonym is left of it."""
        user = self.caller(header)
        if isinstance(user, Refusal):
            return user
        self._end_sessions(user)
        for code in self.codes.values():
            if code.owner == user.id:
                code.ended_by = code.ended_by or "left"
        user.is_deleted, user.email = True, f"deleted-{user.id}@deleted.invalid"
        user.key, user.username = user.email, f"deleted {user.id}"
        return user

    def brought(self, header: str, *, actor: int) -> list[dict[str, Any]] | Refusal:
        """Return whom somebody brought, newest first, as a caller sees them."""
        caller = self.caller(header)
        if isinstance(caller, Refusal) or actor not in self.users:
            return caller if isinstance(caller, Refusal) else NOT_FOUND
        openly = caller.is_staff or caller.id == actor
        return [user.seen(openly=openly) for user in reversed(self.users.values()) if user.referrer == actor]

    def referrer(self, header: str, *, of: int) -> dict[str, Any] | Refusal:
        """Return who brought somebody, which staff and the user may know."""
        caller, user = self.caller(header), self.users.get(of)
        if isinstance(caller, Refusal):
            return caller
        if user is None or user.referrer is None or not (caller.is_staff or caller.id == of):
            return NOT_FOUND
        return self.users[user.referrer].seen(openly=caller.is_staff)

    def _end_sessions(self, user: User | None) -> None:
        for session in self._sessions():
            session.is_over = session.is_over or (user is not None and session.user == user.id)

    def _sessions(self) -> Iterator[Session]:
        yield from (verified.session for verified in self.proofs.values())
        yield from (token.session for token in self.refreshes.values())
