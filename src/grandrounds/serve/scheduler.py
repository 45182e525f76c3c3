"""The thread that decodes: requests wait, join the batch of their policy, and get what is new after every step.

One thread for all policies: several would fight for the same cores or the same GPU.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition, Thread

from grandrounds.sampling.live_row import RowRequest
from grandrounds.serve.choice import Choice, Update
from grandrounds.serve.errors import ApiError, described
from grandrounds.serve.metrics import Metrics
from grandrounds.serve.options import ServeOptions
from grandrounds.serve.served import Served

# Tokens of new prompts that are computed between two steps: others must not wait long for their next token.
PROMPT_TOKENS = 2048
_LOG = logging.getLogger(__name__)

Told = Sequence[Update] | ApiError


@dataclass(eq=False)
class Job:
    """A request's rows. tell: called by the decoding thread with what is new, or with what went wrong."""

    name: str
    requests: Sequence[RowRequest]
    stops: Sequence[str]
    tell: Callable[[Told], None]
    choices: list[Choice] = field(default_factory=list)

    def answer(self, told: Told) -> None:
        """Pass on what is new. The asker's event loop may be closed by now."""
        with suppress(RuntimeError):
            self.tell(told)


class _Queue:
    """A policy's batch, the jobs in it and those that wait. dead: nothing can be decoded in it any more."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.batch = served.engine.batch
        self.dead = False
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []


class Scheduler:
    """Owns the policies while they are served. `submit` and `cancel` may be called by any thread."""

    def __init__(self, served: dict[str, Served], options: ServeOptions, metrics: Metrics) -> None:
        self._queues = {name: _Queue(one) for name, one in served.items()}
        self._options, self._metrics = options, metrics
        self._changed = Condition()
        self._cancelled: set[Job] = set()
        self._closing = False
        self._thread = Thread(target=self._run, name="decoding", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> list[str]:
        """The policies that are not decoded any more."""
        running = self._thread.is_alive()
        return [name for name, queue in self._queues.items() if queue.dead or not running]

    def counts(self) -> tuple[int, int]:
        """(completions of the jobs being decoded, jobs waiting)."""
        with self._changed:
            queues = self._queues.values()
            running = [job for queue in queues for job in queue.running]
            return sum(len(job.requests) for job in running), sum(len(one.waiting) for one in queues)

    def submit(self, job: Job) -> None:
        """Add a job. ApiError where too many wait, it needs too much memory, or nothing is decoded any more."""
        queue = self._queues[job.name]
        if not queue.batch.fits(job.requests, alone=True):
            raise ApiError(
                400, "The request needs more memory than this server has; lower `n` or `max_tokens`."
            )
        with self._changed:
            if self._closing or queue.dead:
                raise _closed()
            if len(queue.waiting) >= self._options.max_queue:
                raise ApiError(
                    429, "Too many requests wait already. Try again later.", headers={"Retry-After": "1"}
                )
            queue.waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Forget a job: nobody waits for it any more."""
        with self._changed:
            self._cancelled.add(job)
            self._changed.notify()

    def close(self) -> None:
        """End the thread, and with it all jobs."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._wait():
                for queue in self._queues.values():
                    self._advance(queue)
        finally:
            self._end()

    def _advance(self, queue: _Queue) -> None:
        """Let waiting jobs join, decode one token of each row, and tell what is new."""
        try:
            self._admit(queue)
            if queue.batch.rows:
                queue.batch.step()
                self._tell(queue)
        except Exception as error:  # whatever a model raises ends its own requests, not the server
            self._fail(queue, error)

    def _end(self) -> None:
        """Answer everybody who still waits. What is submitted from now on is refused."""
        with self._changed:
            self._closing = True
        for queue in self._queues.values():
            for job in (*queue.waiting, *queue.running):
                job.answer(_closed())
            queue.batch.close()

    def _wait(self) -> bool:
        """Wait for something to do, and remove what was cancelled. False when the server closes."""
        with self._changed:
            while not self._closing and not self._cancelled:
                if any(queue.waiting or queue.batch.rows for queue in self._queues.values()):
                    break
                self._changed.wait()
            for job in self._cancelled:
                queue = self._queues[job.name]
                for jobs in (queue.waiting, queue.running):
                    if job in jobs:
                        jobs.remove(job)
                        self._metrics.cancelled += 1
                queue.batch.leave([choice.row for choice in job.choices])
            self._cancelled.clear()
            return not self._closing

    def _admit(self, queue: _Queue) -> None:
        tokens = 0
        for job in self._next(queue):
            rows = queue.batch.join(job.requests)
            tokenizer = queue.served.engine.tokenizer
            job.choices = [Choice(place, row, job.stops, tokenizer) for place, row in enumerate(rows)]
            tokens += len(job.requests[0].prompt.tokens)
            if tokens >= PROMPT_TOKENS:
                return

    def _next(self, queue: _Queue) -> Iterator[Job]:
        """Waiting jobs, in order, while there is room. One that needs much is not overtaken."""
        while True:
            with self._changed:
                if not queue.waiting:
                    return
                requests = queue.waiting[0].requests
                rows = len(queue.batch.rows) + len(requests)
                if queue.batch.rows and (rows > self._options.max_rows or not queue.batch.fits(requests)):
                    return
                job = queue.waiting.popleft()
                queue.running.append(job)
            yield job

    def _tell(self, queue: _Queue) -> None:
        for job in list(queue.running):
            updates, open_choices = [], []
            for choice in job.choices:
                update = choice.update()
                if update is not None:
                    updates.append(update)
                if update is None or update.finish is None:
                    open_choices.append(choice)
                else:
                    queue.batch.leave([choice.row])  # it may have ended by a stop string
                    self._metrics.finished(queue.served.name, update)
            job.choices = open_choices
            if not open_choices:
                queue.running.remove(job)
            if updates:
                job.answer(updates)

    def _fail(self, queue: _Queue, error: Exception) -> None:
        """End the running requests of a policy that raised; those that wait too, if nothing can be decoded any more."""
        _LOG.error("decoding with %s failed: %s", queue.served.name, described(error))
        for job in queue.running:
            job.answer(ApiError(500, "The model failed while it decoded this request."))
        self._metrics.failed += len(queue.running)
        queue.running.clear()
        if queue.batch.recover():
            return
        with self._changed:
            queue.dead = True
        for job in queue.waiting:
            job.answer(_closed())
        queue.waiting.clear()


def _closed() -> ApiError:
    return ApiError(503, "The server does not decode any more: it is stopping, or has failed.")
