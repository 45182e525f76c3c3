"""The process that calls a user's function: it loads it, then answers one call after another until the run hangs up.

run -> worker    pickle of {use, options, base}, once
worker -> run    JSON {signature, source} or {error}
run -> worker    pickle of {args, kwargs, loggers, size}
worker -> run    JSON {values, metrics, extras}, {type} where no list was returned, {error} or {raised, place}
"""

from __future__ import annotations

import faulthandler
import json
import pickle
import socket
import sys
from contextlib import suppress
from dataclasses import asdict
from numbers import Real
from typing import Any

from grandrounds.errors import RewardError
from grandrounds.loading import describe, place_of
from grandrounds.rewards.logged import Logged
from grandrounds.rewards.user import UserFunction, load_function, returned_list
from grandrounds.rewards.workers.frames import Closed, receive, send

_LONGEST = 1000  # characters of an exception's text


def serve(connection: socket.socket) -> None:
    """Load the function that the first message names, then answer calls."""
    faulthandler.enable()  # a crash prints the line of Python that it came from
    with suppress(Closed):
        # Of the run alone, which started this process: nobody else holds the other end of this nameless pair of
        # sockets. The message names the user's file, which is run next, and the calls hold the user's own cases.
        loaded, reply = _load(pickle.loads(receive(connection)))
        _reply(connection, json.dumps(reply))
        while loaded is not None:
            _reply(connection, _answer(loaded, receive(connection)))


def _load(asked: dict[str, Any]) -> tuple[UserFunction | None, dict[str, Any]]:
    try:
        loaded = load_function(asked["use"], asked["options"], asked["base"])
        if loaded.signature.form != "trl":
            import grandrounds.types  # noqa: F401 - its samples are unpickled within the time of the first call
    except BaseException as error:  # sys.exit() while a file is imported, too
        return None, _failure(error, asked["use"])
    return loaded, {"signature": asdict(loaded.signature), "source": loaded.source}


def _answer(loaded: UserFunction, request: bytes) -> str:
    """JSON: what the function returned and logged, or how it failed."""
    try:
        assert loaded.function is not None
        call = pickle.loads(request)
        logged = Logged(call["size"])
        own = {name: getattr(logged, name) for name in call["loggers"]}
        returned = loaded.function(*call["args"], **call["kwargs"], **own)
        values = returned_list(returned, loaded.signature.form)
        if isinstance(values, str):
            return json.dumps({"type": values})
        scores = [_plain(value) for value in values]
        reply = {"values": scores, "metrics": logged.metrics, "extras": logged.extras}
        return json.dumps(reply, default=_as_json)
    # sys.exit() in a user's function is an error of the reward. It must not end the run silently.
    except BaseException as error:
        return json.dumps(_failure(error, loaded.source))


def _failure(error: BaseException, source: str) -> dict[str, Any]:
    if isinstance(error, RewardError):
        return {"error": {"what": error.what, "where": error.where, "hint": error.hint}}
    return {"raised": describe(error)[:_LONGEST], "place": place_of(error, source)}


def _plain(value: Any) -> Any:
    """A score as JSON: a number or null. What is neither is named by its text."""
    if hasattr(value, "item"):  # scalars of NumPy and torch
        value = value.item()
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return float(value) if isinstance(value, Real) else {"text": f"{value!r:.80}"}


def _reply(connection: socket.socket, reply: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the function may have closed it
            stream.flush()
    send(connection, reply.encode())


def _as_json(value: Any) -> Any:
    """Arrays and their scalars in what is logged; anything else by its text, as the trace writes it."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
