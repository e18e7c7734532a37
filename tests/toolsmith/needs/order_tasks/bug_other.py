from graphlib import CycleError, TopologicalSorter

from smolagents import tool


@tool
def order_tasks(tasks: dict[str, list[str]]) -> list[str]:
    """Put tasks into an order in which each comes after all that it depends on.

    Args:
        tasks: Task to the names of the tasks that it depends on.

    Returns:
        All tasks, each once.
    """
    sorter = TopologicalSorter(tasks)
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"these tasks depend on each other in a circle: {error.args[1]}") from error
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order.extend(ready)
        sorter.done(*ready)
    return order
