"""What the fault server's model says: a deterministic function of what it is shown.

A judge's prompt is known by the shape of JSON that it asks for, and gets a scoring of that shape; a response is as good as its
text's hash says, give or take a little, so that judges mostly agree. Any other prompt gets a text.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

_CRITERION = re.compile(r'"(\w+)": \{"analysis"')
_RESPONSE = re.compile(r"\[\[(?:Response |回答)(\d+) ([0-9a-f]{12})\n(.*?)\n(?:Response |回答)\1 \2\]\]", re.DOTALL)
_WEIGHTS = (0.5, 0.3)  # of the first criteria; the others share the rest
_STYLES = ("{}.", "There are {}.", "Let me look. I count **{}** here!", "- {}\n- nothing else\n\nI hope this helps.")


def share(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def is_judging(system: str) -> bool:
    """Whether a system turn asks for a scoring."""
    return bool(_CRITERION.search(system))


def scoring(system: str, user: str, kind: str) -> str:
    """The scoring that a judge's prompt asks for, spoilt as `kind` says."""
    names = _CRITERION.findall(system)
    texts = [text for _, _, text in _RESPONSE.findall(user)]
    judged = [_response(number, text, names) for number, text in enumerate(texts, start=1)]
    if kind == "wrong count":
        judged.append(_response(len(texts) + 1, "", names))
    for response in judged[:1]:
        said = response["criteria"][names[0]]
        if kind == "string scores":
            said["score"] = str(said["score"])
        if kind == "out of range":
            said["score"] = 11
    return json.dumps({"reference": "As the image shows.", "responses": judged})


def response_text(said: str) -> str:
    """A response to any other prompt; `said` is all that decides it."""
    style = _STYLES[int(share(said, "style") * len(_STYLES))]
    return style.format(f"{1 + int(share(said, 'count') * 40)} circles")


def _response(number: int, text: str, names: list[str]) -> dict[str, Any]:
    rest = (1 - sum(_WEIGHTS)) / (len(names) - len(_WEIGHTS))
    weights = dict(zip(names, [*_WEIGHTS, *[rest] * (len(names) - len(_WEIGHTS))], strict=True))
    scores = {name: min(10, int(share(text, "quality") * 9 + share(text, name) * 2)) for name in names}
    criteria = {name: {"analysis": "Seen.", "score": scores[name], "weight": weights[name]} for name in names}
    overall = round(sum(scores[name] * weights[name] for name in names), 2)
    return {"response": number, "criteria": criteria, "overall": overall}
