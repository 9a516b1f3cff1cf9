"""Routes for referrals."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from litestar import Response, get
from litestar.params import PathParameter
from msgspec import Meta, Struct

from invitree.base.emails import masked
from invitree.base.problems import InvalidInput, NotFound, Unauthenticated
from invitree.identity.auth.guards import FROM_MEMORY, SIGNED_IN, caller_of, program_of
from invitree.kit.context import Request, app_context
from invitree.kit.web.paging import LARGEST_ID, LINK, After, Limit, is_plain_id, page, refuse_other_paging
from invitree.kit.web.responses import answers
from invitree.sharing.referrals import store
from invitree.sharing.referrals.store import Person

UserId = Annotated[int, PathParameter(description="A user's id.", schema_extra={"minimum": 1})]


class ReferralOut(Struct):
    """Somebody at the other end of a referral."""

    email: Annotated[str, Meta(description="Masked (`b***@e***.com`) for those who may not see it.")]
    id: int
    registered_at: datetime

    @classmethod
    def of(cls, person: Person, *, openly: bool) -> "ReferralOut":
        """Return a person as whoever asks may see them."""
        email = person.email if openly else masked(person.email_key)
        return cls(email=email, id=person.user_id, registered_at=person.registered_at)


@get(
    "/{referrer_id:int}",
    opt={FROM_MEMORY: None},
    summary="Whom a user brought",
    response_description="A page of referrals, newest first.",
    tags=["Referrals"],
    responses=answers(InvalidInput, NotFound, Unauthenticated),
    response_headers=[LINK],
    **SIGNED_IN,
)
async def list_referrals(
    request: Request,
    referrer_id: UserId,
    limit: Limit = 20,
    after: After = LARGEST_ID,
) -> Response[Sequence[ReferralOut]]:
    """Return those who registered with this user's codes, newest first.

    The user and staff see addresses. Others see them masked or, where the program's policy is `owner_only`, get a 404.
    """
    caller, db = caller_of(request), app_context(request).db
    refuse_other_paging(request)
    openly = caller.sees_all_of(referrer_id)
    if not is_plain_id(referrer_id, request):
        raise NotFound
    if not openly and (await program_of(request)).referral_list == "owner_only":
        raise NotFound
    people = await store.list_referrals(
        db, program_id=caller.program_id, referrer_id=referrer_id, before=after, limit=limit + 1
    )
    if not people and not await store.is_member(db, program_id=caller.program_id, user_id=referrer_id):
        raise NotFound
    return page(people, limit, lambda person: ReferralOut.of(person, openly=openly), key="referral_id")


@get(
    "/{referrer_id:int}/referrer",
    summary="Who brought a user",
    response_description="The referrer.",
    tags=["Referrals"],
    responses=answers(NotFound, Unauthenticated),
    **SIGNED_IN,
)
async def get_referrer(request: Request, referrer_id: UserId) -> ReferralOut:
    """Return who brought this user: for the user, with the address masked, and for staff."""
    caller = caller_of(request)
    if not caller.sees_all_of(referrer_id) or not is_plain_id(referrer_id, request):
        raise NotFound
    referrer = await store.find_referrer(app_context(request).db, program_id=caller.program_id, referee_id=referrer_id)
    if referrer is None:
        raise NotFound
    return ReferralOut.of(referrer, openly=caller.is_staff)


HANDLERS = [list_referrals, get_referrer]
