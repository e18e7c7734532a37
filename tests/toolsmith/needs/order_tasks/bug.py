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
    waiting = {name: len(needed) for name, needed in tasks.items()}
    followers: dict[str, set[str]] = {}
    for task, needed in tasks.items():
        for name in needed:
            waiting.setdefault(name, 0)
            followers.setdefault(name, set()).add(task)
    ready = [name for name, count in waiting.items() if not count]
    heapify(ready)
    order = []
    while ready:
        done = heappop(ready)
        order.append(done)
        for name in followers.get(done, ()):
            waiting[name] -= 1
            if not waiting[name]:
                heappush(ready, name)
    if len(order) < len(waiting):
        left = sorted(set(waiting) - set(order))
        raise ValueError(f"these tasks depend on each other in a circle: {', '.join(left)}")
    return order
