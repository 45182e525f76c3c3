"""What holds for every test: one thread, no network, the same examples each time."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import hypothesis
import pytest

# Before torch and transformers are imported by anyone. Sums in one thread have one order, and several test
# processes do not fight for the same cores. Processes that tests start inherit these.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for _library in ("HF_HUB", "HF_DATASETS", "TRANSFORMERS"):
    os.environ[f"{_library}_OFFLINE"] = "1"

# The same examples on every machine: a red test is red for everybody. No deadline: CI machines pause.
hypothesis.settings.register_profile("claims", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("claims")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `cuda` are skipped where there is no GPU."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test draws the same random numbers, alone or among others."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """A connection to anything but this machine is an error, not a slow test."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(original: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
                raise AssertionError(f"a test tried to reach {address[0]}")
            return original(self, address)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        yield


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # another host's name
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window. The test is skipped where it or Playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()
