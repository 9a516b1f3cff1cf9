"""Password hashes as other systems make them."""

import base64
import hashlib
from itertools import count

import argon2

_salts = count(1)


def pbkdf2(password: str, *, iterations: int = 1000, salt: str = "") -> str:
    """Return a hash as Django 3.1 to 6.0 writes it."""
    salt = salt or f"Salt{next(_salts)}"
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), iterations)
    return f"pbkdf2_sha256${iterations}${salt}${base64.b64encode(digest).decode()}"


def phc(password: str, *, kib: int = 1024, passes: int = 2, lanes: int = 8) -> str:
    """Return an argon2id hash with parameters that are not ours, as argon2 writes it."""
    return argon2.PasswordHasher(time_cost=passes, memory_cost=kib, parallelism=lanes).hash(password)
