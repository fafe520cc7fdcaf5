"""The decisions of a simulated run: random ones, and the fewest of them that break it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

Choose = Callable[[int], int]
Scenario = Callable[[Choose], None]

_MOST_REPLAYS = 1500


def play(scenario: Scenario, seed: int) -> None:
    """
    Play a scenario with random decisions.

    :raises AssertionError: if it fails; with the trace of a short way to the failure.
    """
    random, chosen = Random(seed), []

    def choose(count: int) -> int:
        chosen.append(random.randrange(count))
        return chosen[-1]

    try:
        scenario(choose)
    except AssertionError:
        choices = reduce(scenario, chosen)
        replay(scenario, choices)
        raise


def replay(scenario: Scenario, choices: Sequence[int]) -> None:
    """Play a scenario with given decisions, and harmless ones after these."""
    left = iter(choices)
    scenario(lambda count: min(next(left, 0), count - 1))


def reduce(scenario: Scenario, choices: Sequence[int]) -> list[int]:
    """Return decisions with which a scenario still fails: fewer ones, and more harmless ones."""
    best, replays, size = list(choices), 0, len(choices)
    while size and replays < _MOST_REPLAYS:
        start = 0
        while start < len(best) and replays < _MOST_REPLAYS:
            before, part, after = best[:start], best[start : start + size], best[start + size :]
            candidates = [before + after] + [before + [0] * len(part) + after] * any(part)
            replays += len(candidates)
            shorter = next((candidate for candidate in candidates if _fails(scenario, candidate)), None)
            best = shorter if shorter is not None else best
            start += 0 if shorter == candidates[0] else size
        size //= 2
    return best


def _fails(scenario: Scenario, choices: Sequence[int]) -> bool:
    try:
        replay(scenario, choices)
    except AssertionError:
        return True
    return False
