"""What runs first within a sandbox: it sets limits, then runs the program that it reads from standard input.

It is passed to `python -c` as text and needs the standard library alone. The limits are of one process; what all
processes of a sandbox may take together is watched from outside.
"""

import json
import os
import resource
import sys


def limit(limits):
    """Lower the limits of this process and of all that it starts. None can raise them again."""
    os.nice(5)  # so that whoever watches gets a turn
    memory, files = limits["memory_mb"] * 2**20, limits["file_mb"] * 2**20
    for name, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_CPU, int(limits["seconds"]) + 1),
    ):
        _, allowed = resource.getrlimit(name)
        resource.setrlimit(
            name, (most, most) if allowed == resource.RLIM_INFINITY else (min(most, allowed),) * 2
        )


def exactly(size):
    """So many bytes of standard input, and none of what follows them."""
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit("the program did not arrive")
        data += part
    return data


def main():
    """Say that the sandbox has started, then run the program as `__main__`. The rest of standard input is its own."""
    limit(json.loads(sys.argv[1]))
    os.write(2, sys.argv[2].encode())
    program = exactly(int.from_bytes(exactly(8), "big"))
    del sys.argv[1:]
    exec(compile(program, "program.py", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})


if __name__ == "__main__":
    main()
