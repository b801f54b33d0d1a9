"""The pages: one module each, with `FIELDS`, what its links know beside a scenario, and `page`, which shows it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class View:
    """A page: the name of its module and of its address, its title, its icon, and the question that it answers."""

    name: str
    title: str
    icon: str
    question: str

    @property
    def module(self) -> str:
        """The module that shows it."""
        return f"dashboard.views.{self.name}"


_PLANNED = (
    View("plan", "Plan", ":material/speed:", "How long, how much, does it fit, what limits it?"),
    View("compare", "Compare", ":material/compare_arrows:", "Which of several is better, and where do they differ?"),
    View("timeline", "Timeline", ":material/view_timeline:", "What happens when in a step, and what waits for what?"),
    View("search", "Search", ":material/search:", "Which plan is best, out of all of them?"),
    View("rent", "Rent", ":material/shopping_cart:", "What to rent, to finish by a date or within a budget?"),
    View("scale", "Scale", ":material/trending_up:", "What do more devices bring, and when is it too many?"),
    View("calibrate", "Calibrate", ":material/tune:", "What did my own machine show?"),
    View("evidence", "Evidence", ":material/fact_check:", "How far off are these answers?"),
    View("catalogue", "Catalogue", ":material/menu_book:", "What is known, and from where?"),
)


def views() -> tuple[View, ...]:
    """The pages that there are, in the order of the menu."""
    return tuple(view for view in _PLANNED if find_spec(view.module) is not None)
