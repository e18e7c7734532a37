import csv
import math
import statistics
from pathlib import Path

from smolagents import tool


@tool
def column_stats(path: str, column: str) -> dict[str, float | None]:
    """Count, mean, median, minimum and maximum of one numeric column of a CSV file with a header.

    Args:
        path: The CSV file, relative to the workspace.
        column: The name of the column as it stands in the header.

    Returns:
        count, missing, mean, median, min and max; the last four are null without numbers.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {path!r}")
    with file.open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.reader(handle) if any(cell.strip() for cell in row)]
    header = [name.strip() for name in rows[0]] if rows else []
    if column.strip() not in header:
        raise KeyError(f"there is no column {column!r}; there are {header}")
    at = header.index(column.strip())
    cells = [row[at].strip() if at < len(row) else "" for row in rows[1:]]
    numbers = [_number(cell) for cell in cells if cell]
    return {
        "count": len(numbers),
        "missing": len(cells) - len(numbers),
        "mean": statistics.fmean(numbers) if numbers else None,
        "median": statistics.median(numbers) if numbers else None,
        "min": min(numbers, default=None),
        "max": max(numbers, default=None),
    }


def _number(cell: str) -> float:
    number = float(cell)
    if not math.isfinite(number) or "_" in cell:
        raise ValueError(f"{cell!r} is not a decimal number")
    return number
