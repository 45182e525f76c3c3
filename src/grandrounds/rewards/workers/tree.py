"""The descendants of a process, their memory, and their end."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

LINUX = sys.platform == "linux"
_PAGE = os.sysconf("SC_PAGE_SIZE") if LINUX else 1
# prctl's numbers, from <linux/prctl.h>.
_DIE_WITH_PARENT, _ADOPT_ORPHANS = 1, 36


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parents end, so that none gets out of sight."""
    _prctl(_ADOPT_ORPHANS, 1)


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that forked it ends."""
    _prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if LINUX:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def sacrifice_first() -> None:
    """Have the kernel choose this process and its children, not the run, when the machine has no memory left."""
    if LINUX:
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    if not LINUX:
        import psutil

        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        return []
    found: list[int] = []
    # Each thread lists the children that it forked.
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                for child in map(int, file.read().split()):
                    found += [child, *descendants(child)]
    return found


def resident_bytes(pid: int) -> int:
    """The resident memory of one process; 0 where it is gone."""
    if not LINUX:
        import psutil

        with suppress(psutil.Error):
            return int(psutil.Process(pid).memory_info().rss)
        return 0
    with suppress(OSError), open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE
    return 0


def end_children(group: int, seconds: float = 1.0) -> None:
    """Kill this process's descendants and the process group `group`, and wait until no child is left."""
    until = time.monotonic() + seconds
    with suppress(OSError):
        os.killpg(group, signal.SIGKILL)
    while time.monotonic() < until:
        for pid in descendants(os.getpid()):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)
