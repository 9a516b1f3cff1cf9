"""Routes for deleting accounts."""

from typing import Annotated, Any

from litestar import delete
from litestar.params import JSONBody
from msgspec import Meta, Struct

from invitree.base.problems import NotFound, TooManyRequests, Unauthenticated
from invitree.identity.auth.guards import SIGNED_IN, actor_of, caller_of
from invitree.identity.users.guards import UserId, may_see, prove_password
from invitree.intake.closure.actions import delete_account
from invitree.kit.context import Request, app_context
from invitree.kit.web.body import VERBATIM, takes
from invitree.kit.web.responses import BODY, answers


class DeleteUserIn(Struct):
    """Proof that it is you."""

    current_password: Annotated[
        str, Meta(min_length=1, description="Your own.", examples=["correct horse battery"]), VERBATIM
    ]


async def delete_me(request: Request, data: JSONBody[DeleteUserIn]) -> None:
    """Delete your account. Every session and link, and your code, are dead when this answers.

    Your address and name are forgotten; the referrals stay, under a pseudonym. The address is free for a new sign-up.
    """
    await _delete(request, caller_of(request).user_id, data)


async def delete_user(request: Request, user_id: UserId, data: JSONBody[DeleteUserIn]) -> None:
    """Delete an account: your own, or any of the program for staff, with their own password. Another's is a 404."""
    may_see(request, user_id)
    await _delete(request, user_id, data)


async def _delete(request: Request, user_id: int, data: DeleteUserIn) -> None:
    verified = await prove_password(request, data.current_password)
    await delete_account(
        app_context(request),
        program_id=caller_of(request).program_id,
        user_id=user_id,
        actor=actor_of(request, user_id=user_id),
        verified=verified,
    )


_DELETE: dict[str, Any] = {
    **takes(DeleteUserIn),
    **SIGNED_IN,
    "status_code": 204,
    "response_description": "The account is gone.",
    "tags": ["Users"],
    "responses": answers(NotFound, TooManyRequests, Unauthenticated, *BODY),
}

HANDLERS = [
    delete("/users/me", summary="Delete your account", **_DELETE)(delete_me),
    delete("/users/{user_id:int}", summary="Delete a user", **_DELETE)(delete_user),
]
