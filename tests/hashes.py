"""Password hashes as other systems make them, and a hasher that is busy."""

import asyncio
import base64
import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import argon2
from django.contrib.auth import hashers

from invitree.kit.secrets.passwords import Hasher

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Ours at the least cost that there is: a hash in microseconds instead of 19 ms."""

_salts = count(1)


def pbkdf2(password: str, *, iterations: int = 1000, salt: str = "") -> str:
    """Return a hash as Django 3.1 to 6.0 writes it."""
    salt = salt or f"Salt{next(_salts)}"
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), iterations)
    return f"pbkdf2_sha256${iterations}${salt}${base64.b64encode(digest).decode()}"


def by_django(scheme: str, password: str) -> str:
    """Return a hash that Django itself has made, at little cost."""
    hasher = {
        "pbkdf2_sha256": hashers.PBKDF2PasswordHasher,
        "pbkdf2_sha1": hashers.PBKDF2SHA1PasswordHasher,
        "scrypt": hashers.ScryptPasswordHasher,
        "bcrypt_sha256": hashers.BCryptSHA256PasswordHasher,
        "argon2": hashers.Argon2PasswordHasher,
    }[scheme]()
    hasher.iterations, hasher.work_factor, hasher.rounds, hasher.memory_cost = 1000, 2**10, 4, 1024
    made: str = hasher.encode(password, hasher.salt())
    return made


def phc(password: str, *, kib: int = 1024, passes: int = 2, lanes: int = 8) -> str:
    """Return an argon2id hash with parameters that are not ours, as argon2 writes it."""
    return argon2.PasswordHasher(time_cost=passes, memory_cost=kib, parallelism=lanes).hash(password)


@asynccontextmanager
async def busy(hasher: Hasher, *, waiting: int | None = None, lane: str = "127.0.0.1") -> AsyncIterator[None]:
    """Keep every thread of a hasher busy, with so many requests of one network in line: as many as fit, by default."""
    gate = threading.Event()
    waiting = hasher.capacity if waiting is None else waiting
    jobs = [asyncio.create_task(hasher._run(lane, gate.wait, 30)) for _ in range(hasher._pool._max_workers + waiting)]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        gate.set()
        await asyncio.gather(*jobs, return_exceptions=True)
