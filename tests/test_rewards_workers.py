"""Users' functions run in processes of their own: whatever these do, the run goes on or stops with the cause."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from rewards_support import answered, choice_case

from grandrounds import resume, train
from grandrounds.errors import RewardError
from grandrounds.recipe import RewardRecipe
from grandrounds.recipe_file import recipe_from
from grandrounds.rewards import RewardSet, build_rewards
from grandrounds.rewards.logged import Logged, TrainerState
from grandrounds.rewards.reward_set import Scoring
from grandrounds.rewards.workers import frames
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.trace import read_trace

SAMPLES = [answered(choice_case(), "r", letter, length=2) for letter in "ABB"]
LIMIT = 2.0


def built(folder: Path, code: str, **spec: Any) -> RewardSet:
    (folder / "mine.py").write_text(code)
    spec = {"use": "mine.py:f", "retries": 0, "timeout_seconds": 30.0, **spec}
    return build_rewards({"mine": RewardRecipe(**spec)}, base=folder)


def failure(folder: Path, code: str, **spec: Any) -> RewardError:
    with pytest.raises(RewardError) as caught:
        built(folder, code, **spec).score(SAMPLES)
    return caught.value


def is_gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process is gone within so many seconds. A zombie is: its parent only has not asked yet."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os; os._exit(3)", "the reward exited with code 3"),
        ("import ctypes; ctypes.string_at(0)", "the reward crashed: signal SIGSEGV"),
        ("import os; os.abort()", "the reward crashed: signal SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", "the reward was killed: signal SIGKILL"),
        ("import sys; sys.exit(0)", "the reward raised SystemExit: 0"),
        ("import os, time; os.closerange(3, 99); time.sleep(60)", "closed the connection to its run"),
        ("raise KeyboardInterrupt", "the reward raised KeyboardInterrupt"),
        ("raise ValueError('x' * 10**7)", r"the reward raised ValueError: x{900,1000}$"),
        ("return [1.0]", "returned 1 scores for 3 completions"),
        ("return {}", "returned dict instead of a list of 3 scores"),
        ("return [object()] * 3", "returned <object object at .*, which is no number"),
        (
            "return [1.0] * 10**7",
            "returned 10000000 scores for 3|sent a message of .* bytes instead of scores",
        ),
    ],
)
def test_a_death_or_nonsense_is_an_error_with_its_cause(tmp_path: Path, body: str, said: str) -> None:
    error = failure(tmp_path, f"def f(completions, **_):\n    {body}\n")
    assert re.search(said, error.what)
    assert error.where.startswith("rewards.mine, ")
    assert error.hint


def test_a_reply_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LARGEST_REPLY", 10_000)
    error = failure(tmp_path, "def f(completions, **_): return [1.0] * 10_000")
    assert re.search(r"sent a message of [\d,]+ bytes instead of scores", error.what)


def test_a_crash_names_the_line_and_the_last_lines_printed(tmp_path: Path) -> None:
    code = """
def f(completions, **_):
    import ctypes, sys
    print("first")
    print("about to read address 0", file=sys.stderr)
    ctypes.string_at(0)
"""
    error = failure(tmp_path, code)
    assert error.where == f"rewards.mine, {tmp_path / 'mine.py'}:6, case case 1"
    assert "first\nabout to read address 0\n" in error.what


def test_what_hangs_is_killed_with_its_children_in_time(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, subprocess, sys, time
def f(completions, **_):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
    time.sleep(600)
"""
    rewards = built(tmp_path, code, timeout_seconds=LIMIT)
    began = time.monotonic()
    with pytest.raises(RewardError, match=r"gave no result after 2 seconds, and was killed") as caught:
        rewards.score(SAMPLES)
    assert time.monotonic() - began < LIMIT + 5  # a second where the machine has nothing else to do
    assert caught.value.hint == "Make it faster, or raise rewards.mine.timeout_seconds."
    assert all(is_gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_daemon_of_a_worker_that_has_ended_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, time
def f(completions, **_):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
        time.sleep(600)
    while not os.path.exists({str(tmp_path / "pid")!r}):
        time.sleep(0.01)
    os._exit(3)
"""
    assert "code 3" in failure(tmp_path, code).what
    assert is_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    "body",
    [
        "everything = [bytearray(10**7) for _ in range(1000)]",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(10**9); input()'], "
        "stdin=subprocess.PIPE); import time; time.sleep(60)",
    ],
)
def test_more_memory_than_allowed_kills(tmp_path: Path, body: str) -> None:
    code = f"def f(completions, **_):\n    {body}\n    import time; time.sleep(60)\n"
    error = failure(tmp_path, code, memory_gb=0.2)
    assert "the reward needs more than 0.2 GiB of memory, and was killed" in error.what
    assert error.hint == "Let it need less, or raise rewards.mine.memory_gb."


@pytest.mark.parametrize("stream", ["stdout", "stderr", "buffer"])
def test_endless_printing_ends_with_the_time(tmp_path: Path, stream: str) -> None:
    write = (
        "sys.stdout.buffer.write(b'\\0\\xff' * 4096)"
        if stream == "buffer"
        else f"sys.{stream}.write('a b' * 999)"
    )
    code = f"import sys\ndef f(completions, **_):\n    while True: {write}\n"
    assert "no result after 1 seconds" in failure(tmp_path, code, timeout_seconds=1).what


def test_printing_does_not_disturb_the_scores(tmp_path: Path) -> None:
    code = """
import os, sys
def f(completions, **_):
    print("a lot" * 10**5)
    os.write(1, b'{"values": [9, 9, 9]}')
    sys.stdout.close()
    return [1.0, 2, 3]
"""
    assert list(built(tmp_path, code).score(SAMPLES).rewards) == [1, 2, 3]


def test_a_function_keeps_its_state_over_groups_in_their_order(tmp_path: Path) -> None:
    code = """
seen = []
def f(completions, case_id, **_):
    seen.append(case_id[0])
    return [float(seen == [f"case {n}" for n in range(len(seen))]) * len(seen)] * len(completions)
"""
    scoring = Scoring(built(tmp_path, code))
    for number in range(20):
        scoring.add([answered(choice_case(id=f"case {number}"), "r", "B")] * 2)
    assert [group.rewards[0] for group in scoring.results()] == list(range(1, 21))


def test_a_failed_call_is_repeated_in_a_new_process(tmp_path: Path) -> None:
    code = f"""
import os, pathlib
marker = pathlib.Path({str(tmp_path / "died once")!r})
def f(completions, **_):
    if not marker.exists():
        marker.touch()
        os._exit(3)
    return [1.0] * len(completions)
"""
    assert list(built(tmp_path, code, retries=1).score(SAMPLES).rewards) == [1, 1, 1]


def test_after_the_last_try_the_error_says_how_often(tmp_path: Path) -> None:
    error = failure(tmp_path, "import os\ndef f(sample): os._exit(3)", retries=2)
    assert error.what == "the reward exited with code 3 (tried 3 times)"
    assert error.where == "rewards.mine, mine.py:f, case case 1"


def test_logging_reaches_the_run_and_a_failed_try_logs_nothing(tmp_path: Path) -> None:
    code = """
import numpy as np
tries = []
def f(completions, trainer_state, log_metric, log_extra):
    log_metric("step", np.float32(trainer_state.global_step))
    log_extra("length", np.array([len(text) for text in completions]))
    tries.append(1)
    return [1.0] * len(completions) if len(tries) > 1 else 1 / 0
"""
    logged = Logged(len(SAMPLES))
    component = built(tmp_path, code, retries=1).parts["mine"].component
    component.scores(SAMPLES, logged.arguments(TrainerState(global_step=7)))
    assert logged.metrics == {"step": [7.0]}
    assert logged.extras == {"length": [len(sample.text) for sample in SAMPLES]}


def test_what_is_no_number_is_refused_where_it_is_logged(tmp_path: Path) -> None:
    code = "def f(completions, log_metric):\n    log_metric('x', float('nan'))\n    return [1.0] * len(completions)"
    assert "log_metric was given nan" in failure(tmp_path, code).what


def test_scores_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1e-308, 2**60]
    code = f"def f(completions, **_): return {values}"
    assert list(built(tmp_path, code).score(SAMPLES).rewards) == values


def test_a_worker_loads_no_torch_and_for_texts_no_numpy(tmp_path: Path) -> None:
    code = """
import sys
def f(completions, **_):
    return [float(name in sys.modules) for name in ("torch", "numpy", "pydantic")]
"""
    assert list(built(tmp_path, code).score(SAMPLES).rewards) == [0, 0, 0]


def test_a_file_that_ends_the_process_on_import_is_explained(tmp_path: Path) -> None:
    for statement, said in (("os._exit(4)", "exited with code 4"), ("raise SystemExit", "raised SystemExit")):
        with pytest.raises(RewardError, match=rf"rewards.mine, .*cannot be loaded: importing it {said}"):
            built(tmp_path, f"import os\n{statement}\ndef f(completions): ...")


def test_what_cannot_be_sent_is_named(tmp_path: Path) -> None:
    case = choice_case(columns={"made": lambda: 1})
    rewards = built(tmp_path, "def f(completions, made): return [1.0]")
    with pytest.raises(RewardError, match=r"cannot be sent to the function's process.*lambda"):
        rewards.score([answered(case, "r", "B")])


def test_closing_lets_the_function_clean_up_and_leaves_no_process(tmp_path: Path) -> None:
    code = f"""
import atexit, os, pathlib
atexit.register(pathlib.Path({str(tmp_path / "cleaned up")!r}).touch)
def f(completions, **_): return [float(os.getpid())] * len(completions)
"""
    rewards = built(tmp_path, code)
    pid = int(rewards.score(SAMPLES).rewards[0])
    rewards.close()
    assert (tmp_path / "cleaned up").exists()
    assert is_gone(pid)


def test_a_forgotten_reward_leaves_no_process(tmp_path: Path) -> None:
    rewards = built(
        tmp_path, "import os\ndef f(completions, **_): return [float(os.getpid())] * len(completions)"
    )
    pid = int(rewards.score(SAMPLES).rewards[0])
    del rewards
    assert is_gone(pid)


PROGRAM = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit that it is ignored
from rewards_support import answered, choice_case
from grandrounds.recipe import RewardRecipe
from grandrounds.rewards import build_rewards
rewards = build_rewards({"mine": RewardRecipe(use="mine.py:f")})
rewards.score([answered(choice_case(), "r", "B")])
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_leaves_no_process(tmp_path: Path, sent: signal.Signals) -> None:
    (tmp_path / "mine.py").write_text(
        """
import os, pathlib, subprocess, sys, time
def f(completions, **_):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    pathlib.Path("pids.part").write_text(f"{os.getppid()} {os.getpid()} {child.pid}")
    os.rename("pids.part", "pids")
    while True: pass
"""
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not (tmp_path / "pids").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    run.send_signal(sent)
    run.wait(30)
    assert all(is_gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_run_whose_reward_died_is_resumed_as_if_it_had_not(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        f"""
import os
def f(completions, trainer_state, **_):
    if trainer_state.global_step == 2 and not os.path.exists({str(tmp_path / "repaired")!r}):
        os._exit(3)
    return [float(len(text)) for text in completions]
"""
    )
    recipe = recipe_from(
        {
            "rounds": 3,
            "checkpoint": {"every": 1},
            "guard": {"enabled": False},
            "policy": {
                "scratch": {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 400}
            },
            "grpo": {"group_size": 2, "cases_per_round": 2, "max_new_tokens": 8},
            "rewards": {"mine": {"use": f"{tmp_path / 'mine.py'}:f"}},
        }
    )
    given: dict[str, Any] = {
        "cases": [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(8)],
        "progress": SilentProgress(),
    }
    with pytest.raises(RewardError, match=r"exited with code 3 \(tried 2 times\)"):
        train(recipe, tmp_path / "died", **given)
    assert len(RunFolder.open(tmp_path / "died").metrics()) == 1
    (tmp_path / "repaired").touch()
    died, whole = resume(tmp_path / "died", **given), train(recipe, tmp_path / "whole", **given)
    assert died.finished
    assert read_trace(died.folder).equals(read_trace(whole.folder))
