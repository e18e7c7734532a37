import json
from itertools import groupby
from operator import itemgetter

from smolagents import tool


@tool
def rank_scores(path: str, lowest_first: bool = False) -> list[dict]:
    """Places of players by their scores.

    Args:
        path: The JSON file.
        lowest_first: Whether low scores are better.

    Returns:
        The table.
    """
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    if type(data) is not dict or not all(type(score) in (int, float) for score in data.values()):
        raise ValueError(f"{path} must hold one object of names and numbers")
    rows = sorted(data.items())
    rows.sort(key=itemgetter(1), reverse=not lowest_first)
    table = []
    for _, group in groupby(rows, key=itemgetter(1)):
        rank = len(table) + 1
        table.extend({"rank": rank, "name": name, "score": score} for name, score in group)
    return table
