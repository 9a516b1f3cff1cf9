"""Headers and targets that name another host, path or method: nothing that the service says or sends moves."""

import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest

from invitree.identity.programs.actions import set_policy
from invitree.kit.context import AppContext
from tests.attacks.wire import request, send, statuses
from tests.cast import Cast
from tests.postbox import text_of
from tests.process import Service
from tests.waiting import eventually

EVIL, OURS, RESET = "evil.example", "Host: invitree.test", "/auth/users/reset_password/"
# What is sent besides, and the status of what is refused for it.
POISONS: list[tuple[list[str], set[int]]] = [
    ([f"Host: {EVIL}"], set()),
    ([f"Host: {EVIL}:8000"], set()),
    ([f"Host: {EVIL}."], set()),
    ([f"Host: invitree.test@{EVIL}"], set()),
    ([f"Host: {EVIL}@invitree.test"], set()),
    ([f"Host: invitree.test:80@{EVIL}"], set()),
    ([f"Host: {EVIL}, invitree.test"], {400}),
    ([f"Host: {EVIL}/"], {400}),
    ([f"Host: {EVIL}#"], {400}),
    ([f"Host: http://{EVIL}"], {400}),
    ([f"Host: invitree.test\r{EVIL}"], {400}),
    ([f"Host: invitree.test\x00{EVIL}"], {400}),
    ([f"Host: invitree.test\r\n {EVIL}"], {400}),
    ([f" Host: {EVIL}", OURS], {400}),
    ([f"Host : {EVIL}", OURS], {400}),
    ([OURS, f"Host: {EVIL}"], set()),
    ([f"Host: {EVIL}", OURS], set()),
    ([f"Host: \"><script>{EVIL}"], {400}),
    ([f"Host: {EVIL}{'x' * 5000}"], set()),
    (["Host:", f"X-Forwarded-Host: {EVIL}"], set()),
    ([f"X-Forwarded-Host: {EVIL}"], set()),
    ([OURS, f"X-Forwarded-Host: {EVIL}", f"X-Forwarded-Server: {EVIL}", f"X-Host: {EVIL}"], set()),
    ([OURS, f"X-Forwarded-Host: {EVIL}", f"X-Forwarded-Host: {EVIL}"], set()),
    ([OURS, "X-Forwarded-Proto: https", "X-Forwarded-Port: 666", f"X-Forwarded-Prefix: /{EVIL}"], set()),
    ([OURS, f"Forwarded: for=1.2.3.4;host={EVIL};proto=https"], set()),
    ([OURS, f"X-Original-URL: https://{EVIL}/", f"X-Rewrite-URL: https://{EVIL}/", f"X-Original-Host: {EVIL}"], set()),
    ([OURS, f"Origin: https://{EVIL}", f"Referer: https://{EVIL}/"], set()),
    ([OURS, f"Base-URL: https://{EVIL}", f"Request-URI: https://{EVIL}", f"X-Script-Name: /{EVIL}"], set()),
]  # fmt: skip
TARGETS = ["{}", f"http://{EVIL}{{}}", f"https://user@{EVIL}:443{{}}"]
READ = ["/", "/nope", "/docs", "/docs/", "/docs/try/", "/account", "/account/", "/schema/openapi.json", "/healthz",
        "/auth/users/me", "/auth/users/me/", "//healthz", "/api/referral_codes/check/AAAAAAAAAA/"]  # fmt: skip


async def newest_letter(outbox: Path, *, to: str) -> EmailMessage:
    """Return the only letter to somebody, and take it out of the box."""
    found: list[tuple[Path, EmailMessage]] = []

    def has_come() -> bool:
        for path in outbox.glob("*.eml"):
            letter = message_from_bytes(path.read_bytes(), policy=policy.default)
            if isinstance(letter, EmailMessage) and letter["to"] == to:
                found.append((path, letter))
        return bool(found)

    await eventually(has_come)
    [(path, letter)] = found
    path.unlink()
    return letter


@pytest.mark.parametrize("target", TARGETS)
async def test_no_link_in_a_mail_moves(running: Service, outbox: Path, cast: Cast, target: str) -> None:
    told = []
    for headers, refused_with in POISONS:
        ann = await cast.member()
        body = b'{"email":"%s"}' % ann.email.encode()
        more = ["Connection: close", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        answer = send(running, request(f"POST {target.format(RESET)}", *headers, *more, body=body))
        assert set(statuses(answer)) == (refused_with or {204}), headers
        assert EVIL.encode() not in answer, headers
        told += [] if refused_with else [(headers, ann.email)]
    for headers, email in told:
        letter = await newest_letter(outbox, to=email)
        assert re.findall(r"\bhttps?://\S+?/", text_of(letter)) == [f"{running.url}/"], headers
        assert EVIL.encode() not in bytes(letter), headers


@pytest.mark.parametrize("target", TARGETS)
async def test_no_answer_repeats_a_poisoned_header(running: Service, cast: Cast, target: str) -> None:
    token = f"Authorization: Token {(await cast.member()).token}"
    for headers, refused_with in POISONS:
        for path in READ:
            answer = send(running, request(f"GET {target.format(path)}", *headers, token, "Connection: close"))
            [status] = statuses(answer)
            assert status in refused_with or (not refused_with and status < 500), (headers, path)
            assert EVIL.encode() not in answer, (headers, path)


@pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path", "X-Original-URI"])
async def test_no_header_names_another_path(running: Service, name: str) -> None:
    assert httpx.get(f"{running.url}/nope", headers={name: "/healthz"}).status_code == 404
    assert httpx.get(f"{running.url}/healthz", headers={name: "/nope"}).status_code == 200


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
async def test_no_header_names_another_method(
    running: Service, client: httpx.AsyncClient, cast: Cast, name: str
) -> None:
    ann = await cast.member()
    code = await cast.code(ann)
    for method in ("GET", "POST"):
        httpx.request(method, f"{running.url}/api/referral_codes/", headers={**ann.headers, name: "DELETE"})
    shown = await client.get("/api/referral_codes/", headers=ann.headers)
    assert shown.json()["code"] == code


@pytest.mark.parametrize("order", [1, -1])
async def test_two_hosts_mean_one_program(running: Service, cast: Cast, ctx: AppContext, order: int) -> None:
    """Else a code could be tried in two at once: in the one that memory knows it in, and in the other."""
    hosts, codes = [f"ann{order}.example", f"eve{order}.example"], []
    for host in hosts:
        person = await cast.stranger()
        await set_policy(ctx.db, program_id=person.program_id, host=host)
        codes.append(await cast.code(person))

    def is_valid(code: str, *named: str) -> bool:
        line = f"GET /api/referral_codes/check/{code}/"
        return b'"valid":true' in send(
            running, request(line, *(f"Host: {host}" for host in named), "Connection: close")
        )

    for _ in range(2):
        assert [is_valid(code, host) for code, host in zip(codes, hosts, strict=True)] == [True, True]
        assert [is_valid(code, *hosts[::order]) for code in codes[::order]] == [True, False]
