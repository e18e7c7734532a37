import bisect
import graphlib

from smolagents import tool


@tool
def order_tasks(tasks: dict[str, list[str]]) -> list[str]:
    """Order tasks by their dependencies.

    Args:
        tasks: The dependencies of each task.

    Returns:
        The tasks in an order in which they can be done.
    """
    sorter = graphlib.TopologicalSorter(tasks)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise ValueError("a circle: " + " -> ".join(error.args[1])) from error
    order: list[str] = []
    ready = sorted(sorter.get_ready())
    while ready:
        task = ready.pop(0)
        order.append(task)
        sorter.done(task)
        for freed in sorter.get_ready():
            bisect.insort(ready, freed)
    return order
