"""Keys derived from the secret: for signing access tokens and hashing opaque ones."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

_HEADER = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"  # {"alg":"HS256","typ":"JWT"}
_MAX_JWT_LENGTH = 4096  # ours are under 400 bytes; anything long is not worth parsing


class Keyring:
    """The secret keys: the first signs and all verify, so that a secret can be rotated without logging anybody out.

    Each purpose has its own key, derived with HMAC-SHA256, so that a token of one kind reveals nothing about others.
    """

    def __init__(self, secret_keys: Sequence[str]) -> None:
        self._signing = [_derive(key, b"access token") for key in secret_keys]
        self._hashing = [_derive(key, b"opaque token") for key in secret_keys]
        self._linking = [_derive(key, b"mail link") for key in secret_keys]
        self._counting = _derive(secret_keys[0], b"throttle")
        self._rotating = [_derive(key, b"refresh successor") for key in secret_keys]

    def sign(self, claims: Any) -> str:
        """Return a JWT with these claims (RFC 7519; a JWS in compact form, RFC 7515)."""
        signed = f"{_HEADER}.{_text(msgspec.json.encode(claims))}"
        return f"{signed}.{_text(_mac(self._signing[0], signed))}"

    def verify(self, token: str) -> Any:
        """Return the claims of a JWT signed by one of the keys, or None. The claims themselves are not checked.

        The header must be identical to the one `sign` writes and is never interpreted, which rules out attacks by it
        (another algorithm, an embedded key, …).
        """
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        if header != _HEADER or len(token) > _MAX_JWT_LENGTH:
            return None
        for key in self._signing:
            if hmac.compare_digest(_text(_mac(key, signed)).encode(), signature.encode("utf-8", "surrogatepass")):
                return _claims(payload)
        return None

    def hash(self, token: str) -> bytes:
        """Return the hash to store for a new opaque token: 32 bytes."""
        return _mac(self._hashing[0], token)

    def hashes(self, token: str) -> list[bytes]:
        """Return the hashes under which an opaque token may be stored, one for each key."""
        return [_mac(key, token) for key in self._hashing]

    def successors(self, token: str) -> list[str]:
        """Return the possible successors of a refresh token, one for each key; the first is the one to issue.

        Derived rather than random: a client that lost the response can get the same successor again, although only its
        hash is stored.
        """
        return [_text(_mac(key, token)) for key in self._rotating]

    def links(self, nonce: str) -> list[str]:
        """Return the possible tokens of an email link, one for each key; the first is the one to issue.

        Derived rather than stored: neither the database nor the job queue contains a usable token, and a resent email
        has the same link.
        """
        return [_text(_mac(key, nonce)) for key in self._linking]

    def fingerprint(self, text: str) -> bytes:
        """Return a 16-byte keyed hash of a rate-limit key: addresses are not stored in clear."""
        return _mac(self._counting, text)[:16]


def new_token() -> str:
    """Return 256 random bits as text."""
    return _text(secrets.token_bytes(32))


def _claims(payload: str) -> Any:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):  # signed with our key, but not by us
        return None


def _derive(secret: str, purpose: bytes) -> bytes:
    return hmac.digest(secret.encode(), b"invitree " + purpose, hashlib.sha256)


def _mac(key: bytes, token: str) -> bytes:
    return hmac.digest(key, token.encode("utf-8", "surrogatepass"), hashlib.sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
