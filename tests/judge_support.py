"""A judge's endpoint on this machine, for tests: it records what it is asked and answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, str | dict[str, Any]]


class Endpoint:
    """answer: the messages of a request -> status and text of the reply; or an OpenAI-like error as a dict."""

    def __init__(self, answer: Callable[[list[dict[str, str]]], Answer]) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.url = ""

    def data(self, number: int = -1) -> dict[str, Any]:
        """What the user message of a request holds."""
        return json.loads(self.asked[number]["messages"][1]["content"])


@contextmanager
def endpoint(answer: Callable[[list[dict[str, str]]], Answer]) -> Iterator[Endpoint]:
    made, lock = Endpoint(answer), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                made.asked.append(body)
                made.headers.append(dict(self.headers))
                made.paths.append(self.path)
            status, reply = made.answer(body["messages"])
            if isinstance(reply, str):
                reply = {"choices": [{"message": {"role": "assistant", "content": reply}}]}
            sent = json.dumps(reply).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", made.url + "/elsewhere")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def verdicts(*met: bool) -> str:
    """A reply in the form asked for."""
    rows = [{"criterion": i, "why": f"reason {i}", "met": yes} for i, yes in enumerate(met, 1)]
    return json.dumps({"verdicts": rows})


def by_words(messages: list[dict[str, str]]) -> Answer:
    """Each criterion is a word; it is met where the response has it."""
    data = json.loads(messages[1]["content"])
    return 200, verdicts(*(one["text"] in data["response"] for one in data["criteria"]))


def replies(*answers: Answer) -> Callable[[list[dict[str, str]]], Answer]:
    """One answer after another; the last one for ever."""
    left = list(answers)
    return lambda messages: left.pop(0) if len(left) > 1 else left[0]
