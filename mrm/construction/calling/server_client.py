"""The connection to a server: the openai client as this project opens it, and a limit on what a reply may hold.

TLS is always verified. A redirect is never followed: it would take the prompts, and to the same host the key, to where
nobody meant to send them.
"""

from __future__ import annotations

from typing import Any

import openai

MOST_CONNECTIONS = 1000  # that the client keeps open at once
MOST_BYTES = 16 << 20  # of a reply: a thousand times a long judgement; with hundreds at once, a few GB
_CONNECT_S = 10.0
_WIRE_HEADERS = ("content-encoding", "content-length", "transfer-encoding")  # of the body as it was sent


class ReplyTooLarge(Exception):
    """A reply holds more than MOST_BYTES; it was not read to its end."""


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """Reads no more of a reply than MOST_BYTES, unpacked, be it an answer or an error."""

    async def send(self, request: Any, **settings: Any) -> Any:
        """The reply, read.

        Raises:
            ReplyTooLarge: if it holds more; the connection is closed.
        """
        reply = await super().send(request, **{**settings, "stream": True})
        body = bytearray()
        try:
            async for part in reply.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise ReplyTooLarge(f"the reply holds more than {MOST_BYTES:,} bytes")
        finally:
            await reply.aclose()
        headers = [(name, value) for name, value in reply.headers.multi_items() if name.lower() not in _WIRE_HEADERS]
        # Of the class that came: which library it is from is the openai client's business.
        return type(reply)(reply.status_code, headers=headers, content=bytes(body), request=reply.request)


def open_client(base_url: str, key: str, timeout_s: float) -> openai.AsyncOpenAI:
    """A client without retries of its own: repeating is the runner's.

    Args:
        base_url: the server's.
        key: what is sent as the key.
        timeout_s: seconds of silence.
    """
    timeout = openai.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s))
    http = BoundedClient(base_url=base_url, timeout=timeout, follow_redirects=False)
    return openai.AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, timeout=timeout, http_client=http)
