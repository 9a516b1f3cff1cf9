"""The routes that prove an address and change a password, a username or an address."""

from typing import Annotated, Any

from litestar import post
from litestar.params import JSONBody
from msgspec import Meta, Struct

from invitree.base.emails import Email, parse_email
from invitree.base.problems import NON_FIELD, InvalidInput, Text, TooManyRequests, Unauthenticated
from invitree.base.tokens import program_id_of_token as program_in
from invitree.identity.auth.guards import PUBLIC, SIGNED_IN, actor_of, caller_of, program_of
from invitree.identity.auth.store import UserSession
from invitree.identity.email.actions import ResetKind, send_link_to_address
from invitree.identity.email.rules import LinkKind, decode_uid
from invitree.identity.idempotency.guards import REPEATABLE, IdempotencyKey, once, request_transaction
from invitree.identity.programs.actions import get_program
from invitree.identity.programs.problems import UnknownProgram
from invitree.identity.recovery import actions
from invitree.identity.recovery.actions import MailLink
from invitree.identity.recovery.problems import StaleToken
from invitree.identity.users.actions import Login, rename
from invitree.identity.users.guards import charge, prove_password
from invitree.identity.users.rules import (
    BAD_EMAIL,
    BAD_USERNAME,
    PASSWORDS_DIFFER,
    clean_username,
    email_errors,
    same_address,
)
from invitree.kit.client_info import client_info
from invitree.kit.context import Request, app_context
from invitree.kit.limits.rate_limiter import Limit, limit
from invitree.kit.web.body import VERBATIM, takes
from invitree.kit.web.responses import BODY, answers

_USERNAMES_DIFFER = Text("The two username fields didn't match.", "Введённые имена пользователя не совпадают.")
_EMAILS_DIFFER = Text("The two email fields didn't match.", "Введённые адреса не совпадают.")
_ACTIVATION_OFF = Text("Addresses are not confirmed here.", "Здесь адреса не подтверждаются.")

Uid = Annotated[str, Meta(min_length=1, max_length=200, description="As in the link.", examples=["NDI"])]
LinkToken = Annotated[
    str, Meta(min_length=1, max_length=200, description="As in the link.", examples=["1.x5C1WvNcFvnG0kEJ3oB8sA"])
]
Password = Annotated[str, Meta(min_length=1, max_length=4096, examples=["correct horse battery"]), VERBATIM]
NewPassword = Annotated[
    str,
    Meta(
        min_length=1,
        description="8 to 1,024 characters, hard to guess, not like the e-mail or username.",
        examples=["staple battery horse"],
    ),
]
Again = Annotated[str, Meta(description="The same again, to be compared.")]
EmailText = Annotated[str, Meta(min_length=1, max_length=254, examples=["alice@example.com"])]
Username = Annotated[str, Meta(min_length=1, max_length=150, examples=["alice"])]


class ActivationIn(Struct):
    """What a link to confirm an address has in it."""

    uid: Uid
    token: LinkToken


class EmailIn(Struct):
    """An address."""

    email: EmailText


class SetPasswordIn(Struct):
    """The password and its successor."""

    current_password: Password
    new_password: NewPassword
    re_new_password: Again | None = None


class ResetPasswordIn(Struct):
    """What a link to reset a password has in it, and the new password."""

    uid: Uid
    token: LinkToken
    new_password: NewPassword
    re_new_password: Again | None = None


class SetUsernameIn(Struct):
    """The password and another username."""

    current_password: Password
    new_username: Username
    re_new_username: Again | None = None


class ResetUsernameIn(Struct):
    """What a link to reset a username has in it, and the new username."""

    uid: Uid
    token: LinkToken
    new_username: Username
    re_new_username: Again | None = None


class SetEmailIn(Struct):
    """The password and another address."""

    current_password: Password
    new_email: EmailText
    re_new_email: Again | None = None


def _parsed(email: str, *, field: str) -> Email:
    """Return an address parsed. Raises InvalidInput on `field`."""
    address = parse_email(email)
    if address is None:
        raise InvalidInput({field: [BAD_EMAIL]})
    return address


async def _charge_mail(request: Request, program_id: int, address: Email) -> None:
    """Count a mail to an address that anybody may ask for. Raises TooManyRequests."""
    caller: UserSession | None = request.scope["user"]
    if caller and caller.program_id == program_id and same_address(caller.email, address.typed):
        await _charge_own_mail(request)
        return
    settings, network = app_context(request).settings, client_info(request).network
    await charge(
        request,
        program_id,
        Login(email=address.key),
        limit("mail_by_ip", settings.limit_mail_by_ip, network),
        limit("mail_by_target", settings.limit_mail_by_target, network, address.identity),
        anywhere=limit("mail_to_target", settings.limit_mail_to_target, address.identity),
    )


async def _charge_own_mail(request: Request, *others: Limit) -> None:
    """Count a mail that somebody who is signed in has sent to themselves. Raises TooManyRequests."""
    ctx, caller = app_context(request), caller_of(request)
    own = limit("mail_own", ctx.settings.limit_mail_by_target, str(caller.user_id))
    await ctx.throttle.charge(request, caller.program_id, own, *others)


_DONE: dict[str, Any] = {"status_code": 204, "response_description": "Done.", "tags": ["Credentials"]}
_ANYONE: dict[str, Any] = {
    **_DONE,
    **PUBLIC,
    "responses": answers(StaleToken, Unauthenticated, UnknownProgram, *REPEATABLE, *BODY),
}
_LIMITED: dict[str, Any] = {
    **_DONE,
    **PUBLIC,
    "response_description": "Done, if there is such an account.",
    "responses": answers(TooManyRequests, Unauthenticated, UnknownProgram, *REPEATABLE, *BODY),
}
_MEMBERS: dict[str, Any] = {
    **_DONE,
    **SIGNED_IN,
    "responses": answers(TooManyRequests, Unauthenticated, *REPEATABLE, *BODY),
}


async def _follow(request: Request, kind: LinkKind, uid: str, token: str) -> MailLink:
    """Return what a link stands for, in the program that its token names."""
    program_id = program_in(token) or (await program_of(request)).id
    return await actions.resolve_link(
        app_context(request), kind=kind, program_id=program_id, user_id=decode_uid(uid), token=token
    )


async def _mail_link(request: Request, data: EmailIn, idempotency_key: str | None, *, kind: ResetKind) -> None:
    """Have a link sent to whoever has an address, the same for everybody. Raises InvalidInput, TooManyRequests."""
    program, origin = await program_of(request), client_info(request)
    address = _parsed(data.email, field="email")
    await _charge_mail(request, program.id, address)
    async with request_transaction(request, data, idempotency_key) as tx:
        await send_link_to_address(
            tx,
            email_key=address.key,
            kind=kind,
            program_id=program.id,
            language=origin.language,
            ip_prefix=origin.ip_prefix,
        )


@post("/users/activation", **takes(ActivationIn), **_ANYONE, summary="Confirm an address")
@once
async def activate(request: Request, data: JSONBody[ActivationIn], idempotency_key: IdempotencyKey = None) -> None:
    """Confirm the address that a link was sent to, which lets the account act. The link lives 24 hours."""
    link = await _follow(request, "activation", data.uid, data.token)
    async with request_transaction(request, data, idempotency_key) as tx:
        await actions.activate(tx, link, origin=client_info(request))


@post("/users/resend_activation", **takes(EmailIn), **_LIMITED, summary="Ask for another link to confirm an address")
@once
async def resend_activation(request: Request, data: JSONBody[EmailIn], idempotency_key: IdempotencyKey = None) -> None:
    """Have another link sent, if there is an account with this address that is not confirmed.

    The answer is the same, in the same time, whoever has the address. A 400 where the program does not ask for
    confirmation.
    """
    if (await program_of(request)).activation == "off":
        raise InvalidInput({NON_FIELD: [_ACTIVATION_OFF]})
    await _mail_link(request, data, idempotency_key, kind="activation")


@post("/users/set_password", **takes(SetPasswordIn), **_MEMBERS, summary="Change your password")
@once
async def set_password(request: Request, data: JSONBody[SetPasswordIn], idempotency_key: IdempotencyKey = None) -> None:
    """Change your password. Every other session ends, and every link that was sent to you and not followed."""
    _compare(data.new_password, data.re_new_password, PASSWORDS_DIFFER)
    caller, program = caller_of(request), await program_of(request)
    password = actions.validate_new_password(
        data.new_password, email=caller.email, username=caller.username, program=program
    )
    verified = await prove_password(request, data.current_password)
    await _charge_own_mail(request)  # the notice of it
    origin = client_info(request)
    new_hash = await app_context(request).hasher.hash(password, lane=origin.lane)
    async with request_transaction(request, data, idempotency_key) as tx:
        await actions.set_password(tx, caller, verified=verified, new_hash=new_hash, origin=origin)


@post("/users/reset_password", **takes(EmailIn), **_LIMITED, summary="Forgot your password?")
@once
async def reset_password(request: Request, data: JSONBody[EmailIn], idempotency_key: IdempotencyKey = None) -> None:
    """Have a link to choose a new password sent to this address, if somebody has an account with it.

    The answer is the same, in the same time, whoever has the address. The link lives 30 minutes.
    """
    await _mail_link(request, data, idempotency_key, kind="password_reset")


@post("/users/reset_password_confirm", **takes(ResetPasswordIn), **_ANYONE, summary="Choose a new password")
@once
async def reset_password_confirm(
    request: Request, data: JSONBody[ResetPasswordIn], idempotency_key: IdempotencyKey = None
) -> None:
    """Choose a new password, by a link from a mail. Every session ends, and every change not yet confirmed.

    The address counts as confirmed: whoever does this reads its mail.
    """
    _compare(data.new_password, data.re_new_password, PASSWORDS_DIFFER)
    link = await _follow(request, "password_reset", data.uid, data.token)
    ctx, origin = app_context(request), client_info(request)
    program = await get_program(ctx, link.program_id)
    password = actions.validate_new_password(
        data.new_password, email=link.user.email, username=link.user.username, program=program
    )
    new_hash = await ctx.hasher.hash(password, lane=origin.lane)
    async with request_transaction(request, data, idempotency_key) as tx:
        await actions.reset_password(tx, link, new_hash=new_hash, origin=origin)


@post("/users/set_username", **takes(SetUsernameIn), **_MEMBERS, summary="Change your username")
@once
async def set_username(request: Request, data: JSONBody[SetUsernameIn], idempotency_key: IdempotencyKey = None) -> None:
    """Change your username."""
    _compare(data.new_username, data.re_new_username, _USERNAMES_DIFFER)
    verified = await prove_password(request, data.current_password)
    caller = caller_of(request)
    async with request_transaction(request, data, idempotency_key) as tx:
        await rename(
            tx,
            program_id=caller.program_id,
            user_id=caller.user_id,
            username=data.new_username,
            field="new_username",
            actor=actor_of(request, user_id=caller.user_id),
            verified=verified,
        )


@post("/users/reset_username", **takes(EmailIn), **_LIMITED, summary="Forgot your username?")
@once
async def reset_username(request: Request, data: JSONBody[EmailIn], idempotency_key: IdempotencyKey = None) -> None:
    """Have a link to choose another username sent to this address, if somebody has an account with it.

    The mail also says the present username. The answer is the same, in the same time, whoever has the address.
    """
    await _mail_link(request, data, idempotency_key, kind="username_reset")


@post("/users/reset_username_confirm", **takes(ResetUsernameIn), **_ANYONE, summary="Choose another username")
@once
async def reset_username_confirm(
    request: Request, data: JSONBody[ResetUsernameIn], idempotency_key: IdempotencyKey = None
) -> None:
    """Choose another username, by a link from a mail."""
    _compare(data.new_username, data.re_new_username, _USERNAMES_DIFFER)
    username = clean_username(data.new_username)
    if username is None:
        raise InvalidInput({"new_username": [BAD_USERNAME]})
    link = await _follow(request, "username_reset", data.uid, data.token)
    async with request_transaction(request, data, idempotency_key) as tx:
        await actions.reset_username(tx, link, username=username, origin=client_info(request))


@post("/users/set_email", **takes(SetEmailIn), **_MEMBERS, summary="Change your address")
@once
async def set_email(request: Request, data: JSONBody[SetEmailIn], idempotency_key: IdempotencyKey = None) -> None:
    """Have a link sent to your new address, which is yours once it is followed, within 24 hours.

    Until then nothing changes.
    """
    _compare(data.new_email, data.re_new_email, _EMAILS_DIFFER)
    verified = await prove_password(request, data.current_password)
    address, ctx = _parsed(data.new_email, field="new_email"), app_context(request)
    if complaints := email_errors(address, takes_local=ctx.settings.allow_local_email):
        raise InvalidInput({"new_email": complaints})
    await _charge_own_mail(request, limit("new_address", ctx.settings.limit_mail_to_target, address.identity))
    async with request_transaction(request, data, idempotency_key) as tx:
        await actions.request_email_change(tx, ctx.keys, verified, address=address, origin=client_info(request))


@post("/users/set_email_confirm", **takes(ActivationIn), **_ANYONE, summary="Confirm your new address")
@once
async def set_email_confirm(
    request: Request, data: JSONBody[ActivationIn], idempotency_key: IdempotencyKey = None
) -> None:
    """Take the address that a link was sent to. The one before is told by mail."""
    link = await _follow(request, "email_change", data.uid, data.token)
    async with request_transaction(request, data, idempotency_key) as tx:
        await actions.change_email(tx, link, origin=client_info(request))


def _compare(value: str, again: str | None, text: Text) -> None:
    if again is not None and again != value:
        raise InvalidInput({NON_FIELD: [text]})


HANDLERS = [
    activate,
    resend_activation,
    set_password,
    reset_password,
    reset_password_confirm,
    set_username,
    reset_username,
    reset_username_confirm,
    set_email,
    set_email_confirm,
]
