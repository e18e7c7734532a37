from heapq import heapify, heappop, heappush

from smolagents import tool


@tool
def order_tasks(tasks: dict[str, list[str]]) -> list[str]:
    """Put tasks into an order in which each comes after all that it depends on.

    Args:
        tasks: Task to the names of the tasks that it depends on.

    Returns:
        All tasks, each once.
    """
    waiting: dict[str, set[str]] = {name: set(needed) for name, needed in tasks.items()}
    for needed in tasks.values():
        for name in needed:
            waiting.setdefault(name, set())
    ready = [name for name, needed in waiting.items() if not needed]
    heapify(ready)
    order = []
    while ready:
        done = heappop(ready)
        order.append(done)
        for name, needed in waiting.items():
            if done in needed:
                needed.remove(done)
                if not needed:
                    heappush(ready, name)
    if len(order) < len(waiting):
        left = sorted(set(waiting) - set(order))
        raise ValueError(f"these tasks depend on each other in a circle: {', '.join(left)}")
    return order
