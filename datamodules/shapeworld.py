"""ShapeWorld: an embedded world in which everything about a preference is known.

Scenes of one to five coloured shapes are rendered with Pillow; questions about them have right answers and wrong
ones with a known number of errors, told in several styles that have nothing to do with the truth. From them come
trusted sets with true strengths, text-to-image pairs, an open pool with flipped labels and a style that follows the
label, and test sets. What is known stays in `meta["truth"]`: errors per response, flipped per pair, styles.

Everything is a function of (split, seed, number): sample 17 is the same however many are made. Writing shards is left
to `datamodules.prepare`, the wording of text-to-image prompts to `mrm.construction.reformulation`.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from mrm.construction.reformulation import T2IPreference, balanced_sides, reformulate
from mrm.errors import ConfigError
from mrm.preference import IMAGE_MARKER, Message, Pair, PreferenceSample

IMAGE_SIZE = 96  # pixels a side: 3 x 3 image tokens at patch 16 and merge 2, one a place
CELL = 32  # pixels a side of one of the 3 x 3 places
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 80, 200),
    "yellow": (240, 210, 30),
    "purple": (150, 60, 190),
    "orange": (255, 127, 14),
}
SIZES = {"small": 7, "large": 13}  # half the extent in pixels
# In the order in which a phrase tells them.
ATTRIBUTES = {"size": tuple(SIZES), "colour": tuple(COLOURS), "shape": SHAPES}
PLACES = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
KINDS = ("count", "existence", "colour", "position", "description")
PLAIN_STYLES = ("plain", "terse")
FANCY_STYLES = ("wordy", "markdown")
STYLES = PLAIN_STYLES + FANCY_STYLES
MAX_ERRORS = 4  # this many errors more than the other response is strength 1


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of a scene. `place` indexes PLACES; `dx`, `dy` shift it by pixels and are never asked about."""

    shape: str
    colour: str
    size: str
    place: int
    dx: int = 0
    dy: int = 0

    def phrase(self) -> str:
        return f"at the {PLACES[self.place]} a {self.size} {self.colour} {self.shape}"


Scene = tuple[Thing, ...]  # in reading order


@dataclass(frozen=True)
class Answer:
    """What is said, before style: `short` is the bare value, `sentence` the full form, `items` a description's parts."""

    short: str
    sentence: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question about a scene, its right answer, and wrong answers by number of errors."""

    kind: str
    text: str
    right: Answer
    wrong: dict[int, Answer]  # number of errors -> answer


def sample_scene(rng: random.Random, *, most: int = 5) -> Scene:
    """A scene of 1 to `most` things in different places, in reading order."""
    places = sorted(rng.sample(range(len(PLACES)), rng.randint(1, most)))
    return tuple(
        Thing(
            rng.choice(SHAPES),
            rng.choice(tuple(COLOURS)),
            rng.choice(tuple(SIZES)),
            place,
            rng.randint(-2, 2),
            rng.randint(-2, 2),
        )
        for place in places
    )


def render(scene: Scene) -> Image.Image:
    """Draws a scene as an RGB image of IMAGE_SIZE pixels a side."""
    scale = 2  # drawn at twice the size and reduced, for smooth edges
    image = Image.new("RGB", (IMAGE_SIZE * scale, IMAGE_SIZE * scale), (245, 245, 245))
    draw = ImageDraw.Draw(image)
    for thing in scene:
        row, column = divmod(thing.place, 3)
        x = (column * CELL + CELL // 2 + thing.dx) * scale
        y = (row * CELL + CELL // 2 + thing.dy) * scale
        r = SIZES[thing.size] * scale
        colour = COLOURS[thing.colour]
        if thing.shape == "circle":
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        elif thing.shape == "square":
            draw.rectangle((x - r, y - r, x + r, y + r), fill=colour)
        elif thing.shape == "triangle":
            draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
        else:
            arm = max(2, r // 3)
            draw.rectangle((x - r, y - arm, x + r, y + arm), fill=colour)
            draw.rectangle((x - arm, y - r, x + arm, y + r), fill=colour)
    return image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)


def png(scene: Scene) -> bytes:
    """The rendered scene as PNG bytes."""
    buffer = io.BytesIO()
    render(scene).save(buffer, format="PNG")
    return buffer.getvalue()


def with_errors(rng: random.Random, scene: Scene, errors: int) -> Scene:
    """The scene with exactly `errors` attributes changed, each of another (thing, attribute)."""
    slots = [(i, attribute) for i in range(len(scene)) for attribute in ("shape", "colour", "size", "place")]
    things = list(scene)
    for i, attribute in rng.sample(slots, errors):
        thing = things[i]
        if attribute == "place":
            taken = {other.place for other in things} | {other.place for other in scene}
            free = [place for place in range(len(PLACES)) if place not in taken]
            things[i] = replace(thing, place=rng.choice(free))
        else:
            values = [value for value in ATTRIBUTES[attribute] if value != getattr(thing, attribute)]
            things[i] = replace(thing, **{attribute: rng.choice(values)})
    return tuple(sorted(things, key=lambda thing: thing.place))


def ask_count(rng: random.Random, scene: Scene) -> Question:
    """How many objects, or how many of a shape or colour."""
    by = rng.choice(("all", "shape", "colour"))
    if by == "all":
        noun, count = "object", len(scene)
    elif by == "shape":
        noun = rng.choice([thing.shape for thing in scene] + [rng.choice(SHAPES)])
        count = sum(thing.shape == noun for thing in scene)
    else:
        colour = rng.choice([thing.colour for thing in scene] + [rng.choice(tuple(COLOURS))])
        noun, count = f"{colour} object", sum(thing.colour == colour for thing in scene)
    plural = "crosses" if noun == "cross" else noun + "s"

    def answer(n: int) -> Answer:
        return Answer(str(n), f"There is 1 {noun}." if n == 1 else f"There are {n} {plural}.")

    wrong = {}
    for errors in (1, 2, 3):
        values = [n for n in (count - errors, count + errors) if 0 <= n <= 6]
        if values:
            wrong[errors] = answer(rng.choice(values))
    return Question("count", f"How many {plural} are there?", answer(count), wrong)


def ask_existence(rng: random.Random, scene: Scene) -> Question:
    """Whether a thing, right in all but at most one respect, is there."""
    thing = rng.choice(scene)
    if rng.random() < 0.5:
        (thing,) = with_errors(rng, (thing,), 1)
        if rng.random() < 0.3:  # a stranger, to keep single-attribute slips from being the only wrong ones
            thing = sample_scene(rng, most=1)[0]
    phrase = thing.phrase()
    there = any(other.phrase() == phrase for other in scene)
    answers = {True: Answer("Yes", f"Yes, {phrase}."), False: Answer("No", f"No, not {phrase}.")}
    return Question("existence", f"Is there {phrase}?", answers[there], {1: answers[not there]})


def ask_colour(rng: random.Random, scene: Scene) -> Question:
    """The colour of the thing at a place."""
    thing = rng.choice(scene)
    name = f"{thing.shape} at the {PLACES[thing.place]}"

    def answer(colour: str) -> Answer:
        return Answer(colour, f"The {name} is {colour}.")

    other = rng.choice([colour for colour in COLOURS if colour != thing.colour])
    return Question("colour", f"What colour is the {name}?", answer(thing.colour), {1: answer(other)})


def ask_position(rng: random.Random, scene: Scene) -> Question:
    """The place of a thing that no other resembles; an error is a step on the 3 x 3 grid."""
    names = [f"{thing.size} {thing.colour} {thing.shape}" for thing in scene]
    unique = [i for i, name in enumerate(names) if names.count(name) == 1]
    if not unique:
        return ask_colour(rng, scene)
    i = rng.choice(unique)
    place = scene[i].place

    def answer(where: int) -> Answer:
        return Answer(PLACES[where], f"The {names[i]} is at the {PLACES[where]}.")

    def steps(where: int) -> int:
        return abs(where // 3 - place // 3) + abs(where % 3 - place % 3)

    wrong = {}
    for errors in (1, 2, 3, 4):
        places = [where for where in range(len(PLACES)) if steps(where) == errors]
        if places:
            wrong[errors] = answer(rng.choice(places))
    return Question("position", f"Where is the {names[i]}?", answer(place), wrong)


def ask_description(rng: random.Random, scene: Scene) -> Question:
    """All of the scene, in reading order; an error is a wrong attribute."""

    def answer(described: Scene) -> Answer:
        items = tuple(thing.phrase() for thing in described)
        return Answer(", ".join(items), f"The image shows {', '.join(items)}.", items)

    most = min(MAX_ERRORS, 4 * len(scene))
    wrong = {errors: answer(with_errors(rng, scene, errors)) for errors in range(1, most + 1)}
    return Question("description", "Describe the image.", answer(scene), wrong)


ASK: dict[str, Callable[[random.Random, Scene], Question]] = {
    "count": ask_count,
    "existence": ask_existence,
    "colour": ask_colour,
    "position": ask_position,
    "description": ask_description,
}


def tell(answer: Answer, style: str) -> str:
    """An answer in a style. The style carries no information about the truth."""
    if style == "terse":
        return answer.short
    if style == "plain":
        return answer.sentence
    if style == "wordy":
        return f"Looking carefully at the image, I can clearly see the answer. {answer.sentence} I hope this helps!"
    if style == "markdown":
        items = answer.items or (answer.short,)
        return "## Answer\n" + "\n".join(f"- **{item}**" for item in items)
    raise ValueError(f"unknown style {style!r}; known: {', '.join(STYLES)}")


def strength_of(errors_chosen: int, errors_rejected: int) -> float:
    """True strength in [0, 1]: the difference in errors, MAX_ERRORS or more being 1."""
    return min(1.0, (errors_rejected - errors_chosen) / MAX_ERRORS)


def generate_split(
    split: str,
    count: int,
    seed: int,
    *,
    flip_rate: float = 0.4,
    style_rate: float = 0.85,
    true_labels: bool = False,
) -> Iterator[PreferenceSample]:
    """Makes the samples of one split.

    Args:
        split: one of SPLITS.
        count: number of samples.
        seed: of everything random.
        flip_rate: share of the open pool's pairs whose label is wrong, in [0, 1].
        style_rate: share of the open pool's pairs whose labelled winner has a fancy style, in [0, 1].
        true_labels: gives the open pool's same samples with the flipped labels turned right: what curation could reach at best.

    Raises:
        ConfigError: for an unknown split or a rate outside [0, 1].
    """
    if split not in SPLITS:
        raise ConfigError(f"shapeworld: unknown split {split!r}; known: {', '.join(SPLITS)}.")
    for name, rate in (("flip_rate", flip_rate), ("style_rate", style_rate)):
        if not 0 <= rate <= 1:
            raise ConfigError(f"shapeworld: {name}={rate} is not in [0, 1].")
    if split in ("t2i", "test_t2i"):
        yield from _t2i_samples(split, count, seed)
        return
    for number in range(count):
        rng = random.Random(f"{split}/{seed}/{number}")
        key = f"{split}-{seed}-{number:06d}"
        if split == "trusted":
            yield _trusted_sample(rng, key)
        elif split == "open":
            yield _open_sample(rng, key, flip_rate, style_rate, true_labels)
        else:
            yield _test_sample(rng, key, split)


def _make(
    rng: random.Random,
    key: str,
    source: str,
    scene: Scene,
    question: Question,
    told: list[tuple[int, str]],
    flipped: bool = False,
) -> PreferenceSample:
    """A sample from (errors, style) of each response; all pairs of unequal errors, responses in shuffled order."""
    rng.shuffle(told)  # a response's place must say nothing
    errors = [e for e, _ in told]
    responses = [tell(question.right if e == 0 else question.wrong[e], style) for e, style in told]
    pairs = []
    for i in range(len(told)):
        for j in range(i + 1, len(told)):
            if errors[i] == errors[j]:
                continue
            better, worse = (i, j) if errors[i] < errors[j] else (j, i)
            strength = strength_of(errors[better], errors[worse]) if source != "shapeworld_open" else None
            pairs.append(Pair(worse, better, strength) if flipped else Pair(better, worse, strength))
    return PreferenceSample(
        key=key,
        source=source,
        prompt=(Message("user", f"{IMAGE_MARKER}{question.text}"),),
        images=(png(scene),),
        responses=tuple(responses),
        pairs=tuple(pairs),
        meta={
            "kind": question.kind,
            "truth": {"errors": errors, "flipped": [flipped] * len(pairs), "styles": [style for _, style in told]},
        },
    )


def ask_any(rng: random.Random, kind: str | None = None) -> tuple[Scene, Question]:
    """A scene and a question of the kind about it; of any kind where none is given."""
    kind = kind or rng.choice(KINDS)
    while True:  # `ask_position` falls back to another kind where all things look alike
        scene = sample_scene(rng)
        question = ASK[kind](rng, scene)
        if question.kind == kind:
            return scene, question


def _wrong(rng: random.Random, question: Question) -> int:
    return rng.choice(sorted(question.wrong))


def _trusted_sample(rng: random.Random, key: str) -> PreferenceSample:
    scene, question = ask_any(rng)
    told = [(0, rng.choice(STYLES)), (_wrong(rng, question), rng.choice(STYLES))]
    further = [errors for errors in question.wrong if errors > told[1][0]]
    if question.kind == "description" and further:
        told.append((rng.choice(further), rng.choice(STYLES)))  # a ranked list of three
    return _make(rng, key, "shapeworld_trusted", scene, question, told)


def _open_sample(
    rng: random.Random, key: str, flip_rate: float, style_rate: float, true_labels: bool
) -> PreferenceSample:
    scene, question = ask_any(rng)
    flipped = rng.random() < flip_rate
    winner_fancy = rng.random() < style_rate  # the labelled winner: the label is what style goes with
    right_fancy = winner_fancy != flipped
    right, wrong = (FANCY_STYLES, PLAIN_STYLES) if right_fancy else (PLAIN_STYLES, FANCY_STYLES)
    told = [(0, rng.choice(right)), (_wrong(rng, question), rng.choice(wrong))]
    return _make(rng, key, "shapeworld_open", scene, question, told, flipped and not true_labels)


def _test_sample(rng: random.Random, key: str, split: str) -> PreferenceSample:
    name = split.removeprefix("test_")
    scene, question = ask_any(rng, name if name in KINDS else None)
    if name == "style_matched":
        style = rng.choice(STYLES)
        styles = (style, style)
    elif name == "style_opposed":
        styles = (rng.choice(PLAIN_STYLES), rng.choice(FANCY_STYLES))
    elif name == "style_agreeing":
        styles = (rng.choice(FANCY_STYLES), rng.choice(PLAIN_STYLES))
    else:
        styles = (rng.choice(STYLES), rng.choice(STYLES))
    return _make(rng, key, f"shapeworld_{split}", scene, question, [(0, styles[0]), (_wrong(rng, question), styles[1])])


def _t2i_samples(split: str, count: int, seed: int) -> Iterator[PreferenceSample]:
    """Text-to-image pairs: a caption, a rendering that matches, and one with 1 to MAX_ERRORS wrong attributes."""
    for number, preferred_first in zip(range(count), balanced_sides(count, seed), strict=True):
        rng = random.Random(f"{split}/{seed}/{number}")
        scene = sample_scene(rng, most=3)
        errors = rng.randint(1, MAX_ERRORS)
        preference = T2IPreference(
            key=f"{split}-{seed}-{number:06d}",
            source=f"shapeworld_{split}",
            caption=" and ".join(thing.phrase() for thing in scene),
            preferred=png(scene),
            other=png(with_errors(rng, scene, errors)),
            strength=strength_of(0, errors),
            meta={
                "kind": "t2i",
                "truth": {"errors": [0, errors] if preferred_first else [errors, 0], "flipped": [False]},
            },
        )
        yield reformulate(preference, preferred_first=preferred_first)


SPLITS = (
    "trusted",
    "t2i",
    "open",
    "test_style_matched",
    "test_style_opposed",
    "test_style_agreeing",
    "test_t2i",
    *(f"test_{kind}" for kind in KINDS),
)
