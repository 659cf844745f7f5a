"""OpenAI-compatible servers as models: OpenAI, Gemini's compatible endpoint, vLLM, SGLang and others.

Chat Completions or Responses. The key is read from the environment when a connection is opened, and kept nowhere else. TLS is
always verified; a certificate authority of one's own goes into the environment variable SSL_CERT_FILE, as for every
program over OpenSSL.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import openai

from mrm.construction.calling import token_estimates
from mrm.construction.calling.budget import Price
from mrm.construction.calling.calls import Answer, Call, CallError
from mrm.construction.calling.key_names import scrub
from mrm.construction.calling.server_client import ReplyTooLarge, open_client
from mrm.construction.calling.server_errors import explain_error, refuses_schema, wants_completion_tokens
from mrm.construction.calling.server_requests import chat_messages, read_reply, responses_input, schema_setting
from mrm.construction.calling.server_settings import goes_in_the_clear, setting_problems
from mrm.errors import ConfigError

NO_KEY = "EMPTY"  # what vLLM and SGLang are told by custom; the client cannot send nothing
_SHOWN = 300  # characters of an error
_HEADERS = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS")  # which the client sends along

log = logging.getLogger(__name__)


class OpenAIServer:
    """One model behind one server. A `Model`, for one run at a time.

    Args:
        name: unique in a run.
        model: the server's name for its model.
        base_url: such as "https://api.openai.com/v1" or "http://127.0.0.1:8000/v1".
        api: "chat" (Chat Completions) or "responses".
        key_env: environment variable that holds the key; None sends none, for local servers.
        json_schema: "on" asks for answers by the request's JSON schema, "off" never does, "auto" asks until the server
            refuses.
        temperature, top_p, seed: sampling; None leaves it to the server. Responses knows no seed.
        max_tokens: of an answer, at most; None leaves it to the server.
        timeout_s: seconds of silence after which a call is given up.
        concurrency: calls at once, at most.
        max_image_pixels: larger images are scaled down before they are sent; None sends them as they are.
        image_detail: "low", "high" or "auto", for servers that know it.
        price: money per million tokens; None where nobody knows.
        extra_body: further fields of the request, such as vLLM's and SGLang's own. Part of the identity: no secrets.

    Raises:
        ConfigError: for settings that cannot be; every problem in one message.
    """

    def __init__(
        self,
        name: str,
        *,
        model: str,
        base_url: str,
        api: str = "chat",
        key_env: str | None = None,
        json_schema: str = "auto",
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        timeout_s: float = 600.0,
        concurrency: int = 16,
        max_image_pixels: int | None = None,
        image_detail: str | None = None,
        price: Price | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.model, self.base_url, self.api, self.key_env = name, model, base_url, api, key_env
        self.json_schema, self.max_tokens, self.timeout_s = json_schema, max_tokens, timeout_s
        self.concurrency, self.price = concurrency, price
        self.max_image_pixels, self.image_detail = max_image_pixels, image_detail
        self.extra_body = dict(extra_body or {})
        self._scrub = partial(scrub, key_env=key_env)
        self._sampling = {"temperature": temperature, "top_p": top_p, "seed": seed}
        self._asks_schema = json_schema != "off"
        self._tokens_field = "max_tokens" if api == "chat" else "max_output_tokens"
        self._client: openai.AsyncOpenAI | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warned_of_usage = False
        problems = setting_problems(
            model=model,
            base_url=base_url,
            api=api,
            key_env=key_env,
            json_schema=json_schema,
            sampling=self._sampling,
            max_tokens=max_tokens,
            timeout_s=timeout_s,
            concurrency=concurrency,
            max_image_pixels=max_image_pixels,
            image_detail=image_detail,
            extra_body=self.extra_body,
        )
        if problems:
            raise ConfigError(f"server {name!r}: {'; '.join(problems)}.")
        self.identity: Mapping[str, Any] = {
            "server": "openai",
            "api": api,
            "model": model,
            **self._sampling,
            "max_tokens": max_tokens,
            "json_schema": json_schema,
            "max_image_pixels": max_image_pixels,
            "image_detail": image_detail,
            "extra_body": json.loads(json.dumps(self.extra_body)),
        }

    def __repr__(self) -> str:
        return (
            f"OpenAIServer({self.name!r}, model={self.model!r}, base_url={self.base_url!r}, key_env={self.key_env!r})"
        )

    def check(self) -> None:
        """Looks whether the key is there and a client can be made, before a run begins.

        Raises:
            ConfigError: naming the variable; for proxies, certificates and headers in the environment that cannot be.
        """
        self._key()
        for name in _HEADERS:
            if not os.environ.get(name, "").isascii():
                raise ConfigError(f"{self._place()}: the environment variable {name} must be ASCII; headers are.")
        try:
            self._new_client()
        except Exception as error:  # of whatever library the client stands on
            told = self._scrub(f"{type(error).__name__}: {error}")[:_SHOWN]
            raise ConfigError(
                f"{self._place()}: no connection can be made ({told}); look at the environment's *_PROXY, "
                "SSL_CERT_FILE and OPENAI_CUSTOM_HEADERS."
            ) from None
        if self.key_env and goes_in_the_clear(self.base_url):
            log.warning("server %r: %s is not encrypted; the key of %s goes over it in the clear.",
                        self.name, self.base_url, self.key_env)  # fmt: skip

    async def answer(self, call: Call) -> Answer:
        """See `Model.answer`.

        Raises:
            CallError: where no answer came; its message names server, base URL and variable, never the key.
        """
        try:
            return self._counted(call, read_reply(self.api, await self._asked(call), self._scrub))
        except CallError as error:
            fault = error
        except ConfigError:
            raise
        except Exception as error:  # a reply so odd that a library beneath trips over it
            fault = CallError("unreadable reply", self._scrub(f"{type(error).__name__}: {error}")[:_SHOWN], retry=True)
        raise self._told(fault) from None  # the client's own error may quote a key that the server sent back

    async def _asked(self, call: Call) -> Any:
        try:
            return await self._reply(call)
        except ReplyTooLarge as error:
            raise CallError("reply too large", str(error), retry=True, replied=True) from None
        except openai.OpenAIError as error:
            raise explain_error(error, self._scrub) from None

    def _counted(self, call: Call, answer: Answer) -> Answer:
        """The answer without the key, and with estimates where the server does not count: else no budget would hold."""
        hide = partial(self._scrub, answer=True)
        taken, given = answer.input_tokens, answer.output_tokens
        if not taken or (answer.text and not given):
            if not self._warned_of_usage:
                log.warning("%s does not say what its answers take; tokens are estimated.", self._place())
                self._warned_of_usage = True
            taken = taken or token_estimates.input_tokens(call.chat, self.max_image_pixels)
            given = given or token_estimates.text_tokens(answer.text)
        return Answer(hide(answer.text), taken, given, hide(answer.model), hide(answer.finish))

    async def aclose(self) -> None:
        """Closes the connections; the next call opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    async def _reply(self, call: Call) -> Any:
        """The reply's JSON; goes on without what the server turns out not to take."""
        fields = await self._fields(call)
        refusal: openai.APIStatusError | None = None  # of the schema
        while True:
            schema = call.chat.schema if self._asks_schema and refusal is None else None
            tokens_field = self._tokens_field
            settings = {} if schema is None else schema_setting(self.api, schema)
            limit = {} if self.max_tokens is None else {tokens_field: self.max_tokens}
            try:
                reply = await self._send({**fields, **settings, **limit})
            except openai.APIStatusError as error:
                if schema is not None and refuses_schema(error):
                    self._check_schema_may_go(error)
                    refusal = error
                elif limit and tokens_field == "max_tokens" and wants_completion_tokens(error):
                    self._tokens_field = "max_completion_tokens"
                else:
                    raise
            else:
                if refusal is not None:  # the same call went through without: it was the schema
                    self._drop_schema(refusal)
                return reply

    async def _fields(self, call: Call) -> dict[str, Any]:
        form = chat_messages if self.api == "chat" else responses_input
        build = partial(form, max_image_pixels=self.max_image_pixels, image_detail=self.image_detail)
        if any(isinstance(part, bytes) for turn in call.chat.messages for part in turn.parts):
            turns = await asyncio.to_thread(build, call.chat.messages)  # scaling would hold up other calls
        else:
            turns = build(call.chat.messages)
        sampling = {key: value for key, value in self._sampling.items() if value is not None}
        # Else OpenAI keeps Responses for 30 days.
        kept = {"messages": turns} if self.api == "chat" else {"input": turns, "store": False}
        return {"model": self.model, **sampling, **kept}

    async def _send(self, fields: dict[str, Any]) -> Any:
        client = self._connected()
        api: Any = client.chat.completions if self.api == "chat" else client.responses
        raw = await api.with_raw_response.create(**fields, extra_body=self.extra_body or None)
        try:
            return json.loads(raw.content)
        except ValueError as error:
            shown = self._scrub(raw.content[:10_000].decode("utf-8", "replace"))[:100]
            raise CallError(
                "unreadable reply", f"the reply is no JSON ({str(error)[:100]}): {shown!r}", retry=True
            ) from None

    def _connected(self) -> openai.AsyncOpenAI:
        """The client; a new one in a new event loop, whose connections the old loop cannot serve."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = self._new_client(), loop
        return self._client

    def _new_client(self) -> openai.AsyncOpenAI:
        return open_client(self.base_url, self._key() or NO_KEY, self.timeout_s)

    def _check_schema_may_go(self, error: openai.APIStatusError) -> None:
        if self.json_schema == "on" and error.status_code >= 500:
            raise error
        if self.json_schema == "on":
            said = f"{explain_error(error, self._scrub)}; the server takes no JSON schema: set json_schema=auto or off"
            raise CallError("refused", said, retry=False, fatal=True, replied=True)

    def _drop_schema(self, error: openai.APIStatusError) -> None:
        if self._asks_schema:
            self._asks_schema = False
            said = explain_error(error, self._scrub)
            log.warning("%s takes no JSON schema (%s); going on without.", self._place(), said)

    def _key(self) -> str:
        if self.key_env is None:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise ConfigError(
                f"{self._place()}: the environment variable {self.key_env} is not set; put the key there."
            )
        if (
            not key.isascii() or not key.isprintable() or " " in key
        ):  # a header that cannot be sent would be quoted in an error
            raise ConfigError(f"{self._place()}: {self.key_env} holds characters that no key has; set it again.")
        return key

    def _place(self) -> str:
        return f"server {self.name!r} ({self.base_url})"

    def _told(self, fault: CallError) -> CallError:
        mend = ""
        if fault.fatal:
            source = f"the key in {self.key_env}" if self.key_env else "key_env (no key is sent)"
            mend = f" Check base_url, model={self.model!r} and {source}."
        return CallError(
            fault.reason, f"{self._place()}: {self._scrub(str(fault))}{mend}",
            retry=fault.retry, retry_after=fault.retry_after, fatal=fault.fatal, replied=fault.replied,
        )  # fmt: skip
