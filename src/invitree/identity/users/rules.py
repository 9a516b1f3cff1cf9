"""What a username and a password may be."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from invitree.base.emails import Email, parse_email
from invitree.base.problems import Fields, Text
from invitree.base.strength import weakness

LONGEST_USERNAME = 150
SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 1024
_USERNAME = re.compile(r"[\w.@+-]+")  # as the seed's (django.contrib.auth): letters, digits and @ . + - _
_TOO_ALIKE = 0.7

BAD_EMAIL = Text("Enter a valid email address.", "Введите правильный адрес электронной почты.")
_LOCAL_EMAIL = Text(
    "Mail cannot reach this domain. Enter an address at a public one.",
    "Письма в этот домен не доходят. Введите адрес в общедоступном домене.",
)
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
_ALL_DIGITS = Text("This password is entirely numeric.", "Введённый пароль состоит только из цифр.")
_LIKE_EMAIL = Text(
    "The password is too similar to the email.", "Введённый пароль слишком похож на адрес электронной почты."
)
_LIKE_USERNAME = Text(
    "The password is too similar to the username.", "Введённый пароль слишком похож на имя пользователя."
)


def account_errors(fields: Mapping[str, Any]) -> Fields:
    """Return what is wrong with those of a new account's fields that are there."""
    email, username = fields.get("email"), fields.get("username") or ""
    address, password = parse_email(email or ""), fields.get("password")
    key = address.key if address else ""
    complaints: dict[str, Sequence[Text]] = {
        "email": [BAD_EMAIL] if email is not None and address is None else [],
        "username": [BAD_USERNAME] if username and clean_username(username) is None else [],
        "password": password_errors(password, email=key, username=username, program="") if password else [],
    }
    return {field: texts for field, texts in complaints.items() if texts}


def email_errors(email: Email | None, *, takes_local: bool) -> Sequence[Text]:
    """Return what is wrong with a new address; `takes_local` lets those be that no mail from outside can reach."""
    if email is None:
        return [BAD_EMAIL]
    return [_LOCAL_EMAIL] if email.is_local and not takes_local else []


def clean_username(text: str) -> str | None:
    """Return a username in the form it is stored in (NFKC, as the seed's), or None where it is not one."""
    username = unicodedata.normalize("NFKC", text.strip())
    return username if len(username) <= LONGEST_USERNAME and _USERNAME.fullmatch(username) else None


def name_key(username: str) -> str:
    """Return what attempts at a username are counted by: one key for all that people take for the same."""
    return unicodedata.normalize("NFKC", username).casefold().strip()


def clean_password(text: str) -> str:
    """Return a password in the form it is hashed in: without the white space that autofill and paste put around it, as
    Django REST framework takes it, and with one spelling (NFC) for a letter that keyboards send in two."""
    return unicodedata.normalize("NFC", text.strip())


def password_attempts(text: str) -> Sequence[str]:
    """Return what to try for a password that somebody typed, once each.

    Hashes from before passwords were cleaned, and those from Django, are of what was sent. How many there are depends
    on what was typed alone, and so tells nothing of the account.
    """
    return list(dict.fromkeys([clean_password(text), text.strip(), text]))


def password_errors(password: str, *, email: str, username: str, program: str) -> Sequence[Text]:
    """Return every reason against a cleaned password, with advice; none means it is good."""
    if len(password) > LONGEST_PASSWORD:
        return [_TOO_LONG]
    checks = (
        (len(password) < SHORTEST_PASSWORD, _TOO_SHORT),
        (password.isdigit(), _ALL_DIGITS),
        (_alike(password, email) or _alike(password, email.partition("@")[0]), _LIKE_EMAIL),
        (_alike(password, username), _LIKE_USERNAME),
    )
    personal = [part for part in (username, email, *email.split("@"), program) if part]
    return [*(text for wrong, text in checks if wrong), *weakness(password, personal=personal)]


def _alike(password: str, name: str) -> bool:
    password, name = password.casefold(), name.casefold()
    if len(name) < 3 or len(password) > 3 * len(name):
        return False  # too little in common to matter, and no time spent on long ones
    return SequenceMatcher(a=password, b=name).quick_ratio() >= _TOO_ALIKE


def same_address(one: str, other: str) -> bool:
    """Return whether two texts are one address, however it is spelled."""
    first, second = parse_email(one), parse_email(other)
    return one == other or (first is not None and second is not None and first.key == second.key)
