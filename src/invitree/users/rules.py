"""What a username and a password may be."""

import re
import runpy
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from invitree.base.problems import Text

LONGEST_USERNAME = 150
SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 1024
_USERNAME = re.compile(r"[\w.@+-]+")  # as the seed's (django.contrib.auth): letters, digits and @ . + - _
_TOO_ALIKE = 0.7

BAD_EMAIL = Text("Enter a valid email address.", "Введите правильный адрес электронной почты.")
EMAIL_TAKEN = Text(
    "A user with that email already exists.", "Пользователь с таким адресом электронной почты уже существует."
)
USERNAME_TAKEN = Text("A user with that username already exists.", "Пользователь с таким именем уже существует.")
BAD_USERNAME = Text(
    "Enter a valid username. This value may contain only letters, numbers, and @/./+/-/_ characters.",
    "Введите правильное имя пользователя. Оно может содержать только буквы, цифры и знаки @/./+/-/_.",
)
INVALID_PASSWORD = Text("Invalid password.", "Неверный пароль.")
PASSWORDS_DIFFER = Text("The two password fields didn't match.", "Введённые пароли не совпадают.")
_TOO_SHORT = Text(
    f"This password is too short. It must contain at least {SHORTEST_PASSWORD} characters.",
    f"Введённый пароль слишком короткий. Он должен содержать как минимум {SHORTEST_PASSWORD} символов.",
)
_TOO_LONG = Text(
    f"This password is too long. It must contain at most {LONGEST_PASSWORD} characters.",
    f"Введённый пароль слишком длинный. Он должен содержать не более {LONGEST_PASSWORD} символов.",
)
_TOO_COMMON = Text("This password is too common.", "Введённый пароль слишком широко распространён.")
_LIKE_EMAIL = Text(
    "The password is too similar to the email.", "Введённый пароль слишком похож на адрес электронной почты."
)
_LIKE_USERNAME = Text(
    "The password is too similar to the username.", "Введённый пароль слишком похож на имя пользователя."
)


def clean_username(text: str) -> str | None:
    """Return a username in the form it is stored in (NFKC, as the seed's), or None where it is not one."""
    username = unicodedata.normalize("NFKC", text)
    return username if len(username) <= LONGEST_USERNAME and _USERNAME.fullmatch(username) else None


def name_key(username: str) -> str:
    """Return what attempts at a username are counted by: one key for all that people take for the same."""
    return unicodedata.normalize("NFKC", username).casefold().strip()


def password_complaints(password: str, *, email: str, username: str) -> Sequence[Text]:
    """Return every reason against a password; none means it is good."""
    if len(password) > LONGEST_PASSWORD:
        return [_TOO_LONG]
    checks = (
        (len(password) < SHORTEST_PASSWORD, _TOO_SHORT),
        (password.casefold() in common_passwords(), _TOO_COMMON),
        (_alike(password, email) or _alike(password, email.partition("@")[0]), _LIKE_EMAIL),
        (_alike(password, username), _LIKE_USERNAME),
    )
    return [text for wrong, text in checks if wrong]


@cache
def common_passwords() -> frozenset[str]:
    """Return the 30,000 passwords that are tried first (zxcvbn's list, from leaked databases)."""
    # The module alone: its package loads all that estimates how strong a password is, and nobody here asks.
    package = Path(find_spec("zxcvbn").origin)  # type: ignore[union-attr,arg-type]
    lists = runpy.run_path(str(package.with_name("frequency_lists.py")))["FREQUENCY_LISTS"]
    return frozenset(lists["passwords"])


def _alike(password: str, name: str) -> bool:
    password, name = password.casefold(), name.casefold()
    if len(name) < 3 or len(password) > 3 * len(name):
        return False  # too little in common to matter, and no time spent on long ones
    return SequenceMatcher(a=password, b=name).quick_ratio() >= _TOO_ALIKE
