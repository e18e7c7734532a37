import csv
import io
import os
import re

from smolagents import tool

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


class Column:
    """The numbers of one column, gathered cell by cell."""

    def __init__(self) -> None:
        self.numbers: list[float] = []
        self.missing = 0

    def add(self, cell: str) -> None:
        """Take one more cell."""
        cell = cell.strip()
        if not cell:
            self.missing += 1
        elif NUMBER.fullmatch(cell) and abs(float(cell)) != float("inf"):
            self.numbers.append(float(cell))
        else:
            raise ValueError(f"the cell {cell!r} is no number")

    def summary(self) -> dict[str, float | None]:
        """What is known of the column."""
        numbers = sorted(self.numbers)
        count = len(numbers)
        told: dict[str, float | None] = {"count": count, "missing": self.missing}
        if not count:
            return told | dict.fromkeys(("mean", "median", "min", "max"))
        low, high = numbers[(count - 1) // 2], numbers[count // 2]
        return told | {
            "mean": sum(numbers) / count,
            "median": (low + high) / 2,
            "min": numbers[0],
            "max": numbers[-1],
        }


@tool
def column_stats(path: str, column: str) -> dict[str, float | None]:
    """Statistics of one numeric column of a CSV file with a header.

    Args:
        path: The CSV file, relative to the workspace.
        column: The name of the column.

    Returns:
        An object with count, missing, mean, median, min and max.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(path)
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(io.StringIO(file.read(), newline=""))
        header = next((row for row in reader if row), [])
        places = {name.strip(): place for place, name in reversed(list(enumerate(header)))}
        place = places[column.strip()]
        gathered = Column()
        for row in reader:
            if row:
                gathered.add(row[place] if place < len(row) else "")
    return gathered.summary()
