from typing import Any

from smolagents import tool


@tool
def paginate(items: list[Any], page: int = 1, per_page: int = 10) -> dict[str, Any]:
    """Give one page of a list, with what is needed for links to the other pages.

    Args:
        items: The whole list.
        page: Which page, from 1.
        per_page: How many items a page has, 1 to 100.

    Returns:
        items, page, pages, total, previous, next, first and last.
    """
    if not 1 <= per_page <= 100:
        raise ValueError(f"per_page is {per_page}, but must be 1 to 100")
    total = len(items)
    pages = max(1, -(-total // per_page))
    if page < 1:
        raise ValueError(f"page is {page}, but pages are counted from 1")
    if page > pages:
        raise IndexError(f"there is no page {page}; there are {pages}")
    start = (page - 1) * per_page
    shown = items[start : start + per_page]
    return {
        "items": shown,
        "page": page,
        "pages": pages,
        "total": total,
        "previous": page - 1 if page > 1 else None,
        "next": page + 1 if page < pages else None,
        "first": start + 1 if shown else None,
        "last": start + len(shown) if shown else None,
    }
