"""Copies of folders that are made once for many tests."""

from pathlib import Path


def keep_count(memory: Path) -> None:
    """Have a copy of a memory know how many records it holds, as the original does; to be called at once.

    The count is kept with the inode of the folder it is of, which a copy has not.
    """
    records = memory / ".records"
    count = records.read_text().split()[0]
    records.write_text(f"{count} {(memory / 'shard').stat().st_ino}\n")
