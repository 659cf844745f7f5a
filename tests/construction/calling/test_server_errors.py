import json
import ssl

import openai
import pytest

from mrm.construction.calling.server_errors import explain_error, refuses_schema, retry_after, wants_completion_tokens


def status_error(
    status: int, message: str, *, code: str | None = None, param: str | None = None
) -> openai.APIStatusError:
    """An error as the client makes it from a reply."""
    client = openai.OpenAI(api_key="k", base_url="http://127.0.0.1:9/v1")
    request = client._client.build_request("POST", "http://127.0.0.1:9/v1")
    module = __import__(type(request).__module__.partition(".")[0])  # the client's own HTTP library
    body = {"error": {"message": message, "code": code, "param": param, "type": "invalid_request_error"}}
    response = module.Response(status, request=request, content=json.dumps(body).encode())
    return client._make_status_error_from_response(response)


@pytest.mark.parametrize(
    "status, message, code, reason, retry, fatal",
    [
        (408, "slow", None, "server busy", True, False),
        (409, "conflict", None, "server busy", True, False),
        (425, "early", None, "server busy", True, False),
        (429, "slow down", None, "rate limit", True, False),
        (429, "pay", "insufficient_quota", "no credit", False, True),
        (500, "oops", None, "server error", True, False),
        (529, "overloaded", None, "server error", True, False),
        (401, "who", None, "refused", False, True),
        (403, "not here", None, "refused", False, True),
        (403, "flagged by moderation", None, "content policy", False, False),
        (404, "no model", "model_not_found", "refused", False, True),
        (400, "API key not valid", None, "refused", False, True),
        (400, "temperature: not supported", "unsupported_value", "refused", False, True),
        (400, "violates the content policy", "content_policy_violation", "content policy", False, False),
        (400, "Invalid image data", None, "image refused", False, False),
        (400, "maximum context length is 100", None, "too long", False, False),
        (400, "something else", None, "bad request", False, False),
        (413, "large", None, "too large", False, False),
        (422, "something else", None, "bad request", False, False),
    ],
)
def test_explain_error_tells_what_to_do(status, message, code, reason, retry, fatal):
    error = explain_error(status_error(status, message, code=code))
    assert (error.reason, error.retry, error.fatal) == (reason, retry, fatal)
    assert message in str(error) and str(status) in str(error)


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:00 +999999999999"}, None),
        ({"retry-after": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}, None),
        ({"retry-after": "1e308"}, 1e9),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_retry_after_reads_milliseconds_seconds_and_dates(headers, seconds):
    assert retry_after(headers, now=40.0) == seconds


def test_retry_after_of_a_date_is_by_the_servers_own_clock():
    headers = {"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT", "date": "Thu, 01 Jan 1970 00:00:50 GMT"}
    assert retry_after(headers) == 10.0


def test_refuses_schema_where_the_400_names_it():
    assert refuses_schema(status_error(400, "Invalid parameter", param="response_format"))
    assert refuses_schema(status_error(400, "json_schema is not supported"))
    assert not refuses_schema(status_error(400, "the image is broken"))
    assert refuses_schema(status_error(501, "response_format is not implemented"))
    assert not refuses_schema(status_error(400, "the database schema of this image is broken"))
    assert not refuses_schema(status_error(404, "response_format"))


def test_wants_completion_tokens_where_the_400_names_them():
    assert wants_completion_tokens(status_error(400, "Use 'max_completion_tokens' instead."))
    assert not wants_completion_tokens(status_error(400, "max_tokens is too large"))


def test_explain_error_of_a_certificate_names_what_the_system_said_and_the_mend() -> None:
    refused = ssl.SSLCertVerificationError(1, "self-signed certificate")
    refused.__context__ = RuntimeError("no running event loop")  # as a library meets it on the way
    error = openai.APIConnectionError(request=status_error(500, "x").request)
    error.__cause__ = refused
    fault = explain_error(error)
    assert "self-signed certificate" in str(fault)
    assert "set SSL_CERT_FILE" in str(fault)
