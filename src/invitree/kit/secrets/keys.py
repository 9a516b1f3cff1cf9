"""Secrets: what signs access tokens and hashes the opaque ones."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

_HEADER = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"  # {"alg":"HS256","typ":"JWT"}
_LONGEST_JWT = 4096  # ours are under 400 bytes; anything long is not worth parsing


class Keyring:
    """The service's secrets, first the one that signs; all verify, so that a secret can be replaced without a cut.

    Each purpose has a key of its own, derived with HMAC-SHA256, so that no token of one kind says anything of another.
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
        """Return the claims of a JWT that one of the keys signed, or None. The claims themselves are not checked.

        The header must be the one that `sign` writes, to the byte: what it says is never followed, so none of what it
        could say (another algorithm, a key of its own, …) can mean anything.
        """
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        if header != _HEADER or len(token) > _LONGEST_JWT:
            return None
        for key in self._signing:
            if hmac.compare_digest(_text(_mac(key, signed)).encode(), signature.encode("utf-8", "surrogatepass")):
                return _claims(payload)
        return None

    def hash(self, token: str) -> bytes:
        """Return what is stored of a new opaque token: 32 bytes."""
        return _mac(self._hashing[0], token)

    def hashes(self, token: str) -> list[bytes]:
        """Return what may be stored of an opaque token, under each key."""
        return [_mac(key, token) for key in self._hashing]

    def successors(self, token: str) -> list[str]:
        """Return what may follow a refresh token, under each key, first the one to use now.

        Derived rather than random: a client whose answer was lost can be given the same successor again, though only
        its hash is stored.
        """
        return [_text(_mac(key, token)) for key in self._rotating]

    def links(self, nonce: str) -> list[str]:
        """Return the token of a link in a mail, under each key, first the one to use now.

        Derived, so that neither the database nor the queue of mails holds what would open an account, and a mail that
        is sent again has the same link.
        """
        return [_text(_mac(key, nonce)) for key in self._linking]

    def fingerprint(self, text: str) -> bytes:
        """Return 16 bytes that stand for a text, to count by: of addresses nothing else is to be kept."""
        return _mac(self._counting, text)[:16]


def new_token() -> str:
    """Return 256 random bits as text."""
    return _text(secrets.token_bytes(32))


def _claims(payload: str) -> Any:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):  # signed with our key, and not by us
        return None


def _derive(secret: str, purpose: bytes) -> bytes:
    return hmac.digest(secret.encode(), b"invitree " + purpose, hashlib.sha256)


def _mac(key: bytes, token: str) -> bytes:
    return hmac.digest(key, token.encode("utf-8", "surrogatepass"), hashlib.sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
