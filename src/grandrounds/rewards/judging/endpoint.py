"""An OpenAI-compatible endpoint, over the standard library: one question, one answer, retries with back-off.

The key is read from the environment for each call, and stands in no error. Nothing follows a redirect: it would take
the key and the case to a place that the recipe does not name.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from grandrounds.errors import RewardError

PATH = "/chat/completions"
# The pause before the first retry; it doubles up to the longest.
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
_TEMPORARY = frozenset({408, 429, *range(500, 600)})
_LARGEST = 16 * 2**20  # bytes of an answer
_QUOTED = 200  # characters of what a server says
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Endpoint:
    """url: with or without /chat/completions. api_key_env: the environment variable that holds the key, or None."""

    url: str
    model: str
    api_key_env: str | None
    timeout_seconds: float
    retries: int

    def check(self) -> None:
        """RewardError for a URL that cannot be meant, or a key that is not there."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
            raise RewardError(
                "this is no URL of an endpoint",
                where="options.url",
                hint="Write one such as http://localhost:8000/v1.",
            )
        if "@" in parts.netloc:
            raise RewardError(
                "the URL holds a user or a password",
                where="options.url",
                hint="Put the key into an environment variable, and its name into api_key_env.",
            )
        self._key()

    def complete(self, messages: list[dict[str, str]], spend: Callable[[], None]) -> str:
        """The text of the answer, at temperature 0. `spend` is called before each try.

        RewardError after the last try, or at once where another would not help.
        """
        body = json.dumps({"model": self.model, "messages": messages, "temperature": 0}).encode()
        for turn in range(self.retries + 1):
            spend()
            try:
                return _content(self._post(body))
            except _Failed as failed:
                if not failed.temporary or turn == self.retries:
                    tries = f" (tried {turn + 1} times)" if turn else ""
                    raise RewardError(f"the judge at {self.url} {failed}{tries}", hint=failed.hint) from None
                time.sleep(min(LONGEST_PAUSE_SECONDS, max(failed.pause, PAUSE_SECONDS * 2**turn)))
        raise AssertionError("the loop above returns or raises")

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        until = time.monotonic() + self.timeout_seconds
        try:
            request = Request(_address(self.url), data=body, headers=headers, method="POST")
            with _opener(self.url).open(request, timeout=self.timeout_seconds) as response:
                return _read(response, until)
        except HTTPError as error:
            with error:
                raise self._refused(error, key) from None
        except (OSError, HTTPException) as error:  # a URLError is an OSError
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, TimeoutError):
                raise _Failed(
                    f"gave no answer within {self.timeout_seconds:g} seconds",
                    "Raise timeout_seconds, or lower the option concurrency.",
                ) from None
            raise _Failed(
                f"cannot be reached: {reason or type(reason).__name__}",
                "Start it, or correct the option url. Then resume: what was answered is not asked again.",
            ) from None

    def _refused(self, error: HTTPError, key: str | None) -> _Failed:
        said = ""
        with suppress(OSError, HTTPException):
            said = _message(error.read(2**16))
        if key:
            said = said.replace(key, "***")
        told = f"HTTP {error.code}{f': {said[:_QUOTED]}' if said else ''}"
        if 300 <= error.code < 400:
            return _Failed(f"answers with a redirect, {told}", "Name the final address.", temporary=False)
        if error.code in (401, 403):
            return _Failed(f"refuses the key, {told}", "Check what api_key_env names.", temporary=False)
        after = error.headers.get("Retry-After", "")
        return _Failed(
            f"answers {told}",
            "Raise retries, or lower the option concurrency; then resume: what was answered is not asked again."
            if error.code in _TEMPORARY
            else "Check the options url and model.",
            temporary=error.code in _TEMPORARY,
            pause=float(after) if after.isdecimal() else 0.0,
        )

    def _key(self) -> str | None:
        """The key. What `api_key_env` names is never shown: somebody may have written the key itself there."""
        if self.api_key_env is None:
            return None
        if not isinstance(self.api_key_env, str) or not _NAME.fullmatch(self.api_key_env):
            raise RewardError(
                "api_key_env is not the name of an environment variable",
                where="options.api_key_env",
                hint="Write the variable's name, such as JUDGE_API_KEY, never the key itself.",
            )
        key = os.environ.get(self.api_key_env, "").strip()
        if not _KEY.fullmatch(key):
            raise RewardError(
                "the environment variable that api_key_env names holds no key",
                where="options.api_key_env",
                hint="Set it before the command, or leave api_key_env out where the endpoint needs no key.",
            )
        return key


class _Failed(Exception):
    """A try without an answer. The text goes on from "the judge". pause: the least to wait before the next try."""

    def __init__(self, cause: str, hint: str, temporary: bool = True, pause: float = 0.0) -> None:
        super().__init__(cause)
        self.hint, self.temporary, self.pause = hint, temporary, pause


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _opener(url: str) -> OpenerDirector:
    """Proxies of the environment are used, but not for what is on this machine."""
    host = urlsplit(url).hostname or ""
    local = host == "localhost"
    with suppress(ValueError):
        local = local or ipaddress.ip_address(host).is_loopback
    return build_opener(_NoRedirect, *([ProxyHandler({})] if local else []))


def _address(url: str) -> str:
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(PATH) else path + PATH).geturl()


def _read(response: Any, until: float) -> bytes:
    """All of the answer. A server that sends it drop by drop is stopped at the time limit too."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(2**16):
        parts.append(part)
        size += len(part)
        if time.monotonic() > until:
            raise TimeoutError
        if size > _LARGEST:
            raise _Failed("sent an answer of more than 16 MB", "Check the option url.", temporary=False)
    if response.length:  # bytes that were announced and did not come
        raise ConnectionResetError("the connection broke off")
    return b"".join(parts)


def _content(answer: bytes) -> str:
    """The text of the first choice; "" for a choice without text."""
    try:
        content = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        content = 0
    if content is None or isinstance(content, str):
        return content or ""
    raise _Failed(
        "does not answer as an OpenAI-compatible endpoint", "Check the option url.", temporary=False
    )


def _message(answer: bytes) -> str:
    """What a server says about an error, in one line."""
    text = answer.decode("utf-8", "replace")
    with suppress(ValueError, LookupError, TypeError):
        text = str(json.loads(text)["error"]["message"])
    return " ".join(text.split())
