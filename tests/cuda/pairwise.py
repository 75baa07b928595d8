"""Combinations of settings: all of them, or few that hold each pair of values at least once."""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Case = dict[str, Any]
Values = Mapping[str, Sequence[Any]]


def every(values: Values, allowed: Callable[[Case], bool] = lambda case: True) -> list[Case]:
    """All combinations that are allowed."""
    cases = (dict(zip(values, each, strict=True)) for each in product(*values.values()))
    return [case for case in cases if allowed(case)]


def many(values: Values, allowed: Callable[[Case], bool] = lambda case: True, most: int = 500) -> list[Case]:
    """All combinations that are allowed, or as many of them, the same at each call."""
    cases = every(values, allowed)
    return cases if len(cases) <= most else random.Random(0).sample(cases, most)


def pairs_of(case: Case) -> set[tuple[tuple[str, Any], tuple[str, Any]]]:
    """The pairs of values that a combination holds."""
    return set(combinations(case.items(), 2))


def pairwise(values: Values, allowed: Callable[[Case], bool] = lambda case: True) -> list[Case]:
    """Few of the allowed combinations, the same at each call, that hold every pair that any of them holds.

    Each is the first of those that hold most of the pairs that are left.
    """
    bits: dict[Any, int] = {}
    left = [
        (case, sum(1 << bits.setdefault(pair, len(bits)) for pair in pairs_of(case))) for case in every(values, allowed)
    ]
    missing, chosen = (1 << len(bits)) - 1, []
    while missing:
        left = [each for each in left if each[1] & missing]
        case, pairs = max(left, key=lambda each: (each[1] & missing).bit_count())
        chosen.append(case)
        missing &= ~pairs
    return chosen
