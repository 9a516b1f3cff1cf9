"""Problems of links in emails."""

from invitree.base.problems import Problem


class StaleToken(
    Problem,
    status=403,
    title="Already active",
    ru_title="Уже активирован",
    ru="Этот пользователь уже активирован.",
):
    """Stale token for given user."""
