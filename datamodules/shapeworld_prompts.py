"""ShapeWorld's questions without responses, as preference construction begins with them.

`meta["truth"]["answers"]` holds every answer by number of errors and style: what the embedded models draw from and judge
by, see `mrm.construction.embedded`. Everything is a function of (seed, number), as in `shapeworld.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from datamodules.shapeworld import STYLES, Answer, ask_any, png, tell
from mrm.construction.records import ImageStore, PromptRecord
from mrm.errors import ConfigError
from mrm.preference import IMAGE_MARKER, Message

SOURCE = "shapeworld_constructed"


def generate_prompts(
    count: int, seed: int, images: ImageStore, *, wrong_references: float = 0.1
) -> Iterator[PromptRecord]:
    """Makes prompts.

    Args:
        count: how many.
        seed: of everything random.
        images: takes the renderings.
        wrong_references: share whose reference answer has an error, in [0, 1]: published references have some.

    Raises:
        ConfigError: for a share outside [0, 1], or a count below 1.
    """
    if not 0 <= wrong_references <= 1 or count < 1:
        raise ConfigError(
            f"shapeworld: count={count} must be at least 1, wrong_references={wrong_references} in [0, 1]."
        )
    for number in range(count):
        rng = random.Random(f"prompts/{seed}/{number}")
        scene, question = ask_any(rng)
        answers = {0: question.right, **question.wrong}
        wrong = rng.random() < wrong_references
        reference = answers[rng.choice(sorted(question.wrong))] if wrong else question.right
        yield PromptRecord(
            key=f"constructed-{seed}-{number:06d}",
            source=SOURCE,
            prompt=(Message("user", f"{IMAGE_MARKER}{question.text}"),),
            images=(images.keep(png(scene)),),
            reference=reference.sentence,
            meta={"kind": question.kind, "truth": {"answers": {str(e): _styles(a) for e, a in answers.items()}}},
        )


def _styles(answer: Answer) -> dict[str, str]:
    return {style: tell(answer, style) for style in STYLES}
