"""An OpenAI-compatible server on loopback that answers well and badly, as told: `python -m tests.construction.fault_server port=8123`.

It knows Chat Completions and Responses. What it does depends on the content of a call and on how often that was asked, not on time
or order: a run that is killed and started again meets the same faults. A prompt may name its record and how many
assistants are to be scored: "record r7 responses 3". Any other is named by a digest of its content, which the reply's
model ends in, and answered as `fault_texts.py` says: judges' prompts by a scoring in the rubric's shape.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.construction.fault_texts import is_judging, response_text, scoring, share

FAULTS = ("429", "500", "503", "dropped", "cut body", "slow", "no json body")
UNUSABLE = (
    "truncated JSON", "wrong count", "string scores", "out of range", "refusal", "content filter", "empty", "cut off",
)  # fmt: skip
ODD = (
    "huge usage", "infinite usage", "negative usage", "no usage", "deep JSON", "odd charset", "odd date", "redirect",
    "forbidden", "aborted", "schema 501", "schema in image", "key in reply", "endless", "endless error", "packed",
    "packed small",
)  # fmt: skip
LASTING = ("policy", "always refusal", "always wrong count")
_RECORD = re.compile(r"record (\S+)(?: responses (\d+))?")

Plan = Callable[[str, int], str]


def fault_plan(faults: float, seed: int = 0) -> Plan:
    """What a share of records meets: nine in ten of them a fault or an unusable answer once or twice, the rest a lasting one.

    Returns:
        (record, attempt from 1) -> "good" or a name of FAULTS, UNUSABLE or LASTING.
    """

    def plan(record: str, attempt: int) -> str:
        if share(seed, record, "bad") >= faults:
            return "good"
        if share(seed, record, "lasting") < 0.1:
            return LASTING[int(share(seed, record, "which") * len(LASTING))]
        kinds = FAULTS + UNUSABLE
        bad_attempts = 1 + int(share(seed, record, "twice") * 2)
        return kinds[int(share(seed, record, "which") * len(kinds))] if attempt <= bad_attempts else "good"

    return plan


class FaultServer:
    """The server, in a thread of its own. Use as a context manager.

    Args:
        plan: (record, attempt) -> what to do.
        latency_s: seconds that a reply takes, 0 to twice as many by content.
        slow_s: seconds that a "slow" one takes in addition.
        json_schema: whether it takes JSON schemas; else it answers 400.
        max_tokens: whether it takes `max_tokens`; else it answers 400 and asks for `max_completion_tokens`.
        key: the key that it wants; None wants none.
        model: the one that it serves.
        retry_after: headers of its 429.
        port: 0 takes a free one.

    Attributes:
        asked: record -> requests.
        kinds: what was done -> times.
        bodies: the last requests' JSON.
        headers: the last request's, in lower case.
        most_at_once: requests under way together, at most.
    """

    def __init__(
        self,
        plan: Plan = lambda record, attempt: "good",
        *,
        latency_s: float = 0.0,
        slow_s: float = 0.2,
        json_schema: bool = True,
        max_tokens: bool = True,
        key: str | None = None,
        model: str = "judge",
        retry_after: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self._plan, self._latency_s, self._slow_s = plan, latency_s, slow_s
        self._max_tokens = max_tokens
        self._json_schema, self._key, self._model, self._port = json_schema, key, model, port
        self._retry_after = retry_after or {"retry-after-ms": "50"}
        self.asked: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.most_at_once = self._at_once = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FaultServer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda loop, context: None)  # connections of killed clients
        server = self._loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", self._port))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read_request(reader):
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    goes_on = await self._answer(request, writer)
                finally:
                    self._at_once -= 1
                if not goes_on:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; False closes the connection."""
        self.headers = request.headers
        self.bodies = [*self.bodies[-99:], request.body]
        if (refused := self._refused(request)) is not None:
            return _send(writer, *refused)
        record, count = request.subject()
        self.asked[record] += 1
        kind = self._plan(record, self.asked[record])
        self.kinds[kind] += 1
        await asyncio.sleep(2 * self._latency_s * share(record, "latency") + (self._slow_s if kind == "slow" else 0))
        if kind == "dropped":
            return False
        if kind == "429":
            return _send(writer, 429, _error("Rate limit reached", "rate_limit_exceeded"), self._retry_after)
        if kind in ("500", "503"):
            return _send(writer, int(kind), _error("The server had an error", None))
        if kind == "quota":
            return _send(writer, 429, _error("You exceeded your current quota", "insufficient_quota"))
        if kind == "policy":
            return _send(writer, 400, _error("Refused by the content policy", "content_policy_violation"))
        if kind == "no json body":
            return _send(writer, 200, b"<html>gateway</html>", {"content-type": "text/html"})
        body = json.dumps(_reply(request, record, count, kind.removeprefix("always "))).encode()
        if kind.startswith("endless"):
            return await _send_endless(writer, 400 if kind.endswith("error") else 200)
        if (odd := _odd(request, kind, body)) is not None:
            return _send(writer, *odd)
        if kind == "cut body":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body[: len(body) // 2])
            return False
        return _send(writer, 200, body)

    def _refused(self, request: Request) -> tuple[int, bytes] | None:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._key is not None and sent != self._key:
            return 401, _error(f"Incorrect API key provided: {sent}", "invalid_api_key")
        if request.body.get("model") != self._model:
            return 404, _error(f"The model {request.body.get('model')!r} does not exist", "model_not_found")
        field = "response_format" if "response_format" in request.body else "text" if "text" in request.body else None
        if field and not self._json_schema:
            return 400, _error(f"{field}: json_schema is not supported by this server", None)
        if "max_tokens" in request.body and not self._max_tokens:
            return 400, _error("'max_tokens' is not supported: use 'max_completion_tokens'", "unsupported_parameter")
        return None


@dataclass(frozen=True)
class Request:
    """One request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def is_chat(self) -> bool:
        return self.path.endswith("/chat/completions")

    def text(self, turn: int = -1) -> str:
        content = self.body["messages" if self.is_chat else "input"][turn]["content"]
        return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)

    def subject(self) -> tuple[str, int]:
        """Record and number of assistants; a digest and 0 where the prompt does not name them."""
        found = None if is_judging(self.text(0)) else _RECORD.search(self.text())
        return (found[1], int(found[2] or 2)) if found else (self.digest(), 0)

    def digest(self) -> str:
        """Of all that decides an answer."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()[:16]


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(first.split()[1], headers, json.loads(body or b"{}"))


def _send(writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str] | None = None) -> bool:
    told = {"content-type": "application/json", **(headers or {}), "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    writer.write(f"HTTP/1.1 {status} Told\r\n{lines}\r\n".encode() + body)
    return True


async def _send_endless(writer: asyncio.StreamWriter, status: int) -> bool:
    """A body that does not end before the client does."""
    writer.write(
        f"HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    )
    while True:
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


def _odd(request: Request, kind: str, body: bytes) -> tuple[int, bytes, dict[str, str]] | None:
    """(status, body, headers) of a name of ODD; None for any other."""
    usage = "prompt_tokens" if request.is_chat else "input_tokens"
    counts = {
        "huge usage": "1" + "0" * 400,
        "infinite usage": "1e999",
        "negative usage": "-1000000",
        "no usage": "null",
    }
    if kind in counts:
        return 200, re.sub(rb'("%s": )\d+' % usage.encode(), rb"\g<1>" + counts[kind].encode(), body), {}
    if kind == "deep JSON":
        return 200, b"[" * 200_000, {}
    if kind.startswith("packed"):  # 64 MB that are 64 kB on the way, or 2 MB
        more = (2 if kind.endswith("small") else 64) << 20
        return 200, gzip.compress(b" " * more + body), {"content-encoding": "gzip"}
    if kind == "odd charset":
        return 400, b"no", {"content-type": "text/plain; charset=rot13"}
    if kind == "odd date":
        return 429, _error("later", None), {"retry-after": "Mon, 01 Jan 2001 00:00:00 +999999999999"}
    if kind == "redirect":
        return 307, b"", {"location": "http://127.0.0.1:9/elsewhere?token=1"}
    if kind == "forbidden":
        return 403, _error("not this one", None), {}
    if kind == "aborted":
        return 200, body.replace(b'"stop"', b'"abort"').replace(b'"completed"', b'"in_progress"'), {}
    if kind == "schema 501" and ("response_format" in request.body or "text" in request.body):
        return 501, _error("response_format is not implemented", None), {}
    if kind == "schema in image":
        return 400, _error("response_format: cannot be used with this image", None), {}
    if kind == "key in reply":
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        return 400, _error("x" * 290 + sent, None), {}
    return None


def _error(message: str, code: str | None) -> bytes:
    return json.dumps({"error": {"message": message, "type": "error", "param": None, "code": code}}).encode()


def _text(request: Request, record: str, count: int, kind: str) -> str:
    if count:
        text = _scores(record, count, kind)
    elif is_judging(request.text(0)):
        text = scoring(request.text(0), request.text(), kind)
    else:
        text = response_text(record)
        kind = "" if kind == "truncated JSON" else kind  # nobody could see it in a response
    return text[: len(text) // 2] if kind in ("truncated JSON", "cut off") else "" if kind == "empty" else text


def _scores(record: str, count: int, kind: str) -> str:
    scores: list[Any] = [int(share(record, place) * 11) for place in range(count + (kind == "wrong count"))]
    if kind == "string scores":
        scores = [str(score) for score in scores]
    if kind == "out of range":
        scores[0] = 11
    return json.dumps({"scores": scores})


def _reply(request: Request, record: str, count: int, kind: str) -> dict[str, Any]:
    text, refusal = _text(request, record, count, kind), "I cannot help with that." if kind == "refusal" else None
    finish = {"cut off": "length", "content filter": "content_filter"}.get(kind, "stop")
    taken, given = len(request.text()) // 4 + 1, len(text) // 4 + 1
    model = "judge-1" if count else f"judge-{record}"
    if request.is_chat:
        message = {"role": "assistant", "content": None if refusal else text, "refusal": refusal}
        usage = {"prompt_tokens": taken, "completion_tokens": given, "total_tokens": taken + given}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return {"id": "1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
    part = {"type": "refusal", "refusal": refusal} if refusal else {"type": "output_text", "text": text}
    why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish)
    return {
        "id": "1",
        "object": "response",
        "model": model,
        "status": "incomplete" if why else "completed",
        "incomplete_details": {"reason": why} if why else None,
        "output": [{"type": "reasoning"}, {"type": "message", "role": "assistant", "content": [part]}],
        "usage": {"input_tokens": taken, "output_tokens": given},
    }


@dataclass
class ServeConfig:
    """Settings of `python -m tests.construction.fault_server`."""

    port: int = 8123
    faults: float = 0.0
    latency_s: float = 0.05
    json_schema: bool = True
    seed: int = 0


def serve(config: ServeConfig) -> None:
    """Serves until it is interrupted."""
    plan = fault_plan(config.faults, config.seed)
    with FaultServer(plan, latency_s=config.latency_s, json_schema=config.json_schema, port=config.port) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    from mrm.cli import settings_command  # here, since tests and soaks need a light module

    settings_command(ServeConfig, serve, __doc__)
