"""What a server asks of this client, within bounds.

The library answers each request of a server in a task of its own. A server that asks without end and takes no
answer would have it hold all of them.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

MOST_UNANSWERED = 500
"""A server with more of its requests open has its connection ended."""


@asynccontextmanager
async def within_bounds(
    transport: AbstractAsyncContextManager[Any], end: Callable[[str], None]
) -> AsyncIterator[Any]:
    """The transport; it ends if too much is open. `end` is called with the reason."""
    import anyio

    passed_on, heard = anyio.create_memory_object_stream[Any](0)
    said, taken = anyio.create_memory_object_stream[Any](0)
    unanswered = 0

    async def read(incoming: Any) -> None:
        nonlocal unanswered
        async with passed_on:
            async for item in incoming:
                unanswered += _is_request(item)
                if unanswered > MOST_UNANSWERED:
                    end(f"it asked for more than {MOST_UNANSWERED} things without taking the answers")
                    return
                await passed_on.send(item)

    async def write(outgoing: Any) -> None:
        nonlocal unanswered
        async with outgoing, taken:
            async for item in taken:
                await outgoing.send(item)
                unanswered -= _is_answer(item)

    async def ended(work: Callable[[Any], Any], stream: Any) -> None:
        # If one side is gone, the other notices.
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            await work(stream)

    async with transport as (incoming, outgoing), anyio.create_task_group() as tasks:
        tasks.start_soon(ended, read, incoming)
        tasks.start_soon(ended, write, outgoing)
        try:
            yield heard, said
        finally:
            tasks.cancel_scope.cancel()
            for stream in (passed_on, heard, said, taken):
                stream.close()


def _is_request(item: Any) -> bool:
    """Whether a message of JSON-RPC, or a fault in its place, has a method and an id."""
    message = getattr(item, "message", None)
    return hasattr(message, "method") and hasattr(message, "id")


def _is_answer(item: Any) -> bool:
    return hasattr(item.message, "id") and not hasattr(item.message, "method")
