"""Rules for the import: which rows of the Django service can be imported, and what becomes of them."""

import enum
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from invitree.base.emails import Email, parse_email
from invitree.base.tokens import is_drf_token
from invitree.identity.users.rules import clean_username
from invitree.sharing.codes.rules import parse_code

UNUSABLE = "!"
_LAST_DAY = date(9998, 12, 31)  # "never" is stored as the last day of the calendar, to which no day can be added


class OldUser(Struct, frozen=True, kw_only=True):
    """A row of `auth_user`."""

    id: int
    username: str
    email: str
    password_hash: str
    is_active: bool
    is_staff: bool
    joined: str


class OldCode(Struct, frozen=True, kw_only=True):
    """A row of `stakewolle_referralcode`."""

    id: int
    user_id: int | None
    code: str
    ends: str
    is_active: bool


class OldToken(Struct, frozen=True, kw_only=True):
    """A row of `authtoken_token`."""

    user_id: int | None
    key: str
    created: str


class OldReferral(Struct, frozen=True, kw_only=True):
    """A row of `stakewolle_referralrelationship`."""

    id: int
    referrer_id: int | None
    referee_id: int | None
    created: str


class DjangoData(Struct, frozen=True, kw_only=True):
    """The relevant rows of the file, each table in the order of its ids."""

    users: Sequence[OldUser]
    codes: Sequence[OldCode]
    tokens: Sequence[OldToken]
    referrals: Sequence[OldReferral]


class Reason(enum.StrEnum):
    """Why a row is skipped."""

    BAD_EMAIL = "the e-mail address is missing or malformed"
    NO_EMAIL = "an administrator without an e-mail address: invitree user create --staff --email … makes one here"
    BAD_USERNAME = "the username is not one"
    SAME_EMAIL = "a user with a lower id has this e-mail address"
    SAME_USERNAME = "a user with a lower id has this username"
    EMAIL_TAKEN = "somebody else in the program has this e-mail address"
    USERNAME_TAKEN = "somebody else in the program has this username"
    UNVERIFIABLE = "no password matches its hash: it has to be reset"
    NO_SUCH_USER = "its user is not in the file"
    REFUSED_USER = "its user stays behind"
    BAD_CODE = "a code has letters and digits only, 64 at most"
    SAME_CODE = "a code with a lower id is the same"
    CODE_TAKEN = "the program has this code"
    SECOND_CODE = "its owner has a code that lives longer"
    NO_END = "its end cannot be read"
    BAD_KEY = "a token has 40 characters, digits and a to f"
    INACTIVE_OWNER = "its user is not active"
    KEY_TAKEN = "the program has this token"
    SECOND_REFERRER = "the referee has a referrer from a lower id"
    ONESELF = "nobody refers themselves"
    CIRCLE = "it would close a circle"


Kind = Literal["user", "password", "code", "token", "referral"]


class SkippedRow(Struct, frozen=True):
    """A row that is not imported: its id (that of its user, for passwords and tokens) and the reason."""

    kind: Kind
    old_id: int | None
    reason: Reason
    detail: str = ""


class Code(Struct, frozen=True, kw_only=True):
    """A code to import."""

    old_id: int
    text: str
    created_at: datetime
    expires_at: datetime
    is_revoked: bool


class Token(Struct, frozen=True, kw_only=True):
    """A token to import, which stays valid."""

    key: str
    created_at: datetime


class Referral(Struct, frozen=True, kw_only=True):
    """Who brought a user, and when."""

    old_id: int
    referrer_id: int
    created_at: datetime


class User(Struct, frozen=True, kw_only=True):
    """A user to import."""

    old_id: int
    email: Email
    username: str
    password_hash: str
    is_active: bool
    is_staff: bool
    created_at: datetime


class Arrival(Struct, frozen=True, kw_only=True):
    """A user to import with their codes, token and referral."""

    user: User
    codes: Sequence[Code]
    token: Token | None
    referral: Referral | None


class Plan(Struct, frozen=True):
    """The users to import, referrers before their referees, and the rows to skip."""

    arrivals: Sequence[Arrival]
    skipped_rows: Sequence[SkippedRow]


def plan(data: DjangoData, *, now: datetime, zone: ZoneInfo, is_verifiable: Callable[[str], bool]) -> Plan:
    """Decide what to import, as far as the file alone determines it. Deterministic for the same file."""
    skipped_rows: list[SkippedRow] = []
    users = _users(data.users, now, is_verifiable, skipped_rows)
    people = _People(in_file={row.id for row in data.users}, arriving=users)
    codes = _codes(data.codes, people, zone, skipped_rows)
    tokens = _tokens(data.tokens, people, now, skipped_rows)
    referrals = _referrals(data.referrals, people, now, skipped_rows)
    referrers = {referee: referral.referrer_id for referee, referral in referrals.items()}
    arrivals = [
        Arrival(user=users[key], codes=codes.get(key, ()), token=tokens.get(key), referral=referrals.get(key))
        for key in _order_by_referrer(users, referrers)
    ]
    return Plan(arrivals, skipped_rows)


def _users(
    rows: Iterable[OldUser], now: datetime, is_verifiable: Callable[[str], bool], skipped_rows: list[SkippedRow]
) -> dict[int, User]:
    users: dict[int, User] = {}
    emails: set[str] = set()
    usernames: set[str] = set()
    for row in rows:
        email, username = parse_email(row.email), clean_username(row.username)
        if email is None:
            # `createsuperuser` does not require an address; tell the operator what to do.
            is_without_email = row.is_staff and not row.email.strip()
            reason, shown = (Reason.NO_EMAIL, row.username) if is_without_email else (Reason.BAD_EMAIL, row.email)
            skipped_rows.append(SkippedRow("user", row.id, reason, shown))
        elif username is None:
            skipped_rows.append(SkippedRow("user", row.id, Reason.BAD_USERNAME, row.username))
        elif email.key in emails:
            skipped_rows.append(SkippedRow("user", row.id, Reason.SAME_EMAIL, row.email))
        elif username in usernames:
            skipped_rows.append(SkippedRow("user", row.id, Reason.SAME_USERNAME, row.username))
        else:
            emails.add(email.key)
            usernames.add(username)
            is_usable = is_verifiable(row.password_hash)
            if not is_usable:
                skipped_rows.append(SkippedRow("password", row.id, Reason.UNVERIFIABLE, row.username))
            users[row.id] = User(
                old_id=row.id,
                email=email,
                username=username,
                password_hash=row.password_hash if is_usable else UNUSABLE,
                is_active=row.is_active,
                is_staff=row.is_staff,
                created_at=_not_after_now(row.joined, now=now) or now,
            )
    return users


class _People(Struct, frozen=True, kw_only=True):
    """All users in the file, and those to import."""

    in_file: Collection[int]
    arriving: Mapping[int, User]

    def find(self, user_id: int | None) -> User | Reason:
        if user_id is None or user_id not in self.in_file:
            return Reason.NO_SUCH_USER
        return self.arriving.get(user_id, Reason.REFUSED_USER)


def _codes(
    rows: Iterable[OldCode], people: _People, zone: ZoneInfo, skipped_rows: list[SkippedRow]
) -> Mapping[int, Sequence[Code]]:
    """Return each user's codes: all revoked ones, and of the others the one that expires last."""
    codes: dict[int, dict[int, Code]] = defaultdict(dict)
    texts: set[str] = set()
    for row in rows:
        owner = people.find(row.user_id)
        code = owner if isinstance(owner, Reason) else _code(row, owner, zone)
        if isinstance(code, Reason):
            skipped_rows.append(SkippedRow("code", row.id, code, row.code))
        elif code.text in texts:
            skipped_rows.append(SkippedRow("code", row.id, Reason.SAME_CODE, row.code))
        else:
            texts.add(code.text)
            codes[row.user_id or 0][row.id] = code
    for own_codes in codes.values():
        live = sorted((code for code in own_codes.values() if not code.is_revoked), key=_expiry_order)
        for code in live[:-1]:
            skipped_rows.append(SkippedRow("code", code.old_id, Reason.SECOND_CODE, code.text))
            del own_codes[code.old_id]
    return {user_id: list(own_codes.values()) for user_id, own_codes in codes.items()}


def _code(row: OldCode, owner: User, zone: ZoneInfo) -> Code | Reason:
    text, end = parse_code(row.code), end_of(row.ends, zone=zone)
    if text is None:
        return Reason.BAD_CODE
    if end is None:
        return Reason.NO_END
    return Code(
        old_id=row.id,
        text=text,
        created_at=min(owner.created_at, end),
        expires_at=end,
        # In Invitree, deactivating a user revokes the code too.
        is_revoked=not (row.is_active and owner.is_active),
    )


def _expiry_order(code: Code) -> tuple[datetime, int]:
    return code.expires_at, -code.old_id


def _tokens(
    rows: Iterable[OldToken], people: _People, now: datetime, skipped_rows: list[SkippedRow]
) -> Mapping[int, Token]:
    tokens: dict[int, Token] = {}
    for row in rows:
        owner = people.find(row.user_id)
        token = owner if isinstance(owner, Reason) else _token(row, owner, now)
        if isinstance(token, Reason):
            # Without the key, which may still be valid for the old service.
            skipped_rows.append(SkippedRow("token", row.user_id, token))
        else:
            tokens[row.user_id or 0] = token
    return tokens


def _token(row: OldToken, owner: User, now: datetime) -> Token | Reason:
    if not is_drf_token(row.key):
        return Reason.BAD_KEY
    if not owner.is_active:
        return Reason.INACTIVE_OWNER
    return Token(key=row.key, created_at=_not_after_now(row.created, now=now) or owner.created_at)


def _referrals(
    rows: Iterable[OldReferral], people: _People, now: datetime, skipped_rows: list[SkippedRow]
) -> Mapping[int, Referral]:
    """Return the referral of each referee; together they form a forest."""
    referrals: dict[int, Referral] = {}
    trees = _Trees()
    for row in rows:
        referrer, referee = people.find(row.referrer_id), people.find(row.referee_id)
        reason: Reason | None = None
        if isinstance(referrer, Reason):
            reason = referrer
        elif isinstance(referee, Reason):
            reason = referee
        elif referrer is referee:
            reason = Reason.ONESELF
        elif referee.old_id in referrals:
            reason = Reason.SECOND_REFERRER
        elif not trees.join(referrer.old_id, referee.old_id):
            reason = Reason.CIRCLE
        else:
            referrals[referee.old_id] = Referral(
                old_id=row.id,
                referrer_id=referrer.old_id,
                created_at=_not_after_now(row.created, now=now) or referee.created_at,
            )
        if reason:
            skipped_rows.append(SkippedRow("referral", row.id, reason, f"{row.referrer_id} brought {row.referee_id}"))
    return referrals


class _Trees:
    """Connected users (union-find with path halving)."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def join(self, one: int, other: int) -> bool:
        """Join the trees of two users; return False if they are in the same tree already."""
        one, other = self._root(one), self._root(other)
        self._parents[other] = one
        return one != other

    def _root(self, user: int) -> int:
        while (parent := self._parents.get(user, user)) != user:
            self._parents[user] = self._parents.get(parent, parent)
            user = parent
        return user


def _order_by_referrer(users: Iterable[int], referrers: Mapping[int, int]) -> Iterable[int]:
    """Yield every user after their referrer, otherwise in the given order."""
    seen: set[int] = set()
    for user in users:
        chain: list[int] = []
        current: int | None = user
        while current is not None and current not in seen:
            seen.add(current)
            chain.append(current)
            current = referrers.get(current)
        yield from reversed(chain)


def end_of(text: str, *, zone: ZoneInfo) -> datetime | None:
    """Return when a code expires: at the end of a day in the program's time zone, or at an instant."""
    try:
        last_day = min(date.fromisoformat(text), _LAST_DAY)
        return datetime.combine(last_day + timedelta(days=1), time(), zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return moment_of(text)


def moment_of(text: str) -> datetime | None:
    """Parse a datetime as Django writes it into SQLite, in UTC unless it has an offset; return None if invalid."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _not_after_now(text: str, *, now: datetime) -> datetime | None:
    # Imported rows must not be newer than later ones, even if the old service's clock was wrong.
    moment = moment_of(text)
    return moment and min(moment, now)
