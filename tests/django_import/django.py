"""The Django service's database, with the tables as its migrations make them."""

import sqlite3
from pathlib import Path
from typing import Any

from tests.hashes import pbkdf2

TABLES = """
CREATE TABLE auth_user (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT, password varchar(128) NOT NULL, last_login datetime NULL,
    is_superuser bool NOT NULL, username varchar(150) NOT NULL UNIQUE, last_name varchar(150) NOT NULL,
    email varchar(254) NOT NULL, is_staff bool NOT NULL, is_active bool NOT NULL, date_joined datetime NOT NULL,
    first_name varchar(150) NOT NULL
);
CREATE TABLE authtoken_token (
    key varchar(40) NOT NULL PRIMARY KEY, created datetime NOT NULL,
    user_id integer NOT NULL UNIQUE REFERENCES auth_user (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE stakewolle_referralcode (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT, code varchar(20) NOT NULL UNIQUE, expiration_date date NOT NULL,
    user_id integer NOT NULL REFERENCES auth_user (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE stakewolle_referralrelationship (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT, created_at datetime NOT NULL,
    referee_id integer NOT NULL REFERENCES auth_user (id) DEFERRABLE INITIALLY DEFERRED,
    referrer_id integer NOT NULL REFERENCES auth_user (id) DEFERRABLE INITIALLY DEFERRED
);
"""
PASSWORD = "an old password"
HASH = pbkdf2(PASSWORD)
JOINED = "2023-04-05 06:07:08.123456"


class Django:
    """A file of the Django service; everything has a default, and returns its id."""

    def __init__(self, path: Path, *, tables: str = TABLES) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.executescript(tables)

    def user(self, username: str, **more: Any) -> int:
        """Add a user."""
        given = {
            "username": username,
            "email": f"{username}@example.com",
            "password": HASH,
            "date_joined": JOINED,
            "is_active": 1,
            "is_staff": 0,
            "is_superuser": 0,
            "first_name": "",
            "last_name": "",
        }
        return self.add("auth_user", **{**given, **more})

    def code(self, user_id: int, code: str, expiration_date: str = "2999-12-31", **more: Any) -> int:
        """Add a code."""
        return self.add("stakewolle_referralcode", user_id=user_id, code=code, expiration_date=expiration_date, **more)

    def token(self, user_id: int, key: str) -> int:
        """Add a token."""
        return self.add("authtoken_token", user_id=user_id, key=key, created="2023-05-06 07:08:09")

    def referral(self, referrer_id: int, referee_id: int, created_at: str = "2023-06-07 08:09:10") -> int:
        """Add a referral."""
        given = {"referrer_id": referrer_id, "referee_id": referee_id, "created_at": created_at}
        return self.add("stakewolle_referralrelationship", **given)

    def add(self, table: str, **values: Any) -> int:
        """Add a row to any table."""
        marks = ", ".join("?" * len(values))
        done = self.db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
        assert done.lastrowid is not None
        return done.lastrowid


def key_of(number: int) -> str:
    """Return a token as rest_framework.authtoken makes it, another for every number."""
    return f"{number:040x}"
