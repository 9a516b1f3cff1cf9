"""How long a code may be asked to live, at POST /api/referral_codes/create/."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import Cast, in_days, refused

PATH = "/api/referral_codes/create/"
TODAY = "It must be later than today."
PAST = "It must be in the future."
TOO_FAR = "A code lives 366 days at most."
NO_DATE = "Date has wrong format. Use YYYY-MM-DD."
NO_TIME = "Time has wrong format. Use RFC 3339 with an offset, such as 2027-01-31T18:00:00Z."
WRONG_TYPE = "This has the wrong type."
REQUIRED = "This field is required."
BOTH = "Give expiration_date or expires_at, not both."


async def refuse(client: httpx.AsyncClient, cast: Cast, body: Any, **fields: list[str]) -> None:
    alice = await cast.member()
    before = await cast.contents()
    answer = await client.post(PATH, json=body, headers=alice.headers)
    refused(answer, 400, "invalid_input", **fields)
    assert await cast.contents() == before


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (in_days(0), TODAY),
        (in_days(-1), TODAY),
        ("0001-01-01", TODAY),
        (in_days(367), TOO_FAR),
        ("9999-12-31", TOO_FAR),
        ("2027-02-30", NO_DATE),
        ("2027-13-01", NO_DATE),
        ("2027-2-3", NO_DATE),
        ("0000-01-01", NO_DATE),
        ("10000-01-01", NO_DATE),
        ("-2027-01-01", NO_DATE),
        ("infinity", NO_DATE),
        ("tomorrow", NO_DATE),
        ("", NO_DATE),
        ("2027-06-01T00:00:00Z", NO_DATE),
        ("٢٠٢٧-٠٦-٠١", NO_DATE),
        (20270601, WRONG_TYPE),
        (1e300, WRONG_TYPE),
        (True, WRONG_TYPE),
        ([], WRONG_TYPE),
        ({}, WRONG_TYPE),
        (None, REQUIRED),
    ],
)
async def test_a_last_day_is_a_real_day_after_today(
    client: httpx.AsyncClient, cast: Cast, value: Any, complaint: str
) -> None:
    if complaint == WRONG_TYPE:  # which of the two sentences is not promised, only that it is under the field
        alice = await cast.member()
        answer = await client.post(PATH, json={"expiration_date": value}, headers=alice.headers)
        refused(answer, 400, "invalid_input", expiration_date=answer.json()["expiration_date"])
    else:
        await refuse(client, cast, {"expiration_date": value}, expiration_date=[complaint])


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("2020-01-01T00:00:00Z", PAST),
        ("0001-01-01T00:00:00Z", PAST),
        ("0001-01-01T00:00:00+23:59", PAST),
        ("9999-12-31T23:59:59Z", TOO_FAR),
        ("9999-12-31T23:59:59-23:59", TOO_FAR),
        (f"{in_days(367)}T00:00:00Z", TOO_FAR),
        (f"{in_days(9)}T00:00:00", NO_TIME),
        (in_days(9), NO_TIME),
        ("2027-02-30T00:00:00Z", NO_TIME),
        (f"{in_days(9)}T24:00:00Z", NO_TIME),
        (f"{in_days(9)}T23:59:61Z", NO_TIME),
        (f"{in_days(9)}T00:00:00+24:00", NO_TIME),
        (f"{in_days(9)}T00:00:00+99:99", NO_TIME),
        ("infinity", NO_TIME),
        ("-infinity", NO_TIME),
        ("now", NO_TIME),
        ("", NO_TIME),
        (1811808000, NO_TIME),
        (1811808000.5, NO_TIME),
        (True, NO_TIME),
        ([], NO_TIME),
    ],
)
async def test_an_instant_is_a_real_time_with_an_offset_in_the_future(
    client: httpx.AsyncClient, cast: Cast, value: Any, complaint: str
) -> None:
    await refuse(client, cast, {"expires_at": value}, expires_at=[complaint])


@pytest.mark.parametrize("body", [{}, {"expiration_date": None}, {"expiration_date": None, "expires_at": None}])
async def test_a_last_day_or_an_instant_is_required(client: httpx.AsyncClient, cast: Cast, body: Any) -> None:
    await refuse(client, cast, body, expiration_date=[REQUIRED])


async def test_a_last_day_and_an_instant_together_are_refused(client: httpx.AsyncClient, cast: Cast) -> None:
    body = {"expiration_date": in_days(2), "expires_at": f"{in_days(2)}T00:00:00Z"}
    await refuse(client, cast, body, non_field_errors=[BOTH])


@pytest.mark.parametrize(
    "body",
    [
        {"expiration_date": in_days(1)},
        {"expiration_date": in_days(365)},
        {"expiration_date": in_days(5), "expires_at": None},
        {"expiration_date": None, "expires_at": f"{in_days(5)}T00:00:00+14:00"},
        {"expires_at": f"{in_days(5)}T00:00:00.123456-23:59"},
        {"expires_at": f"{in_days(5)}t00:00:00z"},
        {"expires_at": f"{in_days(365)}T23:59:59Z"},
    ],
)
async def test_what_is_within_the_rules_is_taken(client: httpx.AsyncClient, cast: Cast, body: Any) -> None:
    alice = await cast.member()
    answer = await client.post(PATH, json=body, headers=alice.headers)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu", "Europe/Riga"])
async def test_today_is_todays_date_in_the_programs_zone(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, zone: str
) -> None:
    alice = await cast.stranger()
    await ctx.db.execute("UPDATE programs SET time_zone = $2 WHERE id = $1", alice.program_id, zone)
    today = datetime.now(ZoneInfo(zone)).date()
    answer = await client.post(PATH, json={"expiration_date": today.isoformat()}, headers=alice.headers)
    refused(answer, 400, "invalid_input", expiration_date=[TODAY])
    tomorrow = today + timedelta(days=1)
    answer = await client.post(PATH, json={"expiration_date": tomorrow.isoformat()}, headers=alice.headers)
    assert answer.status_code == 201
    assert answer.json()["expiration_date"] == tomorrow.isoformat()
    ends = datetime.fromisoformat(answer.json()["expires_at"]).astimezone(ZoneInfo(zone))
    assert (ends.date(), ends.hour) == (today + timedelta(days=2), 0)


async def test_a_complaint_is_told_in_russian_by_field(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    headers = {**alice.headers, "Accept-Language": "ru"}
    answer = await client.post(PATH, json={"expiration_date": in_days(0)}, headers=headers)
    complaint = "Дата должна быть позже сегодняшней."
    body = refused(answer, 400, "invalid_input", expiration_date=[complaint])
    assert body["detail"] == f"expiration_date: {complaint}"
