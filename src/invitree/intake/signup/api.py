"""Routes for signing up."""

from collections.abc import Mapping
from typing import Annotated, Any

from litestar import post
from msgspec import Meta, Struct

from invitree.base.emails import parse_email
from invitree.base.problems import NON_FIELD, Fields, InvalidInput, TooManyRequests, Unauthenticated
from invitree.identity.auth.guards import PUBLIC, program_of
from invitree.identity.idempotency.guards import REPEATABLE, IdempotencyKey, once, request_transaction
from invitree.identity.programs.problems import UnknownProgram
from invitree.identity.users.actions import validate_new_user
from invitree.identity.users.rules import PASSWORDS_DIFFER, account_errors
from invitree.identity.users.schemas import UserOut
from invitree.intake.signup.actions import sign_up
from invitree.intake.signup.rules import misnamed_code_errors
from invitree.kit.client_info import client_info
from invitree.kit.context import Request, app_context
from invitree.kit.limits.rate_limiter import limit
from invitree.kit.web.body import json_body, takes
from invitree.kit.web.responses import BODY, answers


class SignUpIn(Struct):
    """A new user."""

    email: Annotated[str, Meta(min_length=1, max_length=254, examples=["bob@example.com"])]
    username: Annotated[str, Meta(min_length=1, max_length=150, examples=["bob"])]
    password: Annotated[
        str,
        Meta(
            min_length=1,
            description="8 to 1,024 characters, hard to guess, not like the e-mail or username.",
            examples=["correct horse battery"],
        ),
    ]
    re_password: Annotated[str, Meta(description="The password again, to be compared.")] | None = None
    referral_code: (
        Annotated[
            str,
            Meta(
                description="The code of whoever brought this user, as it was typed or pasted.",
                examples=["7K3M9XQ2AB"],
            ),
        ]
        | None
    ) = None

    @classmethod
    def check(cls, fields: Mapping[str, Any]) -> Fields:
        """Return errors beyond types: a code under a wrong field name, which must not be ignored silently.

        If a field is missing or has a wrong type, errors in the other fields are included too.
        """
        complaints = misnamed_code_errors(
            name for name, value in fields.items() if value and name not in cls.__struct_fields__
        )
        if {"email", "username", "password"} <= fields.keys():
            return complaints
        return {**complaints, **account_errors(fields)}


@post(
    "/users",
    **takes(SignUpIn),
    summary="Sign up",
    response_description="The new user.",
    tags=["Users"],
    responses=answers(TooManyRequests, Unauthenticated, UnknownProgram, *REPEATABLE, *BODY),
    **PUBLIC,
)
@once
async def register(
    request: Request,
    data: Annotated[
        SignUpIn,
        json_body(
            without_a_code={"email": "alice@example.com", "username": "alice", "password": "correct horse battery"},
            with_a_code={
                "email": "bob@example.com",
                "username": "bob",
                "password": "correct horse battery",
                "referral_code": "7K3M9XQ2AB",
            },
        ),
    ],
    idempotency_key: IdempotencyKey = None,
) -> UserOut:
    """Make a new user, with or without a referral code.

    With a code, the user and the referral are written together. An unknown, expired or deleted code is refused, and
    then there is no user. Where the program asks for confirmed addresses (`activation`), the user cannot log in before
    following the link that is sent there.
    """
    if data.re_password is not None and data.re_password != data.password:
        raise InvalidInput({NON_FIELD: [PASSWORDS_DIFFER]})
    ctx, program, client = app_context(request), await program_of(request), client_info(request)
    await ctx.throttle.charge(request, program.id, limit("register", ctx.settings.limit_register, client.network))
    if program.activation == "required" and (address := parse_email(data.email)):
        # Limits of their own, so that sign-ups with variants of an address cannot use up its owner's password resets.
        await ctx.throttle.charge(
            request,
            program.id,
            limit("signup_mail", ctx.settings.limit_mail_by_target, client.network, address.identity),
            limit("signup_mail_to_target", ctx.settings.limit_mail_to_target, address.identity),
        )
    new_user = await validate_new_user(
        ctx.hasher,
        email=data.email,
        username=data.username,
        password=data.password,
        program=program,
        takes_local_email=ctx.settings.allow_local_email,
        lane=client.lane,
    )
    async with request_transaction(request, data, idempotency_key) as tx:
        user = await sign_up(
            tx, ctx.keys, program=program, new_user=new_user, referral_code=data.referral_code, origin=client
        )
        tx.answer = shown = UserOut.of(user)
    return shown


HANDLERS = [register]
