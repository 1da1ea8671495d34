"""Budgets: what a task and all below it may cost together, and whether that is spent."""

from typing import NamedTuple

# Ten times 0.1 is to reach 1.0, though floating point falls short of it.
_LEAST_USD = 1e-9


class Budget(NamedTuple):
    """The budget of a task for it and all below it, with what was spent of it.

    A limit of None: there is none of this kind. ``is_spent`` is what was found last.
    """

    task_id: str
    max_cost_usd: float | None
    max_attempts: int | None
    cost_usd: float
    attempts: int
    is_spent: bool

    @property
    def exceeded(self) -> str:
        """What is spent, such as "cost_usd"; empty: nothing."""
        if self.max_cost_usd is not None and self.cost_usd >= self.max_cost_usd - _LEAST_USD:
            return "cost_usd"
        if self.max_attempts is not None and self.attempts >= self.max_attempts:
            return "attempts"
        return ""

    @property
    def spending(self) -> tuple[str, str]:
        """What was spent and the limit, of the kind that is spent or else that is limited."""
        if self.exceeded == "cost_usd" or self.max_attempts is None:
            return f"{self.cost_usd:.6g}", f"{self.max_cost_usd or 0:.6g}"
        return str(self.attempts), str(self.max_attempts)

    def __str__(self) -> str:
        """Such as "1.25 of 1 USD"."""
        spent, limit = self.spending
        is_cost = self.exceeded == "cost_usd" or self.max_attempts is None
        return f"{spent} of {limit} {'USD' if is_cost else 'failed attempts'}"
