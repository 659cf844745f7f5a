"""From a sample to token ids, positions and pixels, in the form of its family (see `mrm.model.families`).

The prompt (system, images, conversation) is encoded once as a prefix; each response is its own piece that follows it.
Text is cut to its limits, image tokens never are. Reading shards is left to `datamodules`, laying pieces out in rows
to `mrm.model.packing`.

Dimensions: P prefix tokens, R response tokens, N image patches of all images, D values a patch, I images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer

from mrm.errors import ConfigError, RecordError
from mrm.images import decode_image
from mrm.model.families import ImageFeatures, get_family
from mrm.preference import IMAGE_MARKER, Message, language_of

SYSTEM_PROMPTS = {
    "en": "You are an impartial evaluator. Please assess the quality of the AI assistant's response to the user's question.",
    "zh": "你是一位公正的评估者。请评估AI助手对用户问题的回答质量。",
}
TRAIN_PIXELS = 268_324  # at most, for an image in training (METHOD.md section 3)
SCORE_PIXELS = 1_310_720
ENCODER_FILE = "encoder.json"
SETTINGS: dict[str, Any] = {  # of an encoder, as ENCODER_FILE has them
    "family": str,
    "max_pixels": int,
    "max_prompt_tokens": int,
    "max_response_tokens": int,
    "system_prompts": dict,
    "tile_tokens": (int, type(None)),
}


class Encodable(Protocol):
    """What the encoder reads of a `PreferenceSample`; no preference is needed to score."""

    @property
    def key(self) -> str: ...
    @property
    def prompt(self) -> tuple[Message, ...]: ...
    @property
    def images(self) -> tuple[bytes, ...]: ...
    @property
    def responses(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class EncodedSample:
    """A sample as numbers.

    Attributes:
        key: the sample's key.
        prefix_ids: [P] token ids of system prompt, images and conversation, up to the response's first place.
        prefix_positions: [3, P] temporal, height and width positions (M-RoPE).
        response_ids: K arrays of [R_k] token ids; the last is the end token, whose hidden state is scored.
        response_start: the position of each response's first token.
        pixel_values: [N, ...] patches or tiles, or None without images: uint8, or float32 where they are normalized already.
        image_grid_thw: [I, 3] of each image: its patches in time, height and width, or its tiles and their tokens.
        cut_tokens: text tokens that the limits cut away.
        normalization: [3, C] of uint8 pixels, see `mrm.model.families.Family.normalization`.
        frames: of each patch that is uint8, see `mrm.model.families.Family.frames`.
    """

    key: str
    prefix_ids: np.ndarray
    prefix_positions: np.ndarray
    response_ids: tuple[np.ndarray, ...]
    response_start: int
    pixel_values: np.ndarray | None
    image_grid_thw: np.ndarray
    cut_tokens: int
    normalization: np.ndarray | None = None
    frames: int = 1

    @property
    def tokens(self) -> int:
        """Tokens of the prefix and all responses: what the sample takes in a row."""
        return len(self.prefix_ids) + sum(len(ids) for ids in self.response_ids)

    def with_responses(self, numbers: Sequence[int]) -> EncodedSample:
        """The same prompt with some of its responses, in the order given."""
        return replace(self, response_ids=tuple(self.response_ids[number] for number in numbers))

    def without_images(self, image_token_id: int) -> EncodedSample:
        """The same text without the images' tokens and pixels; what marks an image's place stays."""
        prefix = self.prefix_ids[self.prefix_ids != image_token_id]
        positions = np.broadcast_to(np.arange(len(prefix)), (3, len(prefix)))
        none = np.zeros((0, 3), dtype=np.int64)
        return replace(
            self,
            prefix_ids=prefix,
            prefix_positions=positions,
            response_start=len(prefix),
            pixel_values=None,
            image_grid_thw=none,
            normalization=None,
        )


class Encoder:
    """Encodes samples for one backbone. Picklable: workers hold copies.

    Args:
        tokenizer: a fast tokenizer with a chat template.
        image_processor: the family's image processor, on Pillow.
        family: the backbone's model type, a key of `mrm.model.families.FAMILIES`.
        max_pixels: an image is reduced to at most so many pixels.
        max_prompt_tokens: text tokens of the conversation, without image tokens and system prompt.
        max_response_tokens: tokens of a response, its end token included.
        system_prompts: by language, "en" and "zh"; used where the conversation brings none.
        tile_tokens: image tokens of a tile, for families that cut images into tiles.

    Attributes:
        filler: an image alone, for batches that have none; see `mrm.model.packing.collate`.

    Raises:
        ConfigError: for an unknown family, or a tokenizer without its image and end tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_processor: Any,
        *,
        family: str,
        max_pixels: int = TRAIN_PIXELS,
        max_prompt_tokens: int = 2048,
        max_response_tokens: int = 2048,
        system_prompts: dict[str, str] | None = None,
        tile_tokens: int | None = None,
    ) -> None:
        self.kind = get_family(family)
        if not tokenizer.chat_template:
            raise ConfigError(
                "the tokenizer has no chat template (chat_template.jinja, or in tokenizer_config.json), so prompts cannot be "
                "written as the backbone knows them; take an instruction-tuned checkpoint."
            )
        self.tokenizer = tokenizer
        self.image_processor = self.kind.at_resolution(image_processor, max_pixels)
        self.normalization = self.kind.normalization(self.image_processor)
        self.frames = self.kind.frames(self.image_processor)
        self.family = family
        self.tile_tokens = tile_tokens
        self.max_pixels = max_pixels
        self.max_prompt_tokens = max_prompt_tokens
        self.max_response_tokens = max_response_tokens
        self.system_prompts = dict(system_prompts or SYSTEM_PROMPTS)
        self.image_token_id = self._special(self.kind.image_token)
        self.end_token_id = self._special(self.kind.end_token)
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_token_id
        # Control tokens in data are text, not control: `<|im_end|>` in an answer must not end it.
        special = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        controls = sorted(special, key=len, reverse=True)
        self._controls = re.compile("|".join(re.escape(t) for t in controls)) if controls else None
        self._around_image = [self._tokens(text) for text in self.kind.around_image]
        self.filler = self._filler()

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **settings: Any) -> Encoder:
        """Loads tokenizer and image processor from a directory or hub id.

        Settings saved by `save_pretrained` beside them are the defaults for `settings`.

        Raises:
            ConfigError: for files that are missing or damaged, or of a family that is not known here.
        """
        settings = {**_saved_settings(Path(name_or_path) / ENCODER_FILE), **settings}
        try:
            if "family" not in settings:
                config = AutoConfig.from_pretrained(name_or_path)
                settings["family"] = config.model_type
                settings["tile_tokens"] = getattr(config, "image_seq_length", None)
            family = get_family(settings["family"])
            tokenizer = AutoTokenizer.from_pretrained(name_or_path)
            image_processor = family.load_image_processor(name_or_path)
        except ConfigError:
            raise
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            StrictDataclassError,
        ) as error:  # the last: JSON of another content
            raise ConfigError(
                f"{name_or_path}: config.json, tokenizer or image processor (tokenizer.json, tokenizer_config.json, "
                f"preprocessor_config.json) are missing or damaged: {error!r}. Copy the whole folder again."
            ) from error
        return cls(tokenizer, image_processor, **settings)

    def settings(self) -> dict[str, Any]:
        """What `from_pretrained` takes to make this encoder again."""
        return {
            "family": self.family,
            "max_pixels": self.max_pixels,
            "max_prompt_tokens": self.max_prompt_tokens,
            "max_response_tokens": self.max_response_tokens,
            "system_prompts": self.system_prompts,
            "tile_tokens": self.tile_tokens,
        }

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes tokenizer, image processor and settings."""
        self.tokenizer.save_pretrained(directory)
        self.image_processor.save_pretrained(directory)
        text = json.dumps(self.settings(), indent=2, ensure_ascii=False)
        (Path(directory) / ENCODER_FILE).write_text(text + "\n")

    def with_resolution(self, max_pixels: int) -> Encoder:
        """The same encoder at another resolution."""
        settings = {**self.settings(), "max_pixels": max_pixels}
        return Encoder(self.tokenizer, self.image_processor, **settings)

    def encode(self, sample: Encodable) -> EncodedSample:
        """Encodes a sample.

        Raises:
            RecordError: where an image does not decode, naming key and image.
        """
        seen: list[ImageFeatures] = []
        for number, data in enumerate(sample.images):
            image = decode_image(data, name=f"sample {sample.key!r}, image {number}")
            try:
                seen.append(self.look(image))
            except ValueError as error:  # an aspect ratio over 200, for one
                raise RecordError("image not usable", f"sample {sample.key!r}, image {number}: {error}") from error
        prefix_ids, cut = self._prefix(sample.prompt, seen)
        response_ids = []
        for response in sample.responses:
            ids = self._tokens(self._plain(response))
            keep = self.max_response_tokens - 1
            cut += max(0, len(ids) - keep)
            response_ids.append(np.asarray([*ids[:keep], self.end_token_id], dtype=np.int64))
        return self.assemble(sample.key, prefix_ids, tuple(response_ids), seen, cut)

    def assemble(
        self,
        key: str,
        prefix_ids: np.ndarray,
        response_ids: tuple[np.ndarray, ...],
        images: Sequence[ImageFeatures],
        cut_tokens: int = 0,
    ) -> EncodedSample:
        """Token ids and images with the positions that belong to them; arguments as the attributes of EncodedSample."""
        grids = np.stack([image.grid for image in images]) if images else np.zeros((0, 3), dtype=np.int64)
        merge = images[0].merge if images else 1
        positions, start = self.kind.positions(prefix_ids == self.image_token_id, grids, merge)
        pixels = np.concatenate([image.pixels for image in images]) if images else None
        told = self.normalization if pixels is not None and pixels.dtype == np.uint8 else None
        return EncodedSample(
            key, prefix_ids, positions, response_ids, start, pixels, grids, cut_tokens, told, self.frames
        )

    def look(self, image: Any) -> ImageFeatures:
        """What the backbone takes of a PIL image."""
        return self.kind.look(self.image_processor, image, self.tile_tokens)

    def _filler(self) -> EncodedSample:
        image = self.kind.filler(self.image_processor, self.tile_tokens)
        return self.assemble("", np.full(image.tokens, self.image_token_id), (), [image])

    def _special(self, token: str) -> int:
        number = self.tokenizer.convert_tokens_to_ids(token)
        if number is None or number == self.tokenizer.unk_token_id:
            raise ConfigError(
                f"the tokenizer has no token {token}, as {self.family!r} needs; does it belong to the model?"
            )
        return number

    def _prefix(self, prompt: tuple[Message, ...], images: Sequence[ImageFeatures]) -> tuple[np.ndarray, int]:
        """Token ids of the chat up to the response, with each image's tokens in place, and the tokens cut."""
        chunks = [self._plain(m.content).split(IMAGE_MARKER) for m in prompt]
        cut = self._cut_to_limit(chunks)
        chat: list[dict[str, Any]] = []
        if prompt[0].role != "system":
            system = self.system_prompts[language_of(prompt)]
            chat.append({"role": "system", "content": [{"type": "text", "text": system}]})
        for message, texts in zip(prompt, chunks, strict=True):
            content: list[dict[str, str]] = []
            for i, text in enumerate(texts):
                if i:
                    content.append({"type": "image"})
                if text:
                    content.append({"type": "text", "text": text})
            chat.append({"role": message.role, "content": content})
        text = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = np.asarray(self._tokens(text), dtype=np.int64)
        places = np.flatnonzero(ids == self.image_token_id)
        assert len(places) == len(images), "the chat template must place one image token an image"
        pieces, at = [], 0
        before, after = self._around_image
        for place, image in zip(places, images, strict=True):
            pieces += [ids[at:place], before, np.full(image.tokens, self.image_token_id), after]
            at = int(place) + 1
        return np.concatenate([*pieces, ids[at:]]).astype(np.int64), cut

    def _cut_to_limit(self, chunks: list[list[str]]) -> int:
        """Shortens the longest texts in place, at token borders, until all fit; gives the tokens cut."""
        # A token takes at least a byte, beside one that a tokenizer may put in front: mostly, nothing has to be counted.
        if sum(len(text.encode()) + 1 for texts in chunks for text in texts) <= self.max_prompt_tokens:
            return 0
        lengths = [[len(self._tokens(text)) for text in texts] for texts in chunks]
        over = total = sum(map(sum, lengths)) - self.max_prompt_tokens
        while over > 0:
            _, m, i = max((n, m, i) for m, row in enumerate(lengths) for i, n in enumerate(row))
            keep = max(0, lengths[m][i] - over)
            encoded = self.tokenizer(chunks[m][i], add_special_tokens=False, return_offsets_mapping=True)
            end = encoded["offset_mapping"][keep - 1][1] if keep else 0
            chunks[m][i] = chunks[m][i][:end]
            over -= lengths[m][i] - keep
            lengths[m][i] = keep
        return max(0, total)

    def _plain(self, text: str) -> str:
        if self._controls is None:
            return text
        return self._controls.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def _saved_settings(path: Path) -> dict[str, Any]:
    """What `Encoder.save_pretrained` wrote; nothing where there is no such file, as in a published checkpoint."""
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text())
        wrong = [name for name, kind in SETTINGS.items() if name in settings and not isinstance(settings[name], kind)]
        wrong += [name for name in settings if name not in SETTINGS]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is no readable JSON object: {error}; copy the whole folder again.") from error
    if wrong:
        raise ConfigError(
            f"{path}: {wrong[0]!r} is unknown or of the wrong type; known: {', '.join(SETTINGS)}. Copy the whole folder again."
        )
    return settings
