"""Rules for sign-up: detecting a misnamed referral code."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from invitree.base.problems import Fields, Text

_LOOKS_LIKE_CODE = (
    "referralcode", "referral", "refcode", "ref", "code", "invite", "invitecode", "invitationcode", "promocode",
    "referrer", "referrercode", "referredby",
)  # fmt: skip
_MIN_SIMILARITY = 0.85


def misnamed_code_errors(names: Iterable[str]) -> Fields:
    """Return an error if an unknown field's name looks like `referral_code`.

    The error is keyed by `referral_code`, because every problem has a member `code`.
    """
    for name in names:
        if _looks_like_code(re.sub("[^a-z]", "", name[:100].lower())):
            return {
                "referral_code": [
                    Text(
                        f"This field is called referral_code; {name[:100]} is not known here.",
                        f"Это поле называется referral_code; поля {name[:100]} здесь нет.",
                    )
                ]
            }
    return {}


def _looks_like_code(letters: str) -> bool:
    return letters in _LOOKS_LIKE_CODE or bool(get_close_matches(letters, ["referralcode"], cutoff=_MIN_SIMILARITY))
