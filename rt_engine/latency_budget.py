"""How long each stage may take, and whether it did; owns no clock."""

from collections.abc import Mapping

STAGES = ("transport", "wait", "extract", "infer", "field", "publish")
"""On a map's way, in their order; `transport` depends on how the amplifier stamps its samples."""

TOTAL = "engine"
"""From the last needed sample in the engine's hands to the message handed over."""

DEFAULT_BUDGET_MS = {"wait": 20.0, "extract": 10.0, "infer": 20.0, "field": 10.0, "publish": 10.0, TOTAL: 30.0}
"""Several times what a pulse takes on a computer with nothing else to do; see docs/realtime.md."""

PULSES_TO_RECOVER = 10
"""So many pulses in a row must be within the budget before a session counts as in time again."""


class LatencyBudget:
    """Watches the latency of each pulse's map against a budget.

    Parameters
    ----------
    budget_ms
        Stage, or ``engine`` for the total -> ms; stages that are not named may take what they want.
    """

    def __init__(self, budget_ms: Mapping[str, float]) -> None:
        self.budget_ms = dict(budget_ms)
        self._over = ""
        self._stages: frozenset[str] = frozenset()
        self._in_time = 0
        self.n_over = 0

    @property
    def trouble(self) -> str:
        """What took too long, for people; empty once enough pulses in a row were in time."""
        return self._over

    def take(self, stages_us: Mapping[str, float], total_us: float) -> None:
        """Take in one pulse.

        Parameters
        ----------
        stages_us
            Time per stage, microseconds.
        total_us
            All of the engine's share, microseconds.
        """
        spent = {**stages_us, TOTAL: total_us}
        over = [name for name, limit in self.budget_ms.items() if spent.get(name, 0.0) > limit * 1e3]
        if over:
            self.n_over += 1
            self._in_time = 0
            if self._over and self._stages.issuperset(over):
                return  # said already; new numbers with each pulse would be noise
            self._stages |= set(over)
            told = [f"{name} took {spent[name] / 1e3:.1f} ms of {self.budget_ms[name]:g} ms" for name in over]
            if over == [TOTAL]:
                slowest = max(stages_us, key=lambda name: 0.0 if name == STAGES[0] else stages_us[name], default="")
                told += [f"most of it {slowest} ({stages_us[slowest] / 1e3:.1f} ms)"] if slowest else []
            self._over = "over the latency budget: " + ", ".join(told)
        elif self._over:
            self._in_time += 1
            if self._in_time >= PULSES_TO_RECOVER:
                self._over, self._stages = "", frozenset()
