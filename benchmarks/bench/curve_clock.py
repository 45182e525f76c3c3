"""A callback for TRL's trainer, and ours, that notes the time at the end of each step."""

import os
import time

from transformers import TrainerCallback


class Clock(TrainerCallback):
    """The time at the end of each step, and the processor time that the process had used by then."""

    def __init__(self):
        self.ends = []

    def on_step_end(self, args, state, control, **kwargs):
        used = os.times()
        self.ends.append({"wall": time.perf_counter(), "processor": used.user + used.system})
