"""What can go wrong with the memory, each with its remedy in the message.

    MemoryFault
    ├── MemoryUnavailable   the store cannot be used now: the disk is full, no permission, no server
    ├── MemoryBusy          others held the store for longer than one was willing to wait
    └── EmbeddingFailed     the model that makes dense vectors gave none

A fault never means that an acknowledged record was lost. A wrong argument is a `ValueError`, as
anywhere in Python.
"""


class MemoryFault(Exception):
    """Base of all faults of the memory; a run can go on without recall when it meets one."""


class MemoryUnavailable(MemoryFault):
    """The store cannot be opened, read or written until what the message names is put right."""


class MemoryBusy(MemoryFault):
    """Other processes kept the store locked for the whole time of waiting; trying again is the remedy."""


class EmbeddingFailed(MemoryFault):
    """A model of embeddings gave no vectors, or none of use; everything is found by its words as before."""
