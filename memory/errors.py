"""The errors of memory; each message says what to do.

    MemoryFault
    ├── MemoryUnavailable   the store cannot be used: the disk is full, no permission, no server
    ├── MemoryBusy          other processes held the store for longer than the caller was ready to wait
    └── EmbeddingFailed     the model of embeddings returned no usable vectors

An error never means that an acknowledged record was lost. A wrong argument raises `ValueError`.
"""


class MemoryFault(Exception):
    """Base of all errors of memory; a run can continue without recall."""


class MemoryUnavailable(MemoryFault):
    """The store cannot be opened, read or written until the user fixes what the message names."""


class MemoryBusy(MemoryFault):
    """Other processes held the lock for the whole waiting time; try again."""


class EmbeddingFailed(MemoryFault):
    """A model of embeddings returned no usable vectors; records are still found by their words."""
