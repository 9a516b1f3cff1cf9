"""What must not be overlooked at the door."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from invitree.base.problems import Fields, Text

_MEANT = (
    "referralcode", "referral", "refcode", "ref", "code", "invite", "invitecode", "invitationcode", "promocode",
    "referrer", "referrercode", "referredby",
)  # fmt: skip
_CLOSE = 0.85


def misnamed_code_errors(names: Iterable[str]) -> Fields:
    """Return a complaint where a client may have meant `referral_code` by the name of an unknown field.

    It stands under `referral_code`: `code` is a member that every problem has.
    """
    for name in names:
        if _is_meant(re.sub("[^a-z]", "", name[:100].lower())):
            return {
                "referral_code": [
                    Text(
                        f"This field is called referral_code; {name[:100]} is not known here.",
                        f"Это поле называется referral_code; поля {name[:100]} здесь нет.",
                    )
                ]
            }
    return {}


def _is_meant(letters: str) -> bool:
    return letters in _MEANT or bool(get_close_matches(letters, ["referralcode"], cutoff=_CLOSE))
