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
    neighbours: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for one, other, length in roads:
        if length < 0:
            raise ValueError(f"the road from {one} to {other} has the negative length {length}")
        neighbours[one].append((other, length))
        neighbours[other].append((one, length))
    for place in (start, end):
        if place not in neighbours:
            raise KeyError(f"{place!r} stands in no road")
    queue = [(0, [start])]
    settled = set()
    while queue:
        distance, stops = heapq.heappop(queue)
        here = stops[-1]
        if here == end:
            return {"distance": distance, "stops": stops}
        if here in settled:
            continue
        settled.add(here)
        for there, length in neighbours[here]:
            if there not in settled:
                heapq.heappush(queue, (distance + length, [*stops, there]))
    return None
