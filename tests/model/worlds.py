"""Small samples and models for the tests of this folder."""

import random

from datamodules import shapeworld
from mrm.model.backbones import TINY_DIRECTORY
from mrm.model.encoding import Encoder
from mrm.model.packing import NO_EDGES, collate
from mrm.model.reward_model import RewardModel
from mrm.preference import Message, Pair, PreferenceSample


def sample(key, *, images, responses, seed=0, text="What do you see?"):
    """A sample of `images` scenes and `responses` answers of different lengths."""
    rng = random.Random(f"{key}/{seed}")
    markers = "".join(f"Image {i + 1}: <image>\n" for i in range(images))
    answers = [shapeworld.sample_scene(rng)[0].phrase() + " and more" * k for k in range(responses)]
    return PreferenceSample(
        key=key,
        source="test",
        prompt=(Message("user", markers + text),),
        images=tuple(shapeworld.png(shapeworld.sample_scene(rng)) for _ in range(images)),
        responses=tuple(answers),
        pairs=(Pair(0, 1),),
    )


def encoder(**settings) -> Encoder:
    return Encoder.from_pretrained(TINY_DIRECTORY, **settings)


def reward_model(**settings) -> RewardModel:
    return RewardModel.from_pretrained(TINY_DIRECTORY, **settings).eval()


def rewards(model, encoded, row_tokens=None):
    """Rewards of encoded samples in one batch, [S]."""
    return model(collate([(item, NO_EDGES) for item in encoded], row_tokens=row_tokens, pad_id=0)).detach()


def pixels_of(encoded):
    """[N, ...] float32: a sample's pixels as its backbone takes them."""
    return collate([(encoded, NO_EDGES)], row_tokens=None, pad_id=0).pixels
