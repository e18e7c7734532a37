import csv
from pathlib import Path

from smolagents import tool


@tool
def join_tables(left: str, right: str, key: str, output: str, kind: str = "inner") -> int:
    """Join two CSV files by a column that both have and write the result as a new CSV file.

    Args:
        left: The first CSV file.
        right: The second CSV file.
        key: The column that both have.
        output: The file to write.
        kind: inner or left.

    Returns:
        How many rows were written, without the header.
    """
    if kind not in ("inner", "left"):
        raise ValueError(f"kind is {kind!r}, but must be inner or left")
    left_names, left_rows = _read(left, key)
    right_names, right_rows = _read(right, key)
    others = [name for name in right_names if name != key]
    partners: dict[str, list[dict[str, str]]] = {}
    for row in right_rows:
        partners.setdefault(row[key], []).append(row)
    joined = []
    for row in left_rows:
        found = partners.get(row[key], [{}] if kind == "left" else [])
        for partner in found:
            merged = {**row, **{name: partner.get(name, "") for name in others}}
            joined.append([merged[name] for name in [*left_names, *others]])
    header = [*left_names, *(f"{name}_right" if name in left_names else name for name in others)]
    with Path(output).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *joined])
    return len(joined)


def _read(path: str, key: str) -> tuple[list[str], list[dict[str, str]]]:
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {path!r}")
    with file.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        names = list(reader.fieldnames or [])
        if key not in names:
            raise KeyError(f"{path} has no column {key!r}")
        return names, list(reader)
