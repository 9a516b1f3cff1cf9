"""base/settings.py: the environment becomes settings, or one line that says why not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from invitree.base.settings import Settings, SettingsError, read_settings

KEY = "k" * 32


def test_nothing_set_is_the_defaults() -> None:
    assert read_settings({}) == Settings()
    assert read_settings({"PATH": "/bin", "INVITREE_UNKNOWN": "x", "INVITREE_PORT": ""}) == Settings()
    assert (Settings().host, Settings().port, Settings().database_url, Settings().access_log) == (
        "127.0.0.1",
        8000,
        "",
        False,
    )


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot keep a process to some cores")
def test_there_are_as_many_web_processes_as_cores_that_may_be_used() -> None:
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nfrom invitree.base import settings\n"
    run = [sys.executable, "-c", f"{script}print(settings.Settings().workers, len(settings.usable_cores()))"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "1 1\n"


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("INVITREE_DATABASE_URL", "postgresql://h/d", "database_url", "postgresql://h/d"),
        ("INVITREE_DATA_DIR", "/a b/ü", "data_dir", "/a b/ü"),
        ("INVITREE_HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("INVITREE_PORT", "1", "port", 1),
        ("INVITREE_PORT", "65535", "port", 65535),
        ("INVITREE_WORKERS", "3", "workers", 3),
        ("INVITREE_POOL_SIZE", "1", "pool_size", 1),
        ("INVITREE_ACCESS_LOG", "true", "access_log", True),
        ("INVITREE_ACCESS_LOG", "1", "access_log", True),
        ("INVITREE_ACCESS_LOG", "false", "access_log", False),
        ("INVITREE_ACCESS_LOG", "0", "access_log", False),
        ("INVITREE_LOG_FORMAT", "json", "log_format", "json"),
        ("INVITREE_METRICS_TOKEN", "m", "metrics_token", "m"),
        ("INVITREE_SECRET_KEY", KEY, "secret_key", KEY),
    ],
)
def test_a_setting_is_read(name: str, text: str, field: str, value: object) -> None:
    assert getattr(read_settings({name: text}), field) == value


def test_a_setting_is_read_from_a_file_and_not_from_two_places(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_settings({"INVITREE_SECRET_KEY_FILE": str(file)}).secret_key == KEY
    with pytest.raises(SettingsError, match="both set"):
        read_settings({"INVITREE_SECRET_KEY_FILE": str(file), "INVITREE_SECRET_KEY": "x" * 40})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("INVITREE_PORT", "0"),
        ("INVITREE_PORT", "65536"),
        ("INVITREE_PORT", "-1"),
        ("INVITREE_PORT", "http"),
        ("INVITREE_PORT", "80.5"),
        ("INVITREE_WORKERS", "0"),
        ("INVITREE_WORKERS", "-1"),
        ("INVITREE_WORKERS", "many"),
        ("INVITREE_POOL_SIZE", "0"),
        ("INVITREE_ACCESS_LOG", "maybe"),
        ("INVITREE_LOG_FORMAT", "xml"),
        ("INVITREE_SECRET_KEY", "short"),
        ("INVITREE_SECRET_KEY", "k" * 31),
        ("INVITREE_SECRET_KEY", f"{KEY},short"),
        ("INVITREE_THROTTLE", "no"),
        ("INVITREE_LIMIT_LOGIN", "10"),
        ("INVITREE_LIMIT_LOGIN", "0/5m"),
        ("INVITREE_LIMIT_CHECK", "10/5d"),
        ("INVITREE_LIMIT_CHECK", "-1/5m"),
        ("INVITREE_TRUSTED_PROXIES", "-1"),
        ("INVITREE_TRUSTED_PROXIES", "11"),
        ("INVITREE_PUBLIC_URL", "invite.example.com"),
        ("INVITREE_PUBLIC_URL", "ftp://invite.example.com"),
        ("INVITREE_PUBLIC_URL", "https:"),
        ("INVITREE_PUBLIC_URL", "https://invite.example.com/?a=b"),
        ("INVITREE_PUBLIC_URL", "https://invite.example.com/#a"),
        ("INVITREE_PUBLIC_URL", "https://user@invite.example.com"),
        ("INVITREE_PUBLIC_URL", "https://invite.example.com:http"),
        ("INVITREE_PUBLIC_URL", "https://invite.example.com/a b"),
        ("INVITREE_SMTP_URL", "mail.example.com"),
        ("INVITREE_SMTP_URL", "smtp://"),
        ("INVITREE_SMTP_URL", "http://mail.example.com"),
        ("INVITREE_SMTP_URL", "smtp://user:canary-password@mail.example.com:25x"),
        ("INVITREE_SMTP_URL", "smtp://mail.example.com:465"),
        ("INVITREE_SMTP_URL", "smtps://mail.example.com:587"),
        ("INVITREE_SMTP_URL", "smtps://mail.example.com:25"),
        ("INVITREE_SMTP_URL", "smtp://mail.example.com:99999"),
        ("INVITREE_SMTP_URL", "smtp://mail.example.com:0"),
        ("INVITREE_SMTP_URL", "smtp://mail.example.com/path"),
        ("INVITREE_SMTP_URL", "smtp://@mail.example.com"),
        ("INVITREE_SMTP_PASSWORD", "canary-password"),
        ("INVITREE_SMTP_CA", "not a certificate"),
        ("INVITREE_SMTP_CA_FILE", "/nowhere/at/all"),
        ("INVITREE_SMTP_HELO", "localhost"),
        ("INVITREE_SMTP_HELO", "mail example.com"),
        ("INVITREE_SMTP_HELO", "почта.example.com"),
        ("INVITREE_SMTP_HELO", "mail_1.example.com"),
        ("INVITREE_SMTP_HELO", "[1.2.3]"),
        ("INVITREE_SMTP_HELO", "198.51.100.7"),
        ("INVITREE_MAIL_FROM", "a@example.com, b@example.com"),
        ("INVITREE_MAIL_FROM", "Invitree <a@example.com> <b@example.com>"),
        ("INVITREE_MAIL_FROM", "Invitree <>"),
        ("INVITREE_MAIL_FROM", "Invitree <a b@example.com>"),
        ("INVITREE_MAIL_FROM", "Invitree\u202e <a@example.com>"),
        ("INVITREE_MAIL_FROM", "nobody"),
        ("INVITREE_MAIL_FROM", "a@example.com\nBcc: b@example.com"),
        ("INVITREE_CORS_ORIGINS", "*"),
        ("INVITREE_CORS_ORIGINS", "https://app.example.com,https://other.example/path"),
        ("INVITREE_PRODUCTION", "perhaps"),
        ("INVITREE_HOST_FILE", "/nowhere/at/all"),
        ("INVITREE_HOST_FILE", "/"),
    ],
)
def test_invalid_settings_get_one_line_with_the_variable(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read_settings({name: text})
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(text) < 8 or text not in str(refusal.value) or name.endswith("_FILE")
    assert "canary" not in str(refusal.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(SettingsError, match="INVITREE_SECRET_KEY_FILE"):
        read_settings({"INVITREE_SECRET_KEY_FILE": str(file)})


@pytest.mark.parametrize(
    ("text", "keys"),
    [("", ()), (KEY, (KEY,)), (f"{KEY}, {KEY}2 ,", (KEY, f"{KEY}2")), (",", ())],
)
def test_several_secrets_are_kept_in_order(text: str, keys: tuple[str, ...]) -> None:
    assert Settings(secret_key=text).secret_keys == keys


def test_a_secret_of_nothing_but_commas_is_not_taken_for_one() -> None:
    """`serve` makes a secret only where none is given; with `,` there would be none to sign with."""
    with pytest.raises(SettingsError):
        read_settings({"INVITREE_SECRET_KEY": ","})


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]


FIT = {
    "INVITREE_PRODUCTION": "true",
    "INVITREE_PUBLIC_URL": "https://invite.example.com",
    "INVITREE_SECRET_KEY": "Zx81-qw_77aLkkV09mmPt3rYc5UeHd2oNb6iGs4f",
}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"INVITREE_SECRET_KEY": ""},  # one is made at the first start, and random
        {"INVITREE_HOST": "0.0.0.0", "INVITREE_TRUSTED_PROXIES": "1"},
        {"INVITREE_PUBLIC_URL": "https://example.com/invite/"},
    ],
)
def test_production_mode_takes_what_is_fit_for_it(more: dict[str, str]) -> None:
    assert read_settings({**FIT, **more}).production


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"INVITREE_THROTTLE": "off"}, "INVITREE_THROTTLE"),
        ({"INVITREE_PUBLIC_URL": ""}, "INVITREE_PUBLIC_URL"),
        ({"INVITREE_PUBLIC_URL": "http://invite.example.com"}, "INVITREE_PUBLIC_URL"),
        ({"INVITREE_SMTP_URL": "smtp://mail.example.com"}, "INVITREE_MAIL_FROM"),
        ({"INVITREE_HOST": "0.0.0.0"}, "INVITREE_HOST"),
        ({"INVITREE_HOST": "::"}, "INVITREE_HOST"),
        ({"INVITREE_SECRET_KEY": "short"}, "INVITREE_SECRET_KEY"),
        ({"INVITREE_SECRET_KEY": "k" * 64}, "INVITREE_SECRET_KEY"),
        ({"INVITREE_SECRET_KEY": "please-change-me-before-you-go-live-1234"}, "INVITREE_SECRET_KEY"),
        ({"INVITREE_SECRET_KEY": f"{FIT['INVITREE_SECRET_KEY']},{'old' * 20}"}, "INVITREE_SECRET_KEY"),
    ],
)
def test_production_mode_refuses_what_is_only_fit_for_trying_out(more: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}.*in production mode$|^{name} must have"):
        read_settings({**FIT, **more})
    read_settings({**FIT, **more, "INVITREE_PRODUCTION": "false", "INVITREE_SECRET_KEY": ""})


@pytest.mark.parametrize(
    ("settings", "base"),
    [
        (Settings(), "http://127.0.0.1:8000"),
        (Settings(host="0.0.0.0", port=80), "http://127.0.0.1:80"),
        (Settings(host="::"), "http://[::1]:8000"),
        (Settings(public_url="https://a.example/x/"), "https://a.example/x"),
    ],
)
def test_links_begin_with_the_public_url(settings: Settings, base: str) -> None:
    assert settings.public_base == base


@pytest.mark.parametrize(
    ("login", "written"),
    [
        ("me:can/ary", "%2F"),
        ("me:can@ary", "%40"),
        ("me@example.com:canary", "%40"),
        ("me:can#ary", "%23"),
        ("me:can?ary", "%3F"),
        ("me:can%ary", "%25"),
        ("me:canary%", "%25"),
        ("me:can[ary", "%5B"),
        ("me:can ary", "%20"),
        ("me:c/a@n#a?r%y", "%2F"),
    ],
)
def test_a_password_that_is_not_encoded_is_refused_with_what_to_write_and_not_quoted(login: str, written: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read_settings({"INVITREE_SMTP_URL": f"smtp://{login}@mail.example.com:587"})
    said = str(refusal.value)
    assert said.startswith("INVITREE_SMTP_URL: ")
    assert written in said
    assert "INVITREE_SMTP_PASSWORD" in said
    assert not re.search(r"can|ary|c/a|mail\.example", said)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"URL": "smtp://mail.example.com"}, ("mail.example.com", 587, False, "", "")),
        ({"URL": "smtps://mail.example.com/"}, ("mail.example.com", 465, True, "", "")),
        ({"URL": "smtp://me%40x:p%2F%40%23%25%3F:@h:25"}, ("h", 25, False, "me@x", "p/@#%?:")),
        ({"URL": "smtp://[::1]:2525"}, ("::1", 2525, False, "", "")),
        ({"URL": "smtp://почта.рф"}, ("xn--80a1acny.xn--p1ai", 587, False, "", "")),
        ({"URL": "smtps://h", "USER": "me", "PASSWORD": "p/@#%?"}, ("h", 465, True, "me", "p/@#%?")),
    ],
)
def test_where_mail_is_handed_over_and_who_logs_in(
    environment: dict[str, str], expected: tuple[str, int, bool, str, str]
) -> None:
    server = read_settings({f"INVITREE_SMTP_{name}": value for name, value in environment.items()}).mail_server
    assert (server.host, server.port, server.implicit_tls, server.user, server.password) == expected


def test_a_user_is_named_in_one_place() -> None:
    with pytest.raises(SettingsError, match=r"INVITREE_SMTP_URL: .*INVITREE_SMTP_USER"):
        read_settings({"INVITREE_SMTP_URL": "smtp://me:secret@h", "INVITREE_SMTP_USER": "you"})


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("i@example.com", "", "i@example.com"),
        ("<i@example.com>", "", "i@example.com"),
        ("Invitree <I@Example.com>", "Invitree", "I@example.com"),
        ('"Invitree, Inc." <i@example.com>', "Invitree, Inc.", "i@example.com"),
        ("Invitree, Inc. <i@example.com>", "Invitree, Inc.", "i@example.com"),
        (r'"The \"Tree\"" <i@example.com>', 'The "Tree"', "i@example.com"),
        ("no@reply <i@example.com>", "no@reply", "i@example.com"),
        ("Инвайтри <i@example.com>", "Инвайтри", "i@example.com"),
        ("Инвайтри <i@пример.рф>", "Инвайтри", "i@xn--e1afmkfd.xn--p1ai"),
        ("привет@example.com", "", "привет@example.com"),
        ("Invitree <invitree@localhost>", "Invitree", "invitree@localhost"),
    ],
)
def test_the_sender_is_a_name_and_the_address_in_brackets(text: str, name: str, address: str) -> None:
    sender = read_settings({"INVITREE_MAIL_FROM": text}).sender
    assert (sender.display_name, sender.addr_spec) == (name, address)


def test_a_mail_server_may_be_greeted_with_an_address() -> None:
    for name in ("mail.example.com", "xn--e1afmkfd.xn--p1ai", "[192.0.2.1]", "[IPv6:2001:db8::1]"):
        assert read_settings({"INVITREE_SMTP_HELO": name}).smtp_helo == name
