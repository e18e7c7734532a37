import json
from pathlib import Path

from smolagents import tool


@tool
def rank_scores(path: str, lowest_first: bool = False) -> list[dict]:
    """Rank the players of a JSON file by score, with shared places for equal scores.

    Args:
        path: A JSON file with one object, name to score.
        lowest_first: The lowest score is the best.

    Returns:
        rank, name and score of each player, best first.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {path!r}")
    scores = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(scores, dict):
        raise ValueError(f"{path} does not hold an object")
    for name, score in scores.items():
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise ValueError(f"the score of {name!r} is no number: {score!r}")
    ordered = sorted(scores.items(), key=lambda row: (row[1], row[0]), reverse=not lowest_first)
    table: list[dict] = []
    for place, (name, score) in enumerate(ordered, 1):
        shared = bool(table) and table[-1]["score"] == score
        table.append({"rank": table[-1]["rank"] if shared else place, "name": name, "score": score})
    return table
