import glob
import hashlib
import os

from smolagents import tool

ALGORITHMS = {"md5": hashlib.md5, "sha1": hashlib.sha1, "sha256": hashlib.sha256}


@tool
def file_digests(folder: str = ".", algorithm: str = "sha256") -> dict[str, str]:
    """Compute the checksum of every file of a folder and of the folders below it.

    Args:
        folder: The folder, relative to the workspace.
        algorithm: md5, sha1 or sha256.

    Returns:
        Path relative to the folder to checksum.
    """
    begin = ALGORITHMS.get(algorithm.lower())
    if begin is None:
        raise ValueError(f"the algorithm {algorithm!r} is not one of {', '.join(ALGORITHMS)}")
    if not os.path.exists(folder):
        raise FileNotFoundError(f"there is no folder {folder!r}")
    if not os.path.isdir(folder):
        raise NotADirectoryError(f"{folder!r} is a file")
    digests = {}
    for name in sorted(glob.glob("**", root_dir=folder, recursive=True)):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            continue
        digest = begin()
        with open(path, "rb") as file:
            while block := file.read(65_536):
                digest.update(block)
        digests[name] = digest.hexdigest()
    return digests
