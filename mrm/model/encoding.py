"""From a sample to token ids, positions and pixels, for the Qwen-VL families.

The prompt (system, images, conversation) is encoded once as a prefix; each response is its own piece that follows it.
Text is cut to its limits, image tokens never are. Reading shards is left to `datamodules`, laying pieces out in rows
to `mrm.model.packing`.

Dimensions: P prefix tokens, R response tokens, N image patches of all images, D values a patch, I images.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from transformers import AutoConfig, AutoTokenizer

from mrm.errors import ConfigError, RecordError
from mrm.images import decode_image
from mrm.preference import IMAGE_MARKER, Message

SYSTEM_PROMPTS = {
    "en": "You are an impartial evaluator. Please assess the quality of the AI assistant's response to the user's question.",
    "zh": "你是一位公正的评估者。请评估AI助手对用户问题的回答质量。",
}
IMAGE_TOKEN = "<|image_pad|>"
END_TOKEN = "<|im_end|>"
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
TRAIN_PIXELS = 268_324  # at most, for an image in training (METHOD.md section 3)
SCORE_PIXELS = 1_310_720
ENCODER_FILE = "encoder.json"
SETTINGS = {  # of an encoder, as ENCODER_FILE has them
    "family": str,
    "max_pixels": int,
    "max_prompt_tokens": int,
    "max_response_tokens": int,
    "system_prompts": dict,
}
_HAN = re.compile(r"[\u4e00-\u9fff]")


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
        pixel_values: [N, D] float32 patches, or None without images.
        image_grid_thw: [I, 3] patches of each image in time, height and width.
        cut_tokens: text tokens that the limits cut away.
    """

    key: str
    prefix_ids: np.ndarray
    prefix_positions: np.ndarray
    response_ids: tuple[np.ndarray, ...]
    response_start: int
    pixel_values: np.ndarray | None
    image_grid_thw: np.ndarray
    cut_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens of the prefix and all responses: what the sample takes in a row."""
        return len(self.prefix_ids) + sum(len(ids) for ids in self.response_ids)


def mrope_positions(is_image: np.ndarray, image_grid_thw: np.ndarray, merge_size: int) -> tuple[np.ndarray, int]:
    """Multimodal rotary positions of one sequence, as Qwen2-VL to Qwen3-VL define them for still images.

    Text counts on in all three axes; an image's tokens share one temporal position and count rows and columns; what
    follows starts after the image's longer side.

    Args:
        is_image: [P] True at image tokens.
        image_grid_thw: [I, 3] patches of each image.
        merge_size: patches merged a side.

    Returns:
        [3, P] positions, and the first position after the sequence.
    """
    positions = np.empty((3, len(is_image)), dtype=np.int64)
    index, start = 0, 0
    for frames, height, width in image_grid_thw:
        rows, columns = height // merge_size, width // merge_size
        text = int(np.argmax(is_image[index:]))
        positions[:, index : index + text] = start + np.arange(text)
        index, start = index + text, start + text
        grid = np.indices((frames, rows, columns)).reshape(3, -1)
        positions[:, index : index + grid.shape[1]] = grid + start
        index += grid.shape[1]
        start += max(rows, columns)
    text = len(is_image) - index
    positions[:, index:] = start + np.arange(text)
    return positions, int(start + text)


class Encoder:
    """Encodes samples for one backbone. Picklable: workers hold copies.

    Args:
        tokenizer: a fast tokenizer with a chat template.
        image_processor: the family's image processor, on Pillow.
        family: the backbone's model type, one of FAMILIES.
        max_pixels: an image is reduced to at most so many pixels.
        max_prompt_tokens: text tokens of the conversation, without image tokens and system prompt.
        max_response_tokens: tokens of a response, its end token included.
        system_prompts: by language, "en" and "zh"; used where the conversation brings none.
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
    ) -> None:
        if family not in FAMILIES:
            raise ConfigError(f"model type {family!r} is not a family known here; known: {', '.join(FAMILIES)}.")
        self.tokenizer = tokenizer
        self.image_processor = copy.deepcopy(image_processor)
        self.family = family
        self.max_pixels = max_pixels
        self.max_prompt_tokens = max_prompt_tokens
        self.max_response_tokens = max_response_tokens
        self.system_prompts = dict(system_prompts or SYSTEM_PROMPTS)
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.end_token_id = tokenizer.convert_tokens_to_ids(END_TOKEN)
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_token_id
        self.merge_size = self.image_processor.merge_size
        size = dict(self.image_processor.size)
        size["longest_edge"] = max_pixels
        size["shortest_edge"] = min(size["shortest_edge"], max_pixels)
        self.image_processor.size = size
        # Control tokens in data are text, not control: `<|im_end|>` in an answer must not end it.
        special = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        controls = sorted(special, key=len, reverse=True)
        self._controls = re.compile("|".join(re.escape(t) for t in controls)) if controls else None

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **settings: Any) -> Encoder:
        """Loads tokenizer and image processor from a directory or hub id.

        Settings saved by `save_pretrained` beside them are the defaults for `settings`.

        Raises:
            ConfigError: for files that are missing or damaged, or of a family that is not known here.
        """
        settings = {**_saved_settings(Path(name_or_path) / ENCODER_FILE), **settings}
        try:
            family = settings.pop("family", None) or AutoConfig.from_pretrained(name_or_path).model_type
            tokenizer = AutoTokenizer.from_pretrained(name_or_path)
            image_processor = image_processor_class().from_pretrained(name_or_path)
        except (OSError, ValueError, KeyError, TypeError) as error:  # the last two: JSON of another content
            raise ConfigError(
                f"{name_or_path}: config.json, tokenizer or image processor (tokenizer.json, tokenizer_config.json, "
                f"preprocessor_config.json) are missing or damaged: {error!r}. Copy the whole folder again."
            ) from error
        return cls(tokenizer, image_processor, family=family, **settings)

    def settings(self) -> dict[str, Any]:
        """What `from_pretrained` takes to make this encoder again."""
        return {
            "family": self.family,
            "max_pixels": self.max_pixels,
            "max_prompt_tokens": self.max_prompt_tokens,
            "max_response_tokens": self.max_response_tokens,
            "system_prompts": self.system_prompts,
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
        pixels, grids = [], []
        for number, data in enumerate(sample.images):
            image = decode_image(data, name=f"sample {sample.key!r}, image {number}")
            try:
                features = self.image_processor(images=[image], return_tensors="np")
            except ValueError as error:  # an aspect ratio over 200, for one
                raise RecordError("image not usable", f"sample {sample.key!r}, image {number}: {error}") from error
            pixels.append(np.asarray(features["pixel_values"], dtype=np.float32))
            grids.append(np.asarray(features["image_grid_thw"], dtype=np.int64)[0])
        image_grid_thw = np.stack(grids) if grids else np.zeros((0, 3), dtype=np.int64)
        prefix_ids, cut = self._prefix(sample.prompt, image_grid_thw)
        positions, start = mrope_positions(prefix_ids == self.image_token_id, image_grid_thw, self.merge_size)
        response_ids = []
        for response in sample.responses:
            ids = self._tokens(self._plain(response))
            keep = self.max_response_tokens - 1
            cut += max(0, len(ids) - keep)
            response_ids.append(np.asarray([*ids[:keep], self.end_token_id], dtype=np.int64))
        return EncodedSample(
            key=sample.key,
            prefix_ids=prefix_ids,
            prefix_positions=positions,
            response_ids=tuple(response_ids),
            response_start=start,
            pixel_values=np.concatenate(pixels) if pixels else None,
            image_grid_thw=image_grid_thw,
            cut_tokens=cut,
        )

    def _prefix(self, prompt: tuple[Message, ...], image_grid_thw: np.ndarray) -> tuple[np.ndarray, int]:
        """Token ids of the chat up to the response, with each image's tokens in place, and the tokens cut."""
        chunks = [self._plain(m.content).split(IMAGE_MARKER) for m in prompt]
        cut = self._cut_to_limit(chunks)
        chat: list[dict[str, Any]] = []
        if prompt[0].role != "system":
            language = "zh" if _HAN.search(prompt[-1].content) else "en"
            chat.append({"role": "system", "content": [{"type": "text", "text": self.system_prompts[language]}]})
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
        assert len(places) == len(image_grid_thw), "the chat template must place one image token an image"
        counts = np.ones(len(ids), dtype=np.int64)
        counts[places] = image_grid_thw.prod(axis=1) // self.merge_size**2
        return np.repeat(ids, counts), cut

    def _cut_to_limit(self, chunks: list[list[str]]) -> int:
        """Shortens the longest texts in place, at token borders, until all fit; gives the tokens cut."""
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


def image_processor_class() -> Any:
    """The Qwen-VL image processor that works on Pillow alone; its module was renamed between versions."""
    try:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        return Qwen2VLImageProcessorPil
    except ImportError:
        from transformers import Qwen2VLImageProcessor

        return Qwen2VLImageProcessor
