"""What a server's refusal means for the call: tried again, given up, or a setting that makes all further calls fail.

Reads the openai client's errors into `CallError`. Nothing here knows a key; whoever passes a message on takes it out.
"""

from __future__ import annotations

import email.utils
import math
import re
import ssl
import time
from collections.abc import Mapping
from typing import Any

import openai

from mrm.construction.calling.calls import CallError
from mrm.construction.calling.run_settings import RATE_LIMIT

RETRIED = (408, 409, 425, 429)
# 401 and 403: the key; 402: no credit left; 404: no such model or no such path; 405: no such API.
FATAL = (401, 402, 403, 404, 405)
_POLICY = re.compile(r"content[ _-]?(policy|filter|management)|moderation|safety|ResponsibleAI", re.IGNORECASE)
_IMAGE = re.compile(r"\bimages?\b", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context[ _]length|maximum context|too many tokens|prompt is too long|longer than the maximum", re.I
)
_SCHEMA = re.compile(r"response_format|json_schema|text\.format|schema|structured output|guided", re.IGNORECASE)
_SETTING = re.compile(r"api[ _]key|model_not_found|model .{0,200}(does not exist|not found)", re.IGNORECASE)
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_WRONG_PARAMETER = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
_SHOWN = 300  # characters of a server's message: some send back the request


def explain_error(error: openai.OpenAIError) -> CallError:
    """The `CallError` that one of the client's errors stands for; its message holds what the server said, unscrubbed."""
    if isinstance(error, openai.APITimeoutError):
        return CallError("time-out", "no answer within the server's time limit", retry=True)
    if isinstance(error, openai.APIConnectionError):
        return CallError("connection", f"the connection failed ({_cause(error)})", retry=True)
    if isinstance(error, openai.APIStatusError):
        return _explain_status(error)
    return CallError("unreadable reply", f"{type(error).__name__}: {str(error)[:_SHOWN]}", retry=True)


def _explain_status(error: openai.APIStatusError) -> CallError:
    status, said = error.status_code, server_message(error)
    told = f"HTTP {status}: {said}"
    marks = f"{error.code} {error.type} {said}"
    if error.code in _NO_CREDIT or error.type in _NO_CREDIT:
        return CallError("no credit", told, retry=False, fatal=True)
    if status in RETRIED or status >= 500:
        reason = RATE_LIMIT if status == 429 else "server error" if status >= 500 else "server busy"
        return CallError(reason, told, retry=True, retry_after=retry_after(error.response.headers))
    if status in (400, 403, 422) and _POLICY.search(marks):
        return CallError("content policy", told, retry=False)
    if status in FATAL or _SETTING.search(marks) or error.code in _WRONG_PARAMETER:
        return CallError("refused", told, retry=False, fatal=True)
    if _TOO_LONG.search(marks):
        return CallError("too long", told, retry=False)
    if status == 413:
        return CallError("too large", told, retry=False)
    return CallError("image refused" if _IMAGE.search(said) else "bad request", told, retry=False)


def refuses_schema(error: openai.APIStatusError) -> bool:
    """Whether a 400 (or 422) says that the server does not take the JSON schema."""
    named = f"{error.param} {server_message(error)}"
    return error.status_code in (400, 422) and bool(_SCHEMA.search(named))


def wants_completion_tokens(error: openai.APIStatusError) -> bool:
    """Whether a 400 says that this model takes `max_completion_tokens` in place of `max_tokens`."""
    return error.status_code == 400 and "max_completion_tokens" in server_message(error)


def server_message(error: openai.APIStatusError) -> str:
    """What the server says was wrong, in one line of bounded length."""
    body: Any = error.body
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("detail") or body
    return " ".join(str(body or error.response.reason_phrase or "without a reason").split())[:_SHOWN]


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a reply asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date.

    Args:
        headers: the reply's; looked up in lower case.
        now: seconds since 1970; None takes the clock.

    Returns:
        At least 0; None where nothing readable is said.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, TypeError, ValueError):
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))


def _cause(error: BaseException) -> str:
    """What the system said: the client's own error says "Connection error." whatever happened."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    # Beneath it there may be what a library met on the way and dealt with.
    found = next((one for one in reversed(chain) if isinstance(one, OSError)), chain[-1])
    mend = "; for your own authority set SSL_CERT_FILE" if isinstance(found, ssl.SSLCertVerificationError) else ""
    return f"{type(found).__name__}: {found}"[:_SHOWN] + mend
