"""Checks that routes of several rooms make: whose password it is, with limits, and who may see whom."""

from collections.abc import Sequence
from typing import Annotated

from litestar.params import PathParameter

from invitree.base.problems import InvalidInput, NotFound, TooManyRequests, Unavailable
from invitree.identity.audit.store import Actor, insert_event
from invitree.identity.auth.guards import caller_of
from invitree.identity.users.actions import Login, VerifiedPassword, check_password, is_familiar_network
from invitree.identity.users.rules import INVALID_PASSWORD
from invitree.kit.client_info import client_info
from invitree.kit.context import Request, app_context
from invitree.kit.limits.rate_limiter import Limit as Budget
from invitree.kit.limits.rate_limiter import limit as budget
from invitree.kit.web.paging import is_plain_id

UserId = Annotated[int, PathParameter(description="A user's id.", schema_extra={"minimum": 1})]


def may_see(request: Request, user_id: int) -> None:
    """Let the user and staff through. Raises NotFound for everybody else: who exists is not their business."""
    if not caller_of(request).sees_all_of(user_id) or not is_plain_id(user_id, request):
        raise NotFound


async def prove_password(request: Request, password: str) -> VerifiedPassword:
    """Let through whoever knows the password of the account that this request is made with.

    Raises InvalidInput on `current_password`, and TooManyRequests: a stolen token must not help to guess. What others
    fail at with the account's name does not count here, nor what a thief does in another session.
    """
    caller, ctx = caller_of(request), app_context(request)
    own = budget("password", ctx.settings.limit_login, str(caller.user_id), str(caller.session_id))
    await ctx.throttle.charge(request, caller.program_id, own)
    login = Login(user_id=caller.user_id, email=caller.email)
    verified = await _try(request, caller.program_id, login, password, own)
    if verified is None:
        raise InvalidInput({"current_password": [INVALID_PASSWORD]})
    return verified


async def prove_login(request: Request, program_id: int, login: Login, password: str) -> VerifiedPassword | None:
    """Try a password, counting the attempt before it is made, and as a failure not at all where it succeeds."""
    ctx, origin, name = app_context(request), client_info(request), login.name
    ctx.tally.count(
        request.scope,
        program_id,
        budget("logins", ctx.settings.limit_logins, origin.network, name),
        budget("logins_by_ip", ctx.settings.limit_logins_by_ip, origin.network),
    )
    charged = await charge(
        request,
        program_id,
        login,
        budget("login", ctx.settings.limit_login, origin.network, name),
        budget("login_by_ip", ctx.settings.limit_login_by_ip, origin.network),
        anywhere=budget("login_by_name", ctx.settings.limit_login_by_name, name),
    )
    return await _try(request, program_id, login, password, *charged)


async def charge(request: Request, program_id: int, login: Login, *own: Budget, anywhere: Budget) -> Sequence[Budget]:
    """Count something that concerns an account: `own` limits are of who asks, `anywhere` of all who do.

    A network from which somebody has logged in to the account before has an `anywhere` of its own, so that strangers
    cannot use it up for the owner. Return what was charged. Raises TooManyRequests.
    """
    ctx, ip_prefix = app_context(request), client_info(request).ip_prefix
    try:
        await ctx.throttle.charge(request, program_id, *own, anywhere)
    except TooManyRequests:
        if not await is_familiar_network(ctx.db, program_id=program_id, login=login, ip_prefix=ip_prefix):
            raise
    else:
        return [*own, anywhere]
    familiar = Budget(scope=f"{anywhere.scope}_here", key=f"{anywhere.key}\n{ip_prefix}", rate=anywhere.rate)
    await ctx.throttle.charge(request, program_id, *own, familiar)
    return [*own, familiar]


async def _try(
    request: Request, program_id: int, login: Login, password: str, first: Budget, *others: Budget
) -> VerifiedPassword | None:
    ctx, origin = app_context(request), client_info(request)
    try:
        attempt = await check_password(ctx, program_id=program_id, login=login, password=password, lane=origin.lane)
    except Unavailable:
        await ctx.throttle.refund(program_id, first, *others)
        raise
    if isinstance(attempt, VerifiedPassword):
        # Whoever has a plus variant of somebody's address must not clear what they failed at with that one.
        if login.is_plain:
            await ctx.throttle.clear(request, program_id, first, *others)
        else:
            await ctx.throttle.refund(program_id, first, *others)
        return attempt
    actor = Actor(actor="unknown", ip_prefix=origin.ip_prefix)
    await insert_event(ctx.db, program_id=program_id, kind="login.failed", user_id=attempt.user_id, actor=actor)
    return None
