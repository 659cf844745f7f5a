import asyncio
import logging
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mrm.construction.calling import server_client
from mrm.construction.calling.calls import Call, CallError
from mrm.construction.calling.servers import OpenAIServer
from mrm.errors import ConfigError
from tests.construction.asking_helpers import make_call, run, server_model
from tests.construction.fault_server import FaultServer
from tests.datamodules.making import make_image

SECRET = "sk-secret-1234567890"


def ask(model: OpenAIServer, call: Call | None = None):
    async def once():
        try:
            return await model.answer(call or make_call("r0"))
        finally:
            await model.aclose()

    return asyncio.run(once())


def fault(model: OpenAIServer, call: Call | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        ask(model, call)
    return caught.value


def always(kind: str):
    return lambda record, attempt: kind


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_answer_brings_text_tokens_and_the_servers_model(api):
    with FaultServer() as server:
        answer = ask(server_model(server.url, api=api))
    assert answer.text.startswith('{"scores"') and answer.model == "judge-1" and answer.finish == "stop"
    assert answer.input_tokens > 0 and answer.output_tokens > 0


@pytest.mark.parametrize("api, field", [("chat", "messages"), ("responses", "input")])
def test_answer_sends_images_settings_and_schema(api, field):
    with FaultServer() as server:
        model = server_model(server.url, api=api, temperature=0.5, top_p=0.9, max_tokens=50, extra_body={"top_k": 3})
        ask(model, make_call("r0", images=(make_image(),)))
        body = server.bodies[-1]
    assert body["temperature"] == 0.5 and body["top_p"] == 0.9 and body["top_k"] == 3
    assert body["max_tokens" if api == "chat" else "max_output_tokens"] == 50
    assert "image" in body[field][-1]["content"][1]["type"]
    assert "response_format" in body if api == "chat" else "text" in body and body["store"] is False


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_answer_goes_on_without_schema_where_the_server_refuses_it(api, caplog):
    with FaultServer(json_schema=False) as server, caplog.at_level(logging.WARNING):
        model = server_model(server.url, api=api)
        assert ask(model).text and ask(model, make_call("r1")).text
        sent = ["response_format" in body or "text" in body for body in server.bodies]
    assert sent == [True, False, False]
    assert caplog.text.count("takes no JSON schema") == 1


def test_answer_with_the_schema_on_stops_where_the_server_refuses_it():
    with FaultServer(json_schema=False) as server:
        error = fault(server_model(server.url, json_schema="on"))
    assert error.fatal and "json_schema=auto" in str(error)


def test_answer_with_the_schema_off_never_asks_for_it():
    with FaultServer() as server:
        ask(server_model(server.url, json_schema="off"))
        assert "response_format" not in server.bodies[-1]


def test_answer_names_its_limit_as_the_model_wants_it():
    with FaultServer(max_tokens=False) as server:
        model = server_model(server.url, max_tokens=40)
        assert ask(model).text and ask(model, make_call("r1")).text
        assert [body.get("max_completion_tokens") for body in server.bodies] == [None, 40, 40]


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("429", "rate limit"),
        ("500", "server error"),
        ("503", "server error"),
        ("dropped", "connection"),
        ("cut body", "connection"),
        ("no json body", "unreadable reply"),
    ],
)
def test_answer_of_a_faulty_server_may_be_tried_again(kind, reason):
    with FaultServer(always(kind)) as server:
        error = fault(server_model(server.url))
    assert error.reason == reason and error.retry and not error.fatal


def test_answer_gives_up_a_silent_server():
    with FaultServer(always("slow"), slow_s=5) as server:
        error = fault(server_model(server.url, timeout_s=0.2))
    assert error.reason == "time-out" and error.retry


def test_answer_without_a_server_names_the_cause():
    error = fault(server_model("http://127.0.0.1:9/v1"))
    assert error.reason == "connection" and error.retry and "http://127.0.0.1:9/v1" in str(error)


@pytest.mark.parametrize("headers, seconds", [({"retry-after": "7"}, 7.0), ({"retry-after-ms": "1500"}, 1.5)])
def test_answer_tells_how_long_the_server_asks_to_wait(headers, seconds):
    with FaultServer(always("429"), retry_after=headers) as server:
        assert fault(server_model(server.url)).retry_after == seconds


def test_answer_without_credit_stops_the_run():
    with FaultServer(always("quota")) as server:
        error = fault(server_model(server.url))
    assert error.reason == "no credit" and error.fatal and not error.retry


def test_answer_against_the_content_policy_is_given_up_alone():
    with FaultServer(always("policy")) as server:
        error = fault(server_model(server.url))
    assert error.reason == "content policy" and not error.retry and not error.fatal


def test_answer_of_an_unknown_model_stops_the_run_and_names_it():
    with FaultServer() as server:
        error = fault(server_model(server.url, model="other"))
    assert error.fatal and "model='other'" in str(error) and server.url in str(error)


def test_answer_with_a_wrong_key_stops_the_run_and_names_the_variable_alone(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    with FaultServer(key="another") as server:
        error = fault(server_model(server.url, key_env="JUDGE_KEY"))
    assert error.fatal and "JUDGE_KEY" in str(error) and "'judge'" in str(error) and server.url in str(error)
    assert SECRET not in str(error)


def test_key_is_sent_and_found_nowhere_else(monkeypatch, tmp_path, caplog, capfd):
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2"):
        caplog.set_level(logging.DEBUG, logger=name)
    kinds = {"r0": "good", "r1": "policy", "r2": "dropped", "r3": "refusal"}
    with FaultServer(lambda record, attempt: kinds[record], key=SECRET) as server:
        model = server_model(server.url, key_env="JUDGE_KEY")
        account = run([make_call(record) for record in kinds], model, tmp_path / "log")
        assert server.headers["authorization"] == f"Bearer {SECRET}" and account.answered == 1
        monkeypatch.setenv("JUDGE_KEY", SECRET + "x")  # a wrong one, which the server sends back
        with pytest.raises(ConfigError) as caught:
            run([make_call("r9")], model, tmp_path / "new")
    written = "".join(path.read_text() for path in (tmp_path / "log").iterdir())
    shown = "".join(capfd.readouterr())
    held = repr(vars(model)) + repr(model) + str(model.identity)
    for place in (written, caplog.text, shown, str(caught.value), held, str(account)):
        assert SECRET not in place


def test_no_other_key_of_the_environment_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with FaultServer() as server:
        ask(server_model(server.url))
        assert SECRET not in str(server.headers)


@pytest.mark.parametrize("value", [None, "", "two words", "sk-é"])
def test_check_of_a_missing_or_broken_key_names_the_variable(value, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("JUDGE_KEY", value)
    with pytest.raises(ConfigError, match="JUDGE_KEY") as caught:
        server_model("http://127.0.0.1:9/v1", key_env="JUDGE_KEY").check()
    assert not value or value not in str(caught.value)


def test_a_key_over_a_line_in_the_clear_is_warned_about(monkeypatch, caplog):
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    server_model("http://judges.example/v1", key_env="JUDGE_KEY").check()
    assert "not encrypted" in caplog.text and SECRET not in caplog.text


def test_settings_that_cannot_be_are_told_in_one_message():
    with pytest.raises(ConfigError) as caught:
        OpenAIServer("j", model="m", base_url="ftp://x", api="both", concurrency=0, json_schema="perhaps")
    for word in ("api", "base_url", "concurrency", "json_schema"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": f"https://user:{SECRET}@host/v1"},
        {"base_url": f"https://host/v1?key={SECRET}"},
        {"extra_body": {"api_key": SECRET}},
        {"extra_body": {"more": [{"Authorization": SECRET}]}},
        {"key_env": SECRET},
    ],
)
def test_settings_that_hold_a_key_are_refused_without_showing_it(settings):
    with pytest.raises(ConfigError, match="key_env") as caught:
        OpenAIServer("j", **{"model": "m", "base_url": "https://host/v1", **settings})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "settings, word",
    [
        ({"base_url": "http://host:99999/v1"}, "port"),
        ({"base_url": "http://host:abc/v1"}, "port"),
        ({"temperature": float("nan")}, "finite"),
        ({"timeout_s": float("inf")}, "finite"),
        ({"extra_body": {"stream": True}}, "stream"),
    ],
)
def test_settings_that_no_request_can_have_are_refused(settings, word):
    with pytest.raises(ConfigError, match=word):
        OpenAIServer("j", **{"model": "m", "base_url": "https://host/v1", **settings})


@pytest.mark.parametrize(
    "name, value",
    [("SSL_CERT_FILE", "/nowhere/ca.pem"), ("ALL_PROXY", "socks9://127.0.0.1:1"), ("OPENAI_CUSTOM_HEADERS", "X: é")],
)
def test_check_tells_of_surroundings_in_which_no_connection_can_be_made(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name if "PROXY" not in name else "PROXY"):
        server_model("https://judges.example/v1").check()


@pytest.mark.parametrize("kind", ["deep JSON", "odd charset"])
def test_a_reply_that_a_library_trips_over_may_be_tried_again(kind):
    with FaultServer(always(kind)) as server:
        error = fault(server_model(server.url))
    assert error.reason == "unreadable reply" and error.retry


@pytest.mark.parametrize("kind", ["endless", "endless error", "packed"])
def test_a_reply_that_is_too_large_is_not_read_to_its_end(kind, monkeypatch):
    monkeypatch.setattr(server_client, "MOST_BYTES", 1 << 20)
    with FaultServer(always(kind)) as server:
        error = fault(server_model(server.url, timeout_s=20.0))
    assert error.reason == "reply too large" and error.retry and not error.fatal and "1,048,576" in str(error)


def test_a_reply_may_be_packed_and_long():
    plan = lambda record, attempt: "packed small"  # noqa: E731
    with FaultServer(plan) as server:
        assert ask(server_model(server.url)).text.startswith('{"scores"')


def test_a_redirect_is_a_wrong_setting_and_is_not_followed():
    with FaultServer(always("redirect")) as server:
        error = fault(server_model(server.url))
    assert error.fatal and "127.0.0.1:9/elsewhere" in str(error) and "token" not in str(error)


def test_a_key_is_taken_out_before_a_message_is_cut(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    with FaultServer(always("key in reply")) as server:
        error = fault(server_model(server.url, key_env="JUDGE_KEY"))
    assert "sk-" not in str(error) and "x" * 290 in str(error)


def test_a_schema_is_kept_where_the_call_fails_without_it_too():
    kinds = {"r0": "schema in image", "r1": "good"}
    with FaultServer(lambda record, attempt: kinds[record]) as server:
        model = server_model(server.url)
        assert fault(model).reason == "image refused"
        ask(model, make_call("r1"))
        assert ["response_format" in body for body in server.bodies] == [True, False, True]


def test_a_501_that_names_the_schema_is_answered_without_it():
    with FaultServer(always("schema 501")) as server:
        assert ask(server_model(server.url)).text


def test_responses_without_a_seed_refuse_one():
    with pytest.raises(ConfigError, match="seed"):
        OpenAIServer("j", model="m", base_url="https://host/v1", api="responses", seed=1)


def test_identity_holds_settings_and_neither_address_nor_name():
    one = OpenAIServer("a", model="m", base_url="https://a/v1", temperature=0.1)
    other = OpenAIServer("b", model="m", base_url="https://b/v1", temperature=0.1, concurrency=3)
    assert one.identity == other.identity
    assert one.identity != OpenAIServer("a", model="m", base_url="https://a/v1", temperature=0.2).identity


def test_answer_works_again_in_another_event_loop():
    with FaultServer() as server:
        model = server_model(server.url)
        assert asyncio.run(model.answer(make_call("r0"))).text
        assert ask(model, make_call("r1")).text


class _Silent(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_error(500)

    def log_message(self, *args):
        pass


@pytest.fixture
def tls_server(tmp_path):
    """An HTTPS server whose certificate nobody vouches for: (address, certificate)."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    try:
        subprocess.run([*make, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    server = HTTPServer(("127.0.0.1", 0), _Silent)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_port}/v1", certificate
    server.shutdown()
    thread.join()


def test_answer_refuses_a_certificate_that_nobody_vouches_for(tls_server, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    error = fault(server_model(tls_server[0]))
    assert error.reason == "connection" and "certificate" in str(error).lower()


def test_answer_trusts_an_authority_in_ssl_cert_file(tls_server, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_server[1]))
    assert fault(server_model(tls_server[0])).reason == "server error"  # it was reached
