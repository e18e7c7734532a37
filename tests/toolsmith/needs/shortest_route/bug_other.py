import heapq
from collections import defaultdict

from smolagents import tool


@tool
def shortest_route(roads: list[list], start: str, end: str) -> dict | None:
    """Find the shortest way between two places in a net of two-way roads.

    Args:
        roads: Roads as [place, place, length].
        start: Where the way begins.
        end: Where it ends.

    Returns:
        distance and stops, or null when there is no way.
    """
    neighbours: dict[str, dict[str, int]] = defaultdict(dict)
    for one, other, length in roads:
        if length < 0:
            raise ValueError(f"the road from {one} to {other} has the negative length {length}")
        neighbours[one][other] = length
        neighbours[other][one] = length
    for place in (start, end):
        if place not in neighbours:
            raise KeyError(f"{place!r} stands in no road")
    queue = [(0, 1, [start])]
    settled = set()
    while queue:
        distance, count, stops = heapq.heappop(queue)
        here = stops[-1]
        if here == end:
            return {"distance": distance, "stops": stops}
        if here in settled:
            continue
        settled.add(here)
        for there, length in neighbours[here].items():
            if there not in settled:
                heapq.heappush(queue, (distance + length, count + 1, [*stops, there]))
    return None
