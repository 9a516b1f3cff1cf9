"""Reading the file: whatever its columns are called, never writing, and refusing with one line."""

import hashlib
import sqlite3
from pathlib import Path

import pytest

from invitree.imports.django.rules import OldCode, OldReferral, OldToken, OldUser
from invitree.imports.django.store import Unreadable, read_django_file
from tests.django_import.django import HASH, JOINED, TABLES, Django, key_of

USER = OldUser(
    id=1, username="a", email="a@example.com", password_hash=HASH, is_active=True, is_staff=False, joined=JOINED
)


def test_the_tables_of_django_are_understood(django: Django) -> None:
    alice, bob = django.user("a"), django.user("b", is_active=0, is_superuser=1, is_staff=0)
    django.code(alice, "Abc", "2030-01-02")
    django.token(bob, key_of(1))
    django.referral(alice, bob)
    seed = read_django_file(django.path)
    assert seed.users[0] == USER
    assert [(user.is_active, user.is_staff) for user in seed.users] == [(True, False), (False, True)]
    assert seed.codes == [OldCode(id=1, user_id=alice, code="Abc", ends="2030-01-02", is_active=True)]
    assert seed.tokens == [OldToken(user_id=bob, key=key_of(1), created="2023-05-06 07:08:09")]
    assert seed.referrals == [OldReferral(id=1, referrer_id=1, referee_id=2, created="2023-06-07 08:09:10")]


CODE, REFERRAL = "stakewolle_referralcode", "stakewolle_referralrelationship"


@pytest.mark.parametrize("owner", ["user_id", "owner_id", "referrer_id"])
@pytest.mark.parametrize("code", ["code", "referral_code"])
@pytest.mark.parametrize("end", ["expiration_date", "expires_at", "expiry_date", "valid_until"])
def test_a_code_is_understood_by_other_names(tmp_path: Path, owner: str, code: str, end: str) -> None:
    made = Django(tmp_path / "db", tables=TABLES)
    made.db.execute(f"DROP TABLE {CODE}")
    made.db.execute(
        f"CREATE TABLE {CODE} (id integer PRIMARY KEY, {end} text, is_active int, {code} text, {owner} int)"
    )
    made.db.execute(f"INSERT INTO {CODE} VALUES (7, '2030-01-02', 0, 'X', 5), (3, NULL, 1, 12, NULL)")
    assert read_django_file(made.path).codes == [
        OldCode(id=3, user_id=None, code="12", ends="", is_active=True),
        OldCode(id=7, user_id=5, code="X", ends="2030-01-02", is_active=False),
    ]
    made.db.close()


@pytest.mark.parametrize("referrer", ["referrer_id", "inviter_id"])
@pytest.mark.parametrize("referee", ["referee_id", "referred_id", "referral_id", "referred_user_id"])
@pytest.mark.parametrize("created", ["created_at", "date", "timestamp", ""])
def test_a_referral_is_understood_by_other_names(tmp_path: Path, referrer: str, referee: str, created: str) -> None:
    made = Django(tmp_path / "db", tables=TABLES)
    made.db.execute(f"DROP TABLE {REFERRAL}")
    made.db.execute(
        f"CREATE TABLE {REFERRAL} (id integer PRIMARY KEY, {referee} int, {referrer} int, {created or 'other'} text)"
    )
    made.db.execute(f"INSERT INTO {REFERRAL} VALUES (1, 2, 3, 'then')")
    then = "then" if created else ""
    assert read_django_file(made.path).referrals == [OldReferral(id=1, referrer_id=3, referee_id=2, created=then)]
    made.db.close()


def test_rows_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    made = Django(tmp_path / "db", tables=TABLES)
    made.db.execute(f"DROP TABLE {REFERRAL}")
    made.db.execute(f"CREATE TABLE {REFERRAL} (id integer PRIMARY KEY, referee_id int, referrer_id int, more text)")
    made.db.execute(f"CREATE INDEX both ON {REFERRAL} (referee_id, referrer_id)")  # enough to answer from, in its order
    made.db.execute(f"INSERT INTO {REFERRAL} VALUES (1, 9, 1, ''), (2, 8, 1, ''), (3, 7, 1, '')")
    assert [referral.referee_id for referral in read_django_file(made.path).referrals] == [9, 8, 7]
    made.db.close()


def test_a_table_that_cannot_be_understood_is_told_with_its_columns(django: Django) -> None:
    django.db.execute(f"ALTER TABLE {CODE} RENAME COLUMN expiration_date TO doomsday")
    with pytest.raises(Unreadable, match=rf"{CODE} cannot .*\(id, code, doomsday, user_id\) is its end \(expiration_"):
        read_django_file(django.path)


@pytest.mark.parametrize("table", ["auth_user", CODE, REFERRAL])
def test_a_missing_table_is_told(django: Django, table: str) -> None:
    django.db.execute(f"DROP TABLE {table}")
    with pytest.raises(Unreadable, match=f"no table {table}"):
        read_django_file(django.path)


def test_a_service_without_tokens_has_none(django: Django) -> None:
    django.db.execute("DROP TABLE authtoken_token")
    assert read_django_file(django.path).tokens == []


def test_any_column_may_hold_anything(django: Django) -> None:
    django.user("x", email=b"\xff", password=5.5, is_active=1)
    django.db.execute("UPDATE auth_user SET username = CAST(x'61ff62' AS text)")
    (user,) = read_django_file(django.path).users
    assert (user.username, user.email, user.password_hash) == ("a\ufffdb", "", "5.5")
    django.add(CODE, user_id="none", code="c", expiration_date=20300102)
    (code,) = read_django_file(django.path).codes
    assert (code.user_id, code.ends) == (None, "20300102")


def test_what_is_no_file_of_sqlite_is_told(tmp_path: Path, django: Django) -> None:
    with pytest.raises(Unreadable, match="there is no file"):
        read_django_file(tmp_path / "nowhere")
    with pytest.raises(Unreadable, match="there is no file"):
        read_django_file(tmp_path)
    (tmp_path / "text").write_text("hello " * 1000)
    with pytest.raises(Unreadable, match="text cannot be read: file is not a database"):
        read_django_file(tmp_path / "text")
    (tmp_path / "empty").touch()
    with pytest.raises(Unreadable, match="no table auth_user"):
        read_django_file(tmp_path / "empty")
    for number in range(500):
        django.user(f"user{number}")
    (tmp_path / "torn").write_bytes(django.path.read_bytes()[:20_000])
    with pytest.raises(Unreadable, match="malformed"):
        read_django_file(tmp_path / "torn")


def test_a_locked_file_is_told(django: Django, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invitree.imports.django.store._TIMEOUT_S", 0.1)
    django.db.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unreadable, match="database is locked"):
        read_django_file(django.path)
    django.db.execute("ROLLBACK")
    assert read_django_file(django.path).users == []


def test_a_file_with_a_strange_name_is_read_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=rwc#100% ünï.db"
    made = Django(path)
    made.user("a")
    made.db.close()
    before = hashlib.sha256(path.read_bytes()).digest()
    path.chmod(0o444)
    assert read_django_file(path).users == [USER]
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_the_service_left_half_written_is_not_mended_here(tmp_path: Path, django: Django) -> None:
    django.db.execute("PRAGMA cache_size = 1")
    django.db.execute("BEGIN")
    for number in range(2000):
        django.user(f"user{number}")
    torn = tmp_path / "torn" / "db.sqlite3"
    torn.parent.mkdir()
    for end in ("", "-journal"):
        Path(f"{torn}{end}").write_bytes(Path(f"{django.path}{end}").read_bytes())
    django.db.execute("ROLLBACK")
    before = torn.read_bytes()
    with pytest.raises(Unreadable, match="cannot be read"):
        read_django_file(torn)
    assert torn.read_bytes() == before
    assert read_django_file(django.path).users == []


def test_the_file_is_read_as_of_one_moment(django: Django) -> None:
    django.db.execute("PRAGMA journal_mode = WAL")
    alice = django.user("a")
    django.code(alice, "A")
    watched: list[str] = []

    class Watching(sqlite3.Connection):
        def execute(self, query: str, *args: object) -> sqlite3.Cursor:
            if CODE in query:  # after the users were read, somebody signs up and gets a code
                watched.append(query)
                django.code(django.user("late"), "LATE")
            return super().execute(query, *args)  # type: ignore[arg-type]

    connect = sqlite3.connect
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **more, factory=Watching))
        seed = read_django_file(django.path)
    assert watched
    assert [code.code for code in seed.codes] == ["A"]
    assert [user.username for user in seed.users] == ["a"]
