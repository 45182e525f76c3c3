"""Tests a program by calls: the program in one sandbox, its tests in another, and pipes between them.

    this process  <- verdict -  driver.py  <-- replies ---  candidate.py
                                (tests)    --- requests ->  (program)

No line of the program runs where results are compared or where the verdict is written. So the program cannot pass by
printing, by exiting, by changing Python under the tests' feet, by objects that equal everything, or by reading what is
expected. It can pass with answers that are made for the calls it gets: hide some tests from the prompt, as MBPP's
`challenge_test_list` does.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from grandrounds.domains.code.runtimes import Limits, Runtime
from grandrounds.domains.code.sandbox import Sandboxed, message, watch

_DRIVER, _CANDIDATE = (
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("driver.py", "candidate.py")
)


@dataclass(frozen=True)
class CallTests:
    """Tests as Python statements that raise where the program is wrong.

    given: code of the task that the program was shown; its names are the tests' own. setup: code before the tests.
    functions: what the program has to define.
    """

    tests: Sequence[str]
    given: str = ""
    setup: str = ""
    functions: Sequence[str] = ()


def causes_by_calls(
    runtime: Runtime, program: str, tests: CallTests, limits: Limits, *, every: bool = True
) -> list[str]:
    """The cause of failure of each test, "" where it passed. every: go on after the first failure.

    RewardError where a sandbox does not start.
    """
    nonce = secrets.token_hex(16)
    spec = {**vars(tests), "program": program, "all": every, "nonce": nonce}
    # The specification as a text in a text: whatever is in it, it is data.
    driver_text = f"{_DRIVER}\n\nmain(json.loads({json.dumps(spec)!r}))\n"
    to_driver, from_candidate = os.pipe()
    to_candidate, from_driver = os.pipe()
    os.write(from_driver, message(_CANDIDATE))  # less than a pipe holds
    try:
        driver = Sandboxed(runtime, limits, stdin=to_driver, stdout=from_driver)
        candidate = Sandboxed(runtime, limits, stdin=to_candidate, stdout=from_candidate)
    finally:
        for number in (to_driver, to_candidate, from_driver):
            os.close(number)
    threading.Thread(target=_feed, args=(from_candidate, message(driver_text)), daemon=True).start()
    verdict, printed = bytearray(), bytearray()
    assert driver.process.stderr is not None
    assert candidate.process.stderr is not None
    sinks = {driver.process.stderr: verdict, candidate.process.stderr: printed}
    cause = watch([driver, candidate], sinks, {}, limits)
    candidate.errors(bytes(printed))
    read = driver.errors(bytes(verdict))
    return [cause] if cause else _read(read, nonce)


def _feed(number: int, data: bytes) -> None:
    """Write to the driver what it reads before the program's side is asked for anything."""
    with os.fdopen(number, "wb", buffering=0) as file, suppress(OSError):
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]


def _read(verdict: bytes, nonce: str) -> list[str]:
    """The driver's verdict; a failure where it is not whole."""
    try:
        said = json.loads(verdict)
        if said["nonce"] == nonce and said["causes"]:
            return [str(cause) for cause in said["causes"]]
    except (ValueError, KeyError, TypeError):
        pass
    last = (verdict.decode("utf-8", "replace").strip().splitlines() or [""])[-1][:200]
    return [f"the tests came to no verdict: {last}"]
