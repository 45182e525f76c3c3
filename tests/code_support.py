"""Programs that mean harm, or only fail in odd ways, and what the tests of the sandbox share."""

from __future__ import annotations

import pytest

from grandrounds.domains.code.runtimes import Runtime, find_runtime
from grandrounds.errors import RewardError

# Stands in programs for: a file of the user's, a port that listens on this machine, Python's folder.
SECRET_FILE, PORT, PYTHON = "SECRET_FILE", "PORT", "PYTHON_FOLDER"
SECRET = "the secret that no program may see"

# name -> (program, how it ends: "" for by itself and with exit code 0)
HOSTILE = {
    "fork bomb": ("import os\nwhile True: os.fork()", "started more than|needs more|exited with"),
    "memory": ("x = [bytearray(10**7) for _ in range(10**4)]", "MemoryError|needs more"),
    "memory of many processes": (
        "import os, time\nfor _ in range(8): os.fork() or (bytearray(10**8), time.sleep(9))\ntime.sleep(9)",
        "needs more than 256 MB",
    ),
    "memory in many small parts": (
        "x = []\nwhile True: x.append([0] * 99)",
        "MemoryError|needs more|took longer",
    ),
    "a large file": ("open('/tmp/x', 'wb').write(b'x' * 10**8)", "File too large"),
    "many files": (
        "for n in range(10**4): open(f'/tmp/{n}', 'wb').write(b'x' * 10**6)",
        "No space left",
    ),
    "shared memory": ("open('/dev/shm/x', 'wb')", "Read-only file system"),
    "this machine's network": (
        f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 1)",
        "Connection refused|unreachable",
    ),
    "the network": ("import socket; socket.create_connection(('1.1.1.1', 53), 1)", "unreachable"),
    "reading a file": (f"print(open({SECRET_FILE!r}).read())", "FileNotFoundError"),
    "reading the password file": ("print(open('/etc/passwd').read())", "FileNotFoundError"),
    "reading through a link": (
        f"import os; os.symlink({SECRET_FILE!r}, '/tmp/x'); print(open('/tmp/x').read())",
        "FileNotFoundError",
    ),
    "reading by the root of a process": (
        f"print(open('/proc/1/root' + {SECRET_FILE!r}).read())",
        "FileNotFoundError|PermissionError",
    ),
    "the environment": ("import os; print(dict(os.environ))", ""),
    "processes' environments": (
        "import glob\nfor p in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline'):\n"
        "    try: print(open(p).read())\n    except OSError: pass",
        "",
    ),
    "a signal to the parent": (
        "import os, time; os.kill(os.getppid(), 9); time.sleep(9)",
        "exited with|took longer",
    ),
    "a signal to all": ("import os, time; os.kill(-1, 9); time.sleep(9)", "exited with|took longer"),
    "writing beside Python": (f"open({PYTHON!r} + '/x', 'w')", "Read-only file system"),
    "writing elsewhere": ("open('/x', 'w')", "Read-only file system"),
    "a shell": (
        "import subprocess; subprocess.run(['/bin/sh', '-c', 'ls'], check=True)",
        "FileNotFoundError",
    ),
    "namespaces": (
        "import ctypes\nif ctypes.CDLL(None, use_errno=True).unshare(0x10000000): raise OSError(ctypes.get_errno())",
        "exited with",
    ),
    "endless output": ("while True: print('right')", "printed more than"),
    "endless errors": ("import sys\nwhile True: sys.stderr.write('wrong')", "printed more than"),
    "a huge message": ("raise ValueError('x' * 10**7)", "printed more than"),
    "deep recursion": ("def f(): f()\nf()", "RecursionError"),
    "recursion into a crash": (
        "import sys; sys.setrecursionlimit(10**9)\nx = ()\nfor _ in range(10**6): x = (x,)\nrepr(x)",
        "exited with|MemoryError|took longer",
    ),
    "a crash": ("import ctypes; ctypes.string_at(0)", "exited with code"),
    "zombies": ("import os\nfor _ in range(20): os.fork() or os._exit(0)", ""),
    "a daemon": (
        "import os, time\nif not os.fork():\n    os.setsid()\n    os.fork() and os._exit(0)\n    time.sleep(999)",
        "",
    ),
    "a session of its own, deaf to signals": (
        "import os, signal, time\nif os.fork(): os._exit(0)\nos.setsid()\n"
        "for n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\nwhile True: pass",
        "",
    ),
    "sleeping": ("import time; time.sleep(999)", "took longer than 2 s"),
    "a busy loop": ("while True: pass", "took longer than 2 s|exited with"),
    "closed output": ("import os, time; os.close(1); os.close(2); time.sleep(999)", "took longer than 2 s"),
    "threads": (
        "import threading, time\nfor _ in range(999): threading.Thread(target=time.sleep, args=(9,)).start()",
        "can't start new thread|MemoryError|took longer|started more",
    ),
    "more input than there is": ("while True: input()", "EOFError"),
    "NUL bytes": ("print('\\0' * 99)", ""),
    "no UTF-8": ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\n')", ""),
    "an early exit with success": ("raise SystemExit(0)", ""),
    "an early exit by force": ("import os; os._exit(0)", ""),
    "a number that is no exit code": ("raise SystemExit('0')", "exited with code 1: 0"),
}


def sandbox() -> Runtime:
    """The sandbox of this machine; without one, the tests that need it are skipped."""
    try:
        return find_runtime("auto", "python:3-slim")
    except RewardError as error:
        pytest.skip(f"no sandbox here: {error.what}")
