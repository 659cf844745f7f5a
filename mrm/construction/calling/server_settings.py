"""What a server's settings may be, and what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mrm.construction.calling.key_names import KEY_ENV_RULE, is_key_env, names_secret
from mrm.construction.calling.server_client import MOST_CONNECTIONS
from mrm.construction.calling.server_requests import APIS

SCHEMA_MODES = ("auto", "on", "off")
DETAILS = (None, "low", "high", "auto")
LOCAL = ("127.0.0.1", "localhost", "::1")
_OWN_FIELDS = ("model", "messages", "input", "stream", "n")  # of the request; others in their place would break it
_KEYS = "keys come from the environment, name the variable in key_env"


def setting_problems(
    *,
    model: str,
    base_url: str,
    api: str,
    key_env: str | None,
    json_schema: str,
    sampling: Mapping[str, float | None],
    max_tokens: int | None,
    timeout_s: float,
    concurrency: int,
    max_image_pixels: int | None,
    image_detail: str | None,
    extra_body: Mapping[str, Any],
) -> list[str]:
    """Everything that cannot be, in words; a key that stands where it must not is not shown.

    Args:
        sampling: temperature, top_p and seed.
        model, base_url, api, ...: as of `servers.OpenAIServer`.
    """
    own = [field for field in _OWN_FIELDS if field in extra_body]
    given = {name: value for name, value in sampling.items() if value is not None}
    checks = (
        (bool(model), "model: must be given"),
        (
            _is_address(base_url),
            "base_url: must be http:// or https:// and a host (and a port up to 65535), such as https://api.openai.com/v1",
        ),
        (_is_bare(base_url), f"base_url: holds a password or a query; {_KEYS}"),
        (api in APIS, f"api={api!r}: must be one of {', '.join(APIS)}"),
        (json_schema in SCHEMA_MODES, f"json_schema={json_schema!r}: must be {', '.join(SCHEMA_MODES)}"),
        (image_detail in DETAILS, f"image_detail={image_detail!r}: must be low, high, auto or null"),
        (not ("seed" in given and api == "responses"), "seed: the Responses API knows none; leave it out"),
        (key_env is None or is_key_env(key_env), f"key_env: {KEY_ENV_RULE}"),
        (not names_secret(extra_body), f"extra_body: holds a key; {_KEYS}"),
        (not own, f"extra_body: {', '.join(own)} cannot be set there"),
        (all(map(math.isfinite, given.values())), f"{given}: must be finite"),
        (1 <= concurrency <= MOST_CONNECTIONS, f"concurrency={concurrency}: 1 to {MOST_CONNECTIONS}"),
        (math.isfinite(timeout_s) and timeout_s > 0, f"timeout_s={timeout_s}: must be above 0, and finite"),
        (max_tokens is None or max_tokens >= 1, f"max_tokens={max_tokens}: must be at least 1"),
        (
            max_image_pixels is None or max_image_pixels >= 1,
            f"max_image_pixels={max_image_pixels}: must be at least 1",
        ),
    )
    return [problem for sound, problem in checks if not sound]


def goes_in_the_clear(base_url: str) -> bool:
    """Whether what is sent there can be read on the way."""
    url = _parts_of(base_url)
    return url is not None and url.scheme == "http" and url.hostname not in LOCAL


def _is_address(base_url: str) -> bool:
    url = _parts_of(base_url)
    return url is not None and url.scheme in ("http", "https") and bool(url.hostname) and _has_port(url)


def _is_bare(base_url: str) -> bool:
    url = _parts_of(base_url)
    return url is None or not (url.username or url.password or url.query or url.fragment)


def _parts_of(url: str) -> Any:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _has_port(url: Any) -> bool:
    try:
        return url.port is None or 0 < url.port < 65536
    except ValueError:
        return False
