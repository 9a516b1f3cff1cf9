"""Opaque tokens: what they look like, of whatever kind."""


def format_token(*, program_id: int, secret: str) -> str:
    """Return an opaque token: its program, which says where to look for it, and its secret."""
    return f"{program_id}.{secret}"


def program_id_of_token(token: str) -> int | None:
    """Return the program that an opaque token names, or None where it is not one of ours."""
    number, dot, secret = token.partition(".")
    well_formed = dot and number.isascii() and number.isdigit() and len(number) <= 18 and secret.isascii()
    return int(number) if well_formed and len(token) <= 200 else None


def is_drf_token(token: str) -> bool:
    """Return whether a token can be one of the Django service's, which were imported (rest_framework.authtoken)."""
    return len(token) == 40 and not token.strip("0123456789abcdef")
