"""What several rooms show of users."""

from typing import Annotated

from msgspec import Meta, Struct

from invitree.identity.auth.store import UserSession
from invitree.identity.users.store import User


class UserOut(Struct):
    """A user, as the user sees it."""

    email: Annotated[str, Meta(examples=["alice@example.com"])]
    id: Annotated[int, Meta(examples=[42])]
    username: Annotated[str, Meta(examples=["alice"])]

    @classmethod
    def of(cls, user: User) -> "UserOut":
        """Return a user as the user sees it."""
        return cls(email=user.email, id=user.id, username=user.username)

    @classmethod
    def of_caller(cls, caller: UserSession) -> "UserOut":
        """Return the user whom a request is made by."""
        return cls(email=caller.email, id=caller.user_id, username=caller.username)
