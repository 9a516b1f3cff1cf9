"""identity/auth/rules.py and kit/web.language_of: what needs no database to be decided."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invitree.base.tokens import format_token, program_id_of_token
from invitree.identity.auth.rules import REUSE_GRACE, RefreshDecision, access_claims, decide_refresh, read_access_claims
from invitree.kit.web.responses import language_of

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
FOREVER = NOW + timedelta(days=30)


@pytest.mark.parametrize(
    ("expires_at", "used_at", "successor_unused", "turn"),
    [
        (FOREVER, None, False, RefreshDecision.ROTATE),
        (NOW + INSTANT, None, False, RefreshDecision.ROTATE),
        (NOW, None, False, RefreshDecision.EXPIRED),
        (NOW - INSTANT, None, False, RefreshDecision.EXPIRED),
        (FOREVER, NOW, True, RefreshDecision.REPEAT),
        (FOREVER, NOW - REUSE_GRACE + INSTANT, True, RefreshDecision.REPEAT),
        (FOREVER, NOW - REUSE_GRACE, True, RefreshDecision.STOLEN),
        (FOREVER, NOW - INSTANT, False, RefreshDecision.STOLEN),
        (FOREVER, NOW - timedelta(days=1), True, RefreshDecision.STOLEN),
        (FOREVER, NOW - timedelta(days=1), False, RefreshDecision.STOLEN),
        (NOW - INSTANT, NOW - INSTANT, True, RefreshDecision.REPEAT),
    ],
)
def test_a_refresh_token_gets_its_turn(
    expires_at: datetime, used_at: datetime | None, successor_unused: bool, turn: RefreshDecision
) -> None:
    assert decide_refresh(expires_at=expires_at, used_at=used_at, successor_unused=successor_unused, now=NOW) is turn


def test_the_grace_is_twenty_seconds() -> None:
    assert timedelta(seconds=20) == REUSE_GRACE


@pytest.mark.parametrize(
    ("token", "program"),
    [
        ("1.abc", 1),
        ("0.abc", 0),
        ("999999999999999999.abc", 999999999999999999),
        ("9999999999999999999.abc", None),
        ("1." + "a" * 198, 1),
        ("1." + "a" * 199, None),
        ("1.", 1),
        ("1", None),
        (".abc", None),
        ("", None),
        (".", None),
        ("-1.abc", None),
        ("+1.abc", None),
        (" 1.abc", None),
        ("1_0.abc", None),
        ("1e3.abc", None),
        ("١.abc", None),
        ("².abc", None),
        ("1.ж", None),
        ("1.\ud800", None),
    ],
)
def test_an_opaque_token_names_its_program_or_is_none_of_ours(token: str, program: int | None) -> None:
    assert program_id_of_token(token) == program


@given(st.integers(1, 2**59), st.text("abcdefgh_-", min_size=1, max_size=43))
def test_a_sealed_token_names_its_program(program_id: int, secret: str) -> None:
    assert program_id_of_token(format_token(program_id=program_id, secret=secret)) == program_id


@given(st.text())
def test_no_text_upsets_the_reader_of_tokens(text: str) -> None:
    assert program_id_of_token(text) is None or text.partition(".")[0].isdigit()


def good() -> dict[str, Any]:
    issued = int(NOW.timestamp())
    return {
        "iss": "invitree",
        "aud": "invitree",
        "sub": "7",
        "exp": issued + 300,
        "iat": issued,
        "jti": "9.nonce",
        "typ": "access",
        "pid": 3,
    }


def test_access_tokens_are_read_as_written() -> None:
    written = access_claims(program_id=3, user_id=7, session_id=9, nonce="nonce", now=NOW)
    assert read_access_claims(good(), now=NOW) == written
    assert (written.pid, written.user_id, written.session_id) == (3, 7, 9)


@pytest.mark.parametrize(("after_s", "good_still"), [(-6, False), (-5, True), (0, True), (299.9, True), (300, False)])
def test_an_access_token_lives_five_minutes(after_s: float, good_still: bool) -> None:
    claims = read_access_claims(good(), now=NOW + timedelta(seconds=after_s))
    assert (claims is not None) is good_still


@pytest.mark.parametrize("claim", sorted(good()))
@pytest.mark.parametrize(
    "value",
    [None, "", "x", 0, -1, 1.5, True, [], {}, ["invitree"], float("nan"), 10**30, 10**400, "1" * 30],
    ids=lambda value: str(value)[:40],
)
def test_a_claim_that_is_not_exactly_right_is_refused(claim: str, value: Any) -> None:
    assert read_access_claims({**good(), claim: value}, now=NOW) is None


@pytest.mark.parametrize("claim", sorted(good()))
def test_every_claim_is_required(claim: str) -> None:
    claims = good()
    del claims[claim]
    assert read_access_claims(claims, now=NOW) is None


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("sub", "7.0"),
        ("sub", " 7"),
        ("sub", "+7"),
        ("sub", "1_0"),
        ("sub", "٧"),
        ("sub", "0"),
        ("sub", str(2**63)),
        ("jti", "+9.nonce"),
        ("jti", "٩.nonce"),
        ("pid", 2**63),
        ("pid", 3.0),
        ("exp", float(2**40)),
        ("exp", 2**62),
        ("typ", "refresh"),
        ("typ", "Access"),
        ("iss", "Invitree"),
        ("aud", ["invitree"]),
    ],
)
def test_a_claim_in_another_form_is_refused(claim: str, value: Any) -> None:
    assert read_access_claims({**good(), claim: value}, now=NOW) is None


@pytest.mark.parametrize("claims", [None, [], "x", 1, {}])
def test_access_tokens_without_claims_are_refused(claims: Any) -> None:
    assert read_access_claims(claims, now=NOW) is None


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("ru", "ru"),
        ("RU", "ru"),
        ("ru-RU", "ru"),
        ("ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7", "ru"),
        ("en-US,en;q=0.9,ru;q=0.8", "en"),
        ("en;q=0.1,ru;q=0.2", "ru"),
        ("en;q=0.2, ru;q=0.1", "en"),
        ("ru;q=0", "en"),
        ("ru;q=0.001", "ru"),
        ("ru; q=0.5 , en ; q = 0.4", "ru"),
        ("de,fr;q=0.9", "en"),
        ("de,ru;q=0.5", "ru"),
        ("*", "en"),
        ("ru;q=2", "en"),
        ("ru;q=nan", "en"),
        ("ru;q=", "en"),
        ("rus", "en"),
        (",,,;;;", "en"),
        ("\x00", "en"),
        ("x" * 100_000 + ",ru", "en"),
    ],
)
def test_russian_is_spoken_to_those_who_prefer_it(header: str, language: str) -> None:
    assert language_of(header) == language


@given(st.text())
def test_no_header_upsets_the_choice_of_language(header: str) -> None:
    assert language_of(header) in ("en", "ru")
