"""How long links live, where they lead, and how a user is named in them."""

import base64
import binascii
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

LinkKind = Literal["activation", "password_reset", "username_reset", "email_change"]
NoticeKind = Literal["password_changed", "email_changed", "session_stolen"]

LINK_TTL: Mapping[LinkKind, timedelta] = {
    "activation": timedelta(hours=24),
    "password_reset": timedelta(minutes=30),
    "username_reset": timedelta(minutes=30),
    "email_change": timedelta(hours=24),
}
# The fragments that djoser's documentation gives its front ends. A fragment stays in the browser: tokens reach no log.
_PATHS: Mapping[LinkKind, str] = {
    "activation": "activate",
    "password_reset": "password/reset/confirm",
    "username_reset": "username/reset/confirm",
    "email_change": "email/change/confirm",
}


def link(base: str, kind: LinkKind, *, user_id: int, token: str) -> str:
    """Return the address to follow, below the public URL `base`."""
    return f"{base}/account/#/{_PATHS[kind]}/{encode_uid(user_id)}/{token}"


def encode_uid(user_id: int) -> str:
    """Return a user's id as links have it: its digits in base64url, as djoser's clients know it."""
    return base64.urlsafe_b64encode(str(user_id).encode()).rstrip(b"=").decode()


def decode_uid(uid: str) -> int | None:
    """Return the id in a link, or None where there is none."""
    uid = uid.strip().rstrip("=")  # as base64 is written elsewhere, djoser among it
    if not uid.isascii() or len(uid) > 30:
        return None
    try:
        digits = base64.b64decode(uid + "=" * (-len(uid) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    number = int(digits) if digits.isdigit() and len(digits) <= 18 else 0
    return number if number and encode_uid(number) == uid else None
