"""What differs between families of vision-language models: a class each, all else is the same for all.

A family knows its image processor and what becomes of an image, the tokens that stand for it, its positions, the names of
its parts, and whether responses can share a prefix. `mrm.model.encoding`, `mrm.model.backbones` and
`mrm.model.reward_model` ask it; nobody else looks at a model's type.

Dimensions: P prefix tokens, I images, N patches or tiles of an image.
"""

from __future__ import annotations

import copy
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mrm.errors import ConfigError, suggest


@dataclass(frozen=True)
class ImageFeatures:
    """An image as its backbone takes it.

    Attributes:
        pixels: [N, ...] patches or tiles: uint8 as they are in the image, of one frame, or float32 as the backbone takes them.
        grid: [3] frames or tiles, rows and columns of what `pixels` holds; `merge`² of them make a token.
        merge: see `grid`.
    """

    pixels: np.ndarray
    grid: np.ndarray
    merge: int

    @property
    def tokens(self) -> int:
        """Image tokens that it takes in the prefix."""
        return int(self.grid.prod()) // self.merge**2


class Family(ABC):
    """One family of backbones.

    Attributes:
        image_token: stands for an image in the chat template's output, and then once for each of its tokens.
        around_image: tokens that the family's processor, not its chat template, puts around an image's.
        end_token: ends a message.
        shares_prefix: whether responses may stand side by side behind one prefix. Not where a layer carries a state from
            token to token instead of attending.
        projector: modules between vision tower and language model, below the base model.
        vision: modules of the vision tower; what they share with the projector belongs to that.
        language: the language model.
    """

    image_token: str
    around_image: tuple[str, str] = ("", "")
    end_token: str = "<|im_end|>"
    shares_prefix: bool = True
    projector: tuple[str, ...]
    vision: tuple[str, ...]
    language: str = "language_model"

    @abstractmethod
    def load_image_processor(self, path: str | Path) -> Any:
        """The family's image processor on Pillow, from a directory or hub id."""

    @abstractmethod
    def at_resolution(self, processor: Any, max_pixels: int) -> Any:
        """A copy of the image processor that reduces an image to at most so many pixels (a thumbnail beside tiles aside)."""

    @abstractmethod
    def target_size(self, processor: Any, width: int, height: int) -> tuple[int, int]:
        """The (width, height) in pixels that the image processor brings an image of this size to (a thumbnail aside).

        Raises:
            ValueError: for a size that the processor refuses.
        """

    @abstractmethod
    def look(self, processor: Any, image: Any, tile_tokens: int | None) -> ImageFeatures:
        """What the backbone takes of a PIL image; `tile_tokens` as in `Encoder`.

        Raises:
            ValueError: for an image that the processor refuses.
        """

    def normalization(self, processor: Any) -> np.ndarray:
        """[3, C] float32 of the processor: what each channel's bytes are divided by, then the mean and deviation they lose.

        Workers hand over bytes, a quarter of what floats would be; the device makes of them what the processor would.
        """
        channels = np.ones(3, dtype=np.float32)
        divisor = 1 / processor.rescale_factor if processor.do_rescale else 1.0
        mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
        return np.stack([channels * np.float32(value) for value in (divisor, mean, std)])

    def frames(self, processor: Any) -> int:
        """How often the backbone takes each patch of bytes, one behind the other: an image is a film of equal frames."""
        return 1

    @abstractmethod
    def filler(self, processor: Any, tile_tokens: int | None) -> ImageFeatures:
        """The smallest image, all grey: for batches without any, see `mrm.model.packing`."""

    @abstractmethod
    def positions(self, is_image: np.ndarray, grids: np.ndarray, merge: int) -> tuple[np.ndarray, int]:
        """[3, P] positions of a prefix, and the first one behind it; arguments as of `mrope_positions`."""

    @abstractmethod
    def inputs(self, position_ids: Tensor, pixel_values: Tensor | None, grids: Tensor | None) -> Mapping[str, Any]:
        """Positions and images as the backbone's own arguments.

        Args:
            position_ids: [4, B, L] or [3, B, L]: text (where told), temporal, height and width.
            pixel_values: [N, ...] of all images.
            grids: [I, 3].
        """


class QwenVL(Family):
    """Qwen2-VL, Qwen2.5-VL, Qwen3-VL (dense and mixture of experts): patches at any resolution, M-RoPE."""

    image_token = "<|image_pad|>"
    projector = ("visual.merger", "visual.deepstack_merger_list")
    vision = ("visual",)

    def load_image_processor(self, path: str | Path) -> Any:
        return qwen_image_processor().from_pretrained(path)

    def at_resolution(self, processor: Any, max_pixels: int) -> Any:
        processor = copy.deepcopy(processor)
        size = dict(processor.size)
        size["longest_edge"] = max_pixels
        size["shortest_edge"] = min(size["shortest_edge"], max_pixels)
        processor.size = size
        return processor

    def target_size(self, processor: Any, width: int, height: int) -> tuple[int, int]:
        size = processor.size
        factor = processor.patch_size * processor.merge_size
        limits = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
        rows, columns = sys.modules[qwen_image_processor().__module__].smart_resize(height, width, factor, **limits)
        return columns, rows

    def look(self, processor: Any, image: Any, tile_tokens: int | None) -> ImageFeatures:
        plain = {"do_rescale": False, "do_normalize": False, "temporal_patch_size": 1}
        features = processor(images=[image], return_tensors="np", **plain)
        grid = np.asarray(features["image_grid_thw"], dtype=np.int64)[0]
        return ImageFeatures(np.asarray(features["pixel_values"]).astype(np.uint8), grid, processor.merge_size)

    def frames(self, processor: Any) -> int:
        return processor.temporal_patch_size

    def filler(self, processor: Any, tile_tokens: int | None) -> ImageFeatures:
        merge = processor.merge_size
        values = 3 * processor.temporal_patch_size * processor.patch_size**2
        grid = np.asarray([1, merge, merge], dtype=np.int64)
        return ImageFeatures(np.zeros((merge**2, values), dtype=np.float32), grid, merge)

    def positions(self, is_image: np.ndarray, grids: np.ndarray, merge: int) -> tuple[np.ndarray, int]:
        return mrope_positions(is_image, grids, merge)

    def inputs(self, position_ids: Tensor, pixel_values: Tensor | None, grids: Tensor | None) -> Mapping[str, Any]:
        return {"position_ids": position_ids, "pixel_values": pixel_values, "image_grid_thw": grids}


class HybridQwenVL(QwenVL):
    """Qwen3.5: three of four layers carry a state from token to token (gated delta rule), so no prefix is shared."""

    shares_prefix = False


class InternVL(Family):
    """InternVL in transformers' own classes: square tiles and a thumbnail, a fixed number of tokens a tile, 1-D positions."""

    image_token = "<IMG_CONTEXT>"
    around_image = ("<img>", "</img>")
    projector = ("multi_modal_projector",)
    vision = ("vision_tower",)

    def load_image_processor(self, path: str | Path) -> Any:
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

        return GotOcr2ImageProcessorPil.from_pretrained(path)

    def at_resolution(self, processor: Any, max_pixels: int) -> Any:
        processor = copy.deepcopy(processor)
        processor.crop_to_patches = True  # as its own processor asks for
        processor.max_patches = max(1, max_pixels // (processor.size["height"] * processor.size["width"]))
        processor.min_patches = min(processor.min_patches, processor.max_patches)
        return processor

    def target_size(self, processor: Any, width: int, height: int) -> tuple[int, int]:
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

        tile = processor.size["height"], processor.size["width"]
        limits = processor.min_patches, processor.max_patches
        columns, rows = get_optimal_tiled_canvas((height, width), tile, *limits)
        return columns * tile[1], rows * tile[0]

    def look(self, processor: Any, image: Any, tile_tokens: int | None) -> ImageFeatures:
        assert tile_tokens is not None, "read from the backbone's config.json"
        features = processor(images=[image], return_tensors="np", do_rescale=False, do_normalize=False)
        pixels = np.asarray(features["pixel_values"]).astype(np.uint8)
        return ImageFeatures(pixels, np.asarray([len(pixels), 1, tile_tokens], dtype=np.int64), 1)

    def filler(self, processor: Any, tile_tokens: int | None) -> ImageFeatures:
        pixels = np.zeros((1, 3, processor.size["height"], processor.size["width"]), dtype=np.float32)
        return ImageFeatures(pixels, np.asarray([1, 1, tile_tokens], dtype=np.int64), 1)

    def positions(self, is_image: np.ndarray, grids: np.ndarray, merge: int) -> tuple[np.ndarray, int]:
        return np.tile(np.arange(len(is_image)), (3, 1)), len(is_image)

    def inputs(self, position_ids: Tensor, pixel_values: Tensor | None, grids: Tensor | None) -> Mapping[str, Any]:
        return {"position_ids": position_ids[0], "pixel_values": pixel_values}


FAMILIES: dict[str, Family] = {  # by `model_type` in config.json
    "qwen2_vl": QwenVL(),
    "qwen2_5_vl": QwenVL(),
    "qwen3_vl": QwenVL(),
    "qwen3_vl_moe": QwenVL(),
    "qwen3_5": HybridQwenVL(),
    "qwen3_5_moe": HybridQwenVL(),
    "internvl": InternVL(),
}


def get_family(model_type: str) -> Family:
    """The family of a model type.

    Raises:
        ConfigError: for an unknown one, naming the known.
    """
    if model_type not in FAMILIES:
        raise ConfigError(
            f"model type {model_type!r} is not a family known here; known: {', '.join(FAMILIES)}."
            f"{suggest(model_type, FAMILIES)}"
        )
    return FAMILIES[model_type]


def mrope_positions(is_image: np.ndarray, image_grid_thw: np.ndarray, merge_size: int) -> tuple[np.ndarray, int]:
    """Multimodal rotary positions of one sequence, as Qwen2-VL to Qwen3.5 define them for still images.

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


def qwen_image_processor() -> Any:
    """The Qwen-VL image processor that works on Pillow alone; its module was renamed between versions."""
    try:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        return Qwen2VLImageProcessorPil
    except ImportError:
        from transformers import Qwen2VLImageProcessor

        return Qwen2VLImageProcessor
