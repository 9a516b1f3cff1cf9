"""Problems of codes."""

from invitree.base.problems import Problem


class CodeActive(
    Problem,
    status=400,
    title="A live code exists",
    ru_title="Действующий код уже есть",
    ru="У вас уже есть действующий реферальный код.",
):
    """You already have an active referral code."""


class CodeNotFound(
    Problem,
    status=404,
    title="No referral code",
    ru_title="Нет реферального кода",
    ru="Действующий реферальный код не найден.",
):
    """No active referral code was found."""

    traced = False


class EmailNotConfirmed(
    Problem,
    status=403,
    title="Address not confirmed",
    ru_title="Адрес не подтверждён",
    ru="Сначала подтвердите свой адрес электронной почты.",
):
    """Confirm your e-mail address first."""
