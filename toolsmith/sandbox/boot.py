"""The first words of the worker, given to the interpreter as `-c`: loads the modules the host ships.

`argv`: the descriptors to read from and to write to. What comes first is a length and, marshalled by the same
interpreter on the host, pairs of a name and its code in the order of import, and the settings for the last
one's `main`.
"""

import marshal
import os
import sys
import types


def read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            os._exit(0)
        data += chunk
    return data


def load(name: str, code: types.CodeType) -> types.ModuleType:
    module = types.ModuleType(name)
    package, _, leaf = name.rpartition(".")
    if package:
        setattr(sys.modules[package], leaf, module)
    sys.modules[name] = module
    exec(code, module.__dict__)
    return module


def main() -> None:
    rx, tx = int(sys.argv[1]), int(sys.argv[2])
    modules, settings = marshal.loads(read(rx, int.from_bytes(read(rx, 4), "big")))
    for name, code in modules:
        module = load(name, code)
    module.main(rx, tx, settings)


if __name__ == "__main__":
    main()
