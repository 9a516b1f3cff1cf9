"""The list of rooms: a new room adds its folder, its tests, and one line here."""

from invitree.faces.account.room import ROOM as ACCOUNT
from invitree.faces.home.room import ROOM as HOME
from invitree.faces.operations.room import ROOM as OPERATIONS
from invitree.identity.audit.room import ROOM as AUDIT
from invitree.identity.auth.room import ROOM as AUTH
from invitree.identity.email.room import ROOM as EMAIL
from invitree.identity.idempotency.room import ROOM as IDEMPOTENCY
from invitree.identity.programs.room import ROOM as PROGRAMS
from invitree.identity.recovery.room import ROOM as RECOVERY
from invitree.identity.users.room import ROOM as USERS
from invitree.imports.django.room import ROOM as DJANGO
from invitree.intake.closure.room import ROOM as CLOSURE
from invitree.intake.signup.room import ROOM as SIGNUP
from invitree.sharing.codes.room import ROOM as CODES
from invitree.sharing.referrals.room import ROOM as REFERRALS

ROOMS = (
    PROGRAMS,
    AUDIT,
    AUTH,
    EMAIL,
    IDEMPOTENCY,
    USERS,
    RECOVERY,
    CODES,
    REFERRALS,
    SIGNUP,
    CLOSURE,
    DJANGO,
    OPERATIONS,
    ACCOUNT,
    HOME,
)
