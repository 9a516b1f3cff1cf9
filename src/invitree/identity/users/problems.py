"""Problems of users and logging in."""

from invitree.base.problems import Problem


class InvalidCredentials(
    Problem,
    status=400,
    title="Invalid credentials",
    ru_title="Неверные учётные данные",
    ru="Не удалось войти с предоставленными учётными данными.",
):
    """Unable to log in with provided credentials."""


class NoActiveAccount(
    Problem,
    status=401,
    title="No active account",
    ru_title="Нет активной учётной записи",
    ru="Не найдено активной учётной записи с указанными данными.",
):
    """No active account found with the given credentials"""
