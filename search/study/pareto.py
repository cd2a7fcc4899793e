"""Pareto fronts of points, and the hypervolume that points dominate."""

from collections.abc import Sequence


def find_pareto_front(scores: Sequence[float], costs: Sequence[tuple[float, ...]]) -> list[int]:
    """Return the indices of the points that no other dominates, best score first.

    A point dominates another if no score or cost of it is worse and at least one is better. Of several equal points
    only the first is kept.
    """
    front: list[int] = []
    for i in sorted(
        range(len(scores)), key=lambda i: (-scores[i], costs[i])
    ):  # a point comes after those that dominate it
        if not any(all(a <= b for a, b in zip(costs[j], costs[i], strict=True)) for j in front):
            front.append(i)
    return front


def compute_hypervolume(points: Sequence[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """Return the hypervolume between points, all coordinates of which are minimised, and a worse reference point.

    Coordinates beyond the reference are clipped to it. Slices along the first coordinate are summed.

    Source: Zitzler and Thiele 1998, doi:10.1007/BFb0056872.
    """
    bounded = sorted(tuple(map(min, point, reference)) for point in points)
    if len(reference) == 1:
        return reference[0] - min(bounded, default=reference)[0]
    ends = [*(point[0] for point in bounded[1:]), reference[0]]
    slices = ([p[1:] for p in bounded[: i + 1]] for i in range(len(bounded)))
    return sum(
        (end - point[0]) * compute_hypervolume(below, reference[1:])
        for point, end, below in zip(bounded, ends, slices, strict=False)
    )
