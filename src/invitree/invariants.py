"""What must always hold of the data: the rooms' invariants, and those of all rooms together."""

from invitree.kit.data.invariants import Invariant
from invitree.rooms import ROOMS

INVARIANTS = (
    *(invariant for room in ROOMS for invariant in room.invariants),
    Invariant(
        "I9",
        "no row points into another program, or at nothing",
        # From the top, so that among the first examples is what is pointed at, too.
        " UNION ALL ".join(query for room in reversed(ROOMS) for query in room.references),
    ),
    Invariant(
        "I10",
        "an acknowledged write survives a crash: commits wait for the disk",
        """
        SELECT name, setting FROM pg_settings
        WHERE (name = 'fsync' AND setting <> 'on') OR (name = 'synchronous_commit' AND setting = 'off')
        """,
    ),
)
