"""The format of opaque tokens."""


def format_token(*, program_id: int, secret: str) -> str:
    """Return an opaque token: the id of its program, which tells where to look it up, and its secret."""
    return f"{program_id}.{secret}"


def program_id_of_token(token: str) -> int | None:
    """Return the program id in an opaque token, or None if the format is not ours."""
    number, dot, secret = token.partition(".")
    well_formed = dot and number.isascii() and number.isdigit() and len(number) <= 18 and secret.isascii()
    return int(number) if well_formed and len(token) <= 200 else None


def is_drf_token(token: str) -> bool:
    """Return whether a token has the format of Django REST framework's, which the import carries over."""
    return len(token) == 40 and not token.strip("0123456789abcdef")
