"""What a server's refusal means for the call: tried again, given up, or a setting that makes all further calls fail.

Reads the openai client's errors into `CallError`. Nothing here knows a key: who does gives a function that takes it out
of a text before that is cut.
"""

from __future__ import annotations

import email.utils
import math
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import openai

from mrm.construction.calling.calls import CallError
from mrm.construction.calling.run_settings import NO_CREDIT, RATE_LIMIT

RETRIED = (408, 409, 425, 429)
# 401 and 403: the key; 402: no credit left; 404: no such model or no such path; 405: no such API.
FATAL = (401, 402, 403, 404, 405)
_POLICY = re.compile(r"content[ _-]?(policy|filter|management)|moderation|safety|ResponsibleAI", re.IGNORECASE)
_IMAGE = re.compile(r"\bimages?\b", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context[ _]length|maximum context|too many tokens|prompt is too long|longer than the maximum", re.I
)
_SCHEMA = re.compile(
    r"response_?(format|schema)|json_?schema|text\.format|structured[ _]outputs?|guided_|guided decoding", re.IGNORECASE
)
_SETTING = re.compile(r"api[ _]key|model_not_found|model .{0,200}(does not exist|not found)", re.IGNORECASE)
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_WRONG_PARAMETER = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
_SHOWN = 300  # characters of a server's message: some send back the request
_LONGEST_S = 1e9  # that a wait can be, some thirty years

Scrub = Callable[[str], str]


def explain_error(error: openai.OpenAIError, scrub: Scrub = str) -> CallError:
    """The `CallError` that one of the client's errors stands for.

    Args:
        error: the client's.
        scrub: takes the key out of a text.

    Returns:
        With what the server said, scrubbed and of bounded length.
    """
    if isinstance(error, openai.APITimeoutError):
        return CallError("time-out", "no answer within the server's time limit", retry=True)
    if isinstance(error, openai.APIConnectionError):
        return CallError("connection", f"the connection failed ({_cause(error, scrub)})", retry=True)
    if isinstance(error, openai.APIStatusError):
        return _explain_status(error, scrub)
    return CallError("unreadable reply", f"{type(error).__name__}: {scrub(str(error))[:_SHOWN]}", retry=True)


def _explain_status(error: openai.APIStatusError, scrub: Scrub) -> CallError:
    status, said = error.status_code, server_message(error, scrub)
    told = f"HTTP {status}: {said}"
    marks = f"{error.code} {error.type} {said}"
    if error.code in _NO_CREDIT or error.type in _NO_CREDIT:
        return CallError(NO_CREDIT, told, retry=False, fatal=True, replied=True)
    if status in RETRIED or status >= 500:
        reason = RATE_LIMIT if status == 429 else "server error" if status >= 500 else "server busy"
        wait_s = retry_after(error.response.headers)
        return CallError(reason, told, retry=True, retry_after=wait_s, replied=status < 500)
    reason, fatal = _refusal(error, status, said, marks)
    if 300 <= status < 400:
        told = f"HTTP {status}: redirected to {_location(error, scrub)}, which is not followed; set base_url to the server's own"
    return CallError(reason, told, retry=False, fatal=fatal, replied=True)


def _refusal(error: openai.APIStatusError, status: int, said: str, marks: str) -> tuple[str, bool]:
    """(reason, whether a setting is at fault) of what is not worth a retry."""
    if 300 <= status < 400:
        return "redirected", True
    if status in (400, 403, 422) and _POLICY.search(marks):
        return "content policy", False
    if status in FATAL or _SETTING.search(marks) or error.code in _WRONG_PARAMETER:
        return "refused", True
    if _TOO_LONG.search(marks):
        return "too long", False
    if status == 413:
        return "too large", False
    return ("image refused" if _IMAGE.search(said) else "bad request"), False


def _location(error: openai.APIStatusError, scrub: Scrub) -> str:
    """Where a redirect leads, without its query, which may hold a secret."""
    return scrub(str(error.response.headers.get("location", "nowhere"))).partition("?")[0][:_SHOWN]


def refuses_schema(error: openai.APIStatusError) -> bool:
    """Whether a 400, a 422 or a 5xx says that the server does not take the JSON schema."""
    named = f"{error.param} {server_message(error)}"
    return (error.status_code in (400, 422) or error.status_code >= 500) and bool(_SCHEMA.search(named))


def wants_completion_tokens(error: openai.APIStatusError) -> bool:
    """Whether a 400 says that this model takes `max_completion_tokens` in place of `max_tokens`."""
    return error.status_code == 400 and "max_completion_tokens" in server_message(error)


def server_message(error: openai.APIStatusError, scrub: Scrub = str) -> str:
    """What the server says was wrong, in one line of bounded length."""
    body: Any = error.body
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("detail") or body
    said = scrub(str(body or error.response.reason_phrase or "without a reason"))
    return " ".join(said.split())[:_SHOWN]


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a reply asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date.

    Args:
        headers: the reply's; looked up in lower case.
        now: seconds since 1970; None takes the reply's Date, else the clock.

    Returns:
        0 to about thirty years; None where nothing readable is said.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return min(_LONGEST_S, max(0.0, seconds))
    until = _date(headers, "retry-after")
    if until is None:
        return None
    since = now if now is not None else _date(headers, "date")  # the server's clock may be wrong
    return min(_LONGEST_S, max(0.0, until - (time.time() if since is None else since)))


def _date(headers: Mapping[str, str], name: str) -> float | None:
    """Seconds since 1970 of a header; None where it is missing or no date."""
    try:
        return email.utils.parsedate_to_datetime(headers[name]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _cause(error: BaseException, scrub: Scrub) -> str:
    """What the system said: the client's own error says "Connection error." whatever happened."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    # Beneath it there may be what a library met on the way and dealt with.
    found = next((one for one in reversed(chain) if isinstance(one, OSError)), chain[-1])
    mend = "; for your own authority set SSL_CERT_FILE" if isinstance(found, ssl.SSLCertVerificationError) else ""
    return scrub(f"{type(found).__name__}: {found}")[:_SHOWN] + mend
