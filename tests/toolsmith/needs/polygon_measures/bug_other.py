import math

from smolagents import tool


@tool
def polygon_measures(points: list[list[float]]) -> dict[str, float | str]:
    """Area, perimeter and orientation of a polygon given by its corners.

    Args:
        points: The corners in their order, each [x, y].

    Returns:
        area, perimeter and orientation.
    """
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(map(_is_number, point)):
            raise ValueError(f"a corner is a pair of numbers, not {point!r}")
    if len(points) < 3:
        raise ValueError(f"a polygon has at least three corners, not {len(points)}")
    corners = points[:-1] if points[0] == points[-1] else points
    sides = list(zip(corners, corners[1:] + corners[:1], strict=True))
    twice = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in sides)
    orientation = "none" if twice == 0 else "counterclockwise" if twice > 0 else "clockwise"
    return {
        "area": abs(twice) / 2,
        "perimeter": math.fsum(math.dist(one, other) for one, other in sides),
        "orientation": orientation,
    }


def _is_number(part: object) -> bool:
    return isinstance(part, int | float) and not isinstance(part, bool)
