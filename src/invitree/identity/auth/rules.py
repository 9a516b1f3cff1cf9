"""How long tokens live and what may follow a refresh token."""

import enum
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

ACCESS_TTL = timedelta(minutes=5)
REFRESH_TTL = timedelta(days=30)
MAX_SESSIONS = 100  # of one user
REUSE_GRACE = timedelta(seconds=20)
_MOST_SKEW_S = 5


class AccessClaims(Struct, frozen=True, kw_only=True):
    """The claims of an access token: all required, exactly typed (RFC 7519; `pid` is the program's id)."""

    iss: Literal["invitree"]
    aud: Literal["invitree"]
    sub: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,17}$")]
    exp: int
    iat: int
    jti: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,17}\.")]
    typ: Literal["access"]
    pid: int

    @property
    def user_id(self) -> int:
        """Whose token it is."""
        return int(self.sub)

    @property
    def session_id(self) -> int:
        """The session that gave it out, which `jti` begins with."""
        return int(self.jti.partition(".")[0])


def access_claims(*, program_id: int, user_id: int, session_id: int, nonce: str, now: datetime) -> AccessClaims:
    """Return the claims of a new access token."""
    issued_at = int(now.timestamp())
    return AccessClaims(
        iss="invitree",
        aud="invitree",
        sub=str(user_id),
        exp=issued_at + int(ACCESS_TTL.total_seconds()),
        iat=issued_at,
        jti=f"{session_id}.{nonce}",
        typ="access",
        pid=program_id,
    )


def read_access_claims(claims: Any, *, now: datetime) -> AccessClaims | None:
    """Return signed claims as ours, or None where one is missing, mistyped, expired or from the future."""
    try:
        access = msgspec.convert(claims, AccessClaims)
    except msgspec.ValidationError:
        return None
    alive = access.iat - _MOST_SKEW_S <= now.timestamp() < access.exp <= access.iat + ACCESS_TTL.total_seconds()
    return access if alive and 0 < access.pid < 2**63 else None


class RefreshDecision(enum.StrEnum):
    """What to do with a refresh token that was presented."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    EXPIRED = "expired"
    STOLEN = "stolen"


def decide_refresh(
    *, expires_at: datetime, used_at: datetime | None, successor_unused: bool, now: datetime
) -> RefreshDecision:
    """Decide what a refresh token gets.

    One that was used is repeated within GRACE while its successor is unused: the client lost our answer. Otherwise two
    parties hold it, and nobody can tell which is the thief (RFC 9700, 4.14.2).
    """
    if used_at is None:
        return RefreshDecision.ROTATE if now < expires_at else RefreshDecision.EXPIRED
    return RefreshDecision.REPEAT if successor_unused and now < used_at + REUSE_GRACE else RefreshDecision.STOLEN
