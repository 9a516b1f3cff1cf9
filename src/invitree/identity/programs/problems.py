"""Problems of programs."""

from invitree.base.problems import Problem


class UnknownProgram(
    Problem,
    status=404,
    title="Unknown program",
    ru_title="Неизвестная программа",
    ru="Программы, названной в X-Program, не существует.",
):
    """There is no program of the name in X-Program."""
