"""Django's password hashes, except argon2 (`django.contrib.auth.hashers`, Django 1.4 to 6.0).

The formats are `pbkdf2_sha256$<iterations>$<salt>$<base64>` (or `pbkdf2_sha1`), `scrypt$<N>$<salt>$<r>$<p>$<base64>`,
and `bcrypt_sha256$$2b$<rounds>$<salt and hash>`, which is a bcrypt of the SHA-256 in hexadecimal.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import NamedTuple

# Limits on the cost of verifying a hash, about 1.5 s. Django 6.0 uses 1,200,000 iterations of pbkdf2.
_MAX_ITERATIONS = 5_000_000
_MAX_SCRYPT = 1 << 22  # N * r * p; Django's default is a sixth of that
_MAX_SCRYPT_BYTES = 64 << 20
_MAX_ROUNDS = 14  # the exponent of 2; Django's default is 12
_MAX_LENGTH = 512
_SALT = r"([^$\x00\ud800-\udfff]+)"
_BASE64 = r"([A-Za-z0-9+/]+={0,2})"
_PBKDF2 = re.compile(rf"pbkdf2_(sha256|sha1)\$([1-9][0-9]{{0,6}})\${_SALT}\${_BASE64}")
_SCRYPT = re.compile(rf"scrypt\$([1-9][0-9]{{0,7}})\${_SALT}\$([1-9][0-9]?)\$([1-9][0-9]?)\${_BASE64}")
_BCRYPT = re.compile(r"bcrypt_sha256\$(\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{22})[./A-Za-z0-9]{31}")


class DjangoHash(NamedTuple):
    """A well-formed hash that is not too expensive to verify."""

    scheme: str
    derive: Callable[[bytes, int], bytes]
    """Computes the digest, with the given number of iterations if the scheme has them."""
    iterations: int
    digest: bytes

    def matches(self, password: bytes) -> bool:
        """Return whether the password matches."""
        return hmac.compare_digest(self.derive(password, self.iterations), self.digest)

    def waste(self, password: bytes, *, after: "DjangoHash | None") -> None:
        """Take as long as a failed check of this hash, less the time already spent on a failed check of `after`."""
        # Django raises its iterations with every version, so they differ among hashes of one scheme.
        missing = self.iterations - (after.iterations if after and after.scheme == self.scheme else 0)
        if missing > 0:
            self.derive(password, missing)


def read_django_hash(text: str) -> DjangoHash | None:
    """Parse a hash; return None if it is malformed or too expensive to verify."""
    if len(text) > _MAX_LENGTH:
        return None
    scheme = text.partition("$")[0]
    try:
        return _READERS[scheme](text) if scheme in _READERS else None
    except binascii.Error:
        return None


def _read_pbkdf2(text: str) -> DjangoHash | None:
    match = _PBKDF2.fullmatch(text)
    if match is None or int(match[2]) > _MAX_ITERATIONS:
        return None
    name, salt, digest = match[1], match[3].encode(), base64.b64decode(match[4], validate=True)

    def derive(password: bytes, iterations: int) -> bytes:
        return hashlib.pbkdf2_hmac(name, password, salt, iterations)

    size = hashlib.new(name).digest_size
    return DjangoHash(f"pbkdf2_{name}", derive, int(match[2]), digest) if len(digest) == size else None


def _read_scrypt(text: str) -> DjangoHash | None:
    match = _SCRYPT.fullmatch(text)
    if match is None:
        return None
    n, r, p = int(match[1]), int(match[3]), int(match[4])
    salt, digest = match[2].encode(), base64.b64decode(match[5], validate=True)
    if n < 2 or n & (n - 1) or n * r * p > _MAX_SCRYPT or 128 * n * r > _MAX_SCRYPT_BYTES or len(digest) != 64:
        return None

    def derive(password: bytes, _: int) -> bytes:
        return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=2 * _MAX_SCRYPT_BYTES, dklen=64)

    return DjangoHash("scrypt", derive, 1, digest)


def _read_bcrypt(text: str) -> DjangoHash | None:
    match = _BCRYPT.fullmatch(text)
    if match is None or not 4 <= int(match[2]) <= _MAX_ROUNDS:
        return None
    salt = match[1].encode()

    def derive(password: bytes, _: int) -> bytes:
        import bcrypt  # rarely needed

        return bcrypt.hashpw(hashlib.sha256(password).hexdigest().encode(), salt)

    return DjangoHash("bcrypt_sha256", derive, 1, text.removeprefix("bcrypt_sha256$").encode())


_READERS: dict[str, Callable[[str], DjangoHash | None]] = {
    "pbkdf2_sha256": _read_pbkdf2,
    "pbkdf2_sha1": _read_pbkdf2,
    "scrypt": _read_scrypt,
    "bcrypt_sha256": _read_bcrypt,
}
SCHEMES = tuple(_READERS)
"""The prefixes of these hashes, up to the first `$`."""
