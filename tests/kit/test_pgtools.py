"""PostgreSQL's own programs: which are taken, and what is told to them where."""

import re
from pathlib import Path

import pytest

from invitree.kit.postgres import programs as pgtools
from invitree.kit.postgres.programs import NoPrograms, bundled_programs, client_programs, error_line, libpq_target


def install(folder: Path, version: str, *names: str) -> Path:
    """Put programs into a folder that say they are of a version."""
    folder.mkdir(parents=True)
    for name in names or ("pg_dump", "pg_restore", "psql"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_server_that_is_not_newer_is_talked_to_with_our_own_programs(tmp_path: Path) -> None:
    for major in (15, 18):
        assert client_programs(major) == bundled_programs()


def test_a_newer_server_needs_programs_that_are_not_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian = tmp_path / "lib"
    monkeypatch.setattr(pgtools, "_DEBIAN", debian)
    monkeypatch.setenv("PATH", str(install(tmp_path / "path", "18.4")))
    with pytest.raises(NoPrograms, match=re.escape("PostgreSQL 19, and its pg_dump, pg_restore and psql are neither")):
        client_programs(19)
    install(debian / "19/bin", "19beta1 (Debian 19~1)", "pg_dump", "psql")  # no pg_restore
    with pytest.raises(NoPrograms):
        client_programs(19)
    install(debian / "20/bin", "20.1 (Debian 20.1-1)")
    assert client_programs(19) == client_programs(20) == debian / "20/bin"
    monkeypatch.setenv("PATH", str(install(tmp_path / "newest", "21devel")))
    assert client_programs(19) == tmp_path / "newest"
    with pytest.raises(NoPrograms):
        client_programs(22)


@pytest.mark.parametrize(
    ("url", "shown", "password"),
    [
        ("postgresql://u:p%40ss@h:5/db", "host='h' port='5' user='u' dbname='db' sslmode='prefer'", "p@ss"),
        ("postgres://u:p@h1:1,h2:2/db", "host='h1,h2' port='1,2' user='u' dbname='db' sslmode='prefer'", "p"),
        (
            "postgresql:///it's?user=u&password=a%20b&host=/r%5Cun",
            r"host='/r\\un' port='5432' user='u' dbname='it\'s' sslmode='prefer'",
            "a b",
        ),
        (
            "postgresql://u@[::1]/db?search_path=a,%20b&options=-cjit=off&application_name=mine",
            r"host='::1' port='5432' user='u' dbname='db' sslmode='prefer' options='-cjit=off -c search_path=a,\\ b'",
            None,
        ),
    ],
)
def test_programs_are_given_the_address_as_libpq_takes_it_and_the_password_where_others_cannot_see_it(
    url: str, shown: str, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVITREE_SECRET_KEY", "canary")
    monkeypatch.setenv("PGPASSWORD", "canary")
    monkeypatch.setenv("PGSSLMODE", "canary")
    target, environment = libpq_target(url)
    assert target == shown
    assert environment.get("PGPASSWORD") == password
    assert "canary" not in environment.values()


def test_an_encrypted_connection_needs_programs_that_have_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgtools, "_DEBIAN", tmp_path / "lib")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NoPrograms, match="postgresql-client-15"):
        client_programs(15, tls=True)
    install(tmp_path / "lib/14/bin", "14.9")
    with pytest.raises(NoPrograms, match="have no TLS"):
        client_programs(15, tls=True)
    install(tmp_path / "lib/16/bin", "16.1")
    assert client_programs(15, tls=True) == tmp_path / "lib/16/bin"


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (b"pg_dump: reading schemas\npg_dump: error: no space\npg_dump: bye\n", "no space"),
        (b"psql:<stdin>:7: ERROR:  not empty\nCONTEXT:  PL/pgSQL\n", "not empty"),
        (b"\n something \n", "something"),
        (b"", "it said nothing"),
    ],
)
def test_of_much_output_the_telling_line_is_told(output: bytes, line: str) -> None:
    assert error_line(output) == line
