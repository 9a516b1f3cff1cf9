"""What must not be overlooked at the door."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from invitree.base.problems import Fields, Text

_DID_YOU_MEAN = Text("Did you mean referral_code?", "Возможно, имелось в виду referral_code?")
_MEANT = (
    "referralcode", "referral", "refcode", "ref", "code", "invite", "invitecode", "invitationcode", "promocode",
    "referrer", "referrercode", "referredby",
)  # fmt: skip
_CLOSE = 0.85


def missed_code(names: Iterable[str]) -> Fields:
    """Return a complaint for each unknown field by whose name a client may have meant `referral_code`."""
    return {name[:100]: [_DID_YOU_MEAN] for name in names if _is_meant(re.sub("[^a-z]", "", name[:100].lower()))}


def _is_meant(letters: str) -> bool:
    return letters in _MEANT or bool(get_close_matches(letters, ["referralcode"], cutoff=_CLOSE))
