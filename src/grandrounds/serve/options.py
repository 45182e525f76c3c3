"""What the operator chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grandrounds.errors import RunError
from grandrounds.web.guarding import is_loopback

OnLeaving = Literal["repair", "refuse"]
EngineName = Literal["native", "vllm"]


@dataclass(frozen=True)
class ServeOptions:
    """How policies are served.

    api_key: what requests must carry, or None. on_leaving: what becomes of a response that leaves the form.
    max_rows: completions of one policy that are decoded at once. max_queue: requests that may wait for it.
    max_tokens: the most that a request may ask for. max_body: bytes of a request. engine: what decodes.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    on_leaving: OnLeaving = "repair"
    max_rows: int = 64
    max_queue: int = 256
    max_tokens: int = 4096
    max_body: int = 2**20
    engine: EngineName = "native"

    def check(self) -> None:
        """RunError for a server that others could reach and that asks for no key."""
        if self.api_key is None and not is_loopback(self.host):
            raise RunError(
                f"`{self.host}` can be reached from other machines, and no API key is set",
                where="--host",
                hint="Name a file with a key by --api-key-file, or leave --host out.",
            )
