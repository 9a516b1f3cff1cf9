"""Problems of requests with an Idempotency-Key."""

from invitree.base.problems import Problem


class IdempotencyKeyInUse(
    Problem,
    status=409,
    title="Under way",
    ru_title="Выполняется",
    ru="Запрос с этим Idempotency-Key ещё выполняется. Повторите его.",
):
    """A request with this Idempotency-Key is still under way. Send it again."""

    retry_after_s = 1


class IdempotencyKeyReused(
    Problem,
    status=422,
    title="Key of another request",
    ru_title="Ключ другого запроса",
    ru="Этот Idempotency-Key принадлежит другому запросу.",
):
    """This Idempotency-Key belongs to another request."""
