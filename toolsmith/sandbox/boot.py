"""The first words of the worker, given to the interpreter as `-c`: loads the modules the host ships.

`argv`: the descriptors to read from and to write to. The first frame holds `modules`, pairs of a name and a
source in the order of import, and `settings` for `worker.main`.
"""

import json
import os
import struct
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


def load(name: str, source: str) -> types.ModuleType:
    module = types.ModuleType(name)
    package, _, leaf = name.rpartition(".")
    if package:
        setattr(sys.modules[package], leaf, module)
    sys.modules[name] = module
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    return module


def main() -> None:
    rx, tx = int(sys.argv[1]), int(sys.argv[2])
    order = json.loads(read(rx, struct.unpack(">I", read(rx, 4))[0]))
    for name, source in order["modules"]:
        module = load(name, source)
    module.main(rx, tx, order["settings"])


if __name__ == "__main__":
    main()
