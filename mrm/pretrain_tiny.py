"""Makes the packaged tiny backbone: `python -m mrm.pretrain_tiny output=DIR`.

A Qwen3-VL of 1-2 M parameters and a byte-level tokenizer of 1,024 tokens, pretrained as a language model on ShapeWorld:
descriptions, questions and answers, checks of statements, and comparisons of two images. No preference is seen. What
comes out is a `from_pretrained` directory like any other Qwen3-VL's.
"""

from __future__ import annotations

import math
import random
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from datamodules import shapeworld
from mrm.construction.reformulation import T2I_PROMPT, VERDICTS
from mrm.errors import MrmError
from mrm.model.encoding import END_TOKEN, IMAGE_TOKEN, SYSTEM_PROMPTS, EncodedSample, Encoder, mrope_positions
from mrm.model.packing import NO_EDGES, RewardBatch, collate
from mrm.model.reward_model import hidden_states

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", END_TOKEN, "<|vision_start|>", "<|vision_end|>", IMAGE_TOKEN)
VIDEO_TOKEN = "<|video_pad|>"
PATCH = 8
ROW_TOKENS = 256  # rows are filled up to this many tokens: a third less padding than a row a conversation
STYLE_WEIGHTS = (4, 4, 1, 1)  # the long styles teach little a token
CHAT_TEMPLATE = (
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{ message.content }}"
    "{%- else %}{%- for part in message.content %}"
    "{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- else %}{{ part.text }}{%- endif %}{%- endfor %}{%- endif %}"
    "{{ '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)


@dataclass
class PretrainConfig:
    """Settings of `python -m mrm.pretrain_tiny`, all `key=value`."""

    output: str = "tiny_qwen3_vl"
    steps: int = 3000
    batch_size: int = 16
    questions: int = 4
    lr: float = 2e-3
    warmup: int = 100
    seed: int = 0
    vocab_size: int = 1024
    workers: int = 1
    threads: int = 2
    bfloat16: bool = True
    overwrite: bool = False


def conversation(rng: random.Random, questions: int) -> tuple[list[shapeworld.Scene], str, list[tuple[str, str]]]:
    """One training row: its scenes, the text around the images (`<image>` marks each), and questions with answers."""
    if rng.random() < 0.25:
        first = shapeworld.sample_scene(rng, most=3)
        second = shapeworld.with_errors(rng, first, rng.randint(1, 4))
        if rng.random() < 0.5:
            first, second = second, first
        scenes = [first, second]
        turns = []
        for _ in range(questions):
            which = rng.randrange(2)
            caption = " and ".join(thing.phrase() for thing in scenes[which])
            if rng.random() < 0.3:
                turns.append(
                    (f"Describe image {which + 1}.", _told(rng, shapeworld.ask_description(rng, scenes[which]).right))
                )
            else:
                turns.append((f"Which image was made from this caption? Caption: {caption}", f"Image {which + 1}"))
        return scenes, "Image 1: <image>\nImage 2: <image>\n", turns
    scene = shapeworld.sample_scene(rng)
    turns = [("Describe the image.", _told(rng, shapeworld.ask_description(rng, scene).right))]
    for _ in range(questions - 1):
        question = shapeworld.ASK[rng.choice(shapeworld.KINDS)](rng, scene)
        if rng.random() < 0.4:
            right = rng.random() < 0.5
            answer = question.right if right else question.wrong[rng.choice(sorted(question.wrong))]
            text = f"{question.text} Is this answer right? {_told(rng, answer)}"
            turns.append((text, "Yes" if right else "No"))
        else:
            turns.append((question.text, _told(rng, question.right)))
    return [scene], "<image>", turns


def _told(rng: random.Random, answer: shapeworld.Answer) -> str:
    (style,) = rng.choices(shapeworld.STYLES, STYLE_WEIGHTS)
    return shapeworld.tell(answer, style)


def train_tokenizer(vocab_size: int, seed: int) -> Any:
    """A byte-level BPE tokenizer in Qwen's form: any text can be encoded, ShapeWorld's words are one token each."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(f"tokenizer/{seed}")
    texts = [*SYSTEM_PROMPTS.values(), T2I_PROMPT, *VERDICTS] * 200
    for _ in range(4000):
        _, around, turns = conversation(rng, 4)
        texts.append(around.replace("<image>", ""))
        texts.extend(text for turn in turns for text in turn)
    tokenizer = Tokenizer(models.BPE())
    words = Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(CONTROL_TOKENS) - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHAT_TEMPLATE, model_max_length=4096)
    fast.add_special_tokens(
        {
            "pad_token": "<|endoftext|>",
            "eos_token": END_TOKEN,
            "additional_special_tokens": [*CONTROL_TOKENS[1:2], *CONTROL_TOKENS[3:], VIDEO_TOKEN],
        }
    )
    return fast


def new_model(tokenizer: Any) -> Any:
    """A tiny Qwen3-VL with random weights."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    config = Qwen3VLConfig(
        text_config={
            "vocab_size": math.ceil(len(tokenizer) / 64) * 64,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 128,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [1],
        },
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO_TOKEN),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Qwen3VLForConditionalGeneration(config)


def new_encoder(tokenizer: Any) -> Encoder:
    """The encoder that belongs to the tiny backbone."""
    from mrm.model.encoding import _image_processor_class

    processor = _image_processor_class()(
        patch_size=PATCH,
        merge_size=2,
        min_pixels=32 * 32,
        max_pixels=128 * 128,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Encoder(tokenizer, processor, family="qwen3_vl", max_pixels=128 * 128)


class Conversations(IterableDataset):
    """Endless packed batches of conversations; worker w of n makes every n-th row."""

    def __init__(self, encoder: Encoder, config: PretrainConfig, name: str) -> None:
        self.encoder = encoder
        self.config = config
        self.name = name

    def __iter__(self) -> Iterator[tuple[RewardBatch, Tensor]]:
        info = get_worker_info()
        number, stride = (info.id, info.num_workers) if info else (0, 1)
        while True:
            rows = [self.row(number + i * stride) for i in range(self.config.batch_size)]
            number += self.config.batch_size * stride
            batch = collate([(row, NO_EDGES) for row, _ in rows], row_tokens=ROW_TOKENS, pad_id=self.encoder.pad_id)
            yield batch, torch.tensor([n for _, lengths in rows for n in lengths])

    def row(self, number: int) -> tuple[EncodedSample, list[int]]:
        """A conversation as a prefix (the images) with each turn behind it, and the length of each answer."""
        rng = random.Random(f"{self.name}/{self.config.seed}/{number}")
        scenes, around, turns = conversation(rng, self.config.questions)
        encoder = self.encoder
        features = encoder.image_processor(images=[shapeworld.render(scene) for scene in scenes], return_tensors="np")
        grid = np.asarray(features["image_grid_thw"], dtype=np.int64)
        system = SYSTEM_PROMPTS["en"] if rng.random() < 0.5 else "You are a helpful assistant."
        image = f"<|vision_start|>{IMAGE_TOKEN * int(grid[0].prod() // 4)}<|vision_end|>"
        head = f"<|im_start|>system\n{system}{END_TOKEN}\n<|im_start|>user\n{around.replace('<image>', image)}"
        prefix = np.asarray(self._ids(head))
        positions, start = mrope_positions(prefix == encoder.image_token_id, grid, encoder.merge_size)
        answers = [self._ids(answer) + [encoder.end_token_id] for _, answer in turns]
        asked = [self._ids(f"{question}{END_TOKEN}\n<|im_start|>assistant\n") for question, _ in turns]
        pieces = tuple(np.asarray(q + a) for q, a in zip(asked, answers, strict=True))
        pixels = np.asarray(features["pixel_values"], dtype=np.float32)
        row = EncodedSample(str(number), prefix, positions, pieces, start, pixels, grid, 0)
        return row, [len(a) for a in answers]

    def _ids(self, text: str) -> list[int]:
        return self.encoder.tokenizer(text, add_special_tokens=False)["input_ids"]


def answer_logits(model: Any, batch: RewardBatch, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [T, V] and targets [T] of all answer tokens; nothing is computed for the others."""
    hidden = hidden_states(model.model, batch)
    row = batch.score_row.repeat_interleave(lengths)
    ends = batch.score_column.repeat_interleave(lengths)
    back = torch.cat([torch.arange(n - 1, -1, -1) for n in lengths.tolist()])
    column = ends - back
    return model.lm_head(hidden[row, column - 1]), batch.input_ids[row, column]


def evaluate(model: Any, loader: Iterator[tuple[RewardBatch, Tensor]], batches: int) -> float:
    """Share of held-out answer tokens that are predicted right."""
    right = total = 0
    with torch.inference_mode():
        for _ in range(batches):
            logits, targets = answer_logits(model, *next(loader))
            right += int((logits.argmax(-1) == targets).sum())
            total += len(targets)
    return right / total


def pretrain(config: PretrainConfig, console: Console) -> Path:
    """Trains and saves the backbone; gives its directory."""
    output = Path(config.output)
    if output.exists() and any(output.iterdir()):
        if not config.overwrite:
            raise MrmError(f"output={output}: the directory is not empty; give another, or overwrite=true.")
        shutil.rmtree(output)
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    tokenizer = train_tokenizer(config.vocab_size, config.seed)
    encoder = new_encoder(tokenizer)
    model = new_model(tokenizer)
    console.print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters, {len(tokenizer)} tokens")
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98))
    loader = iter(DataLoader(Conversations(encoder, config, "train"), batch_size=None, num_workers=config.workers))
    columns = (
        TextColumn("pretraining"), BarColumn(), MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f} token accuracy {task.fields[accuracy]:.3f}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    loss_mean = accuracy_mean = None
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=config.steps, loss=float("nan"), accuracy=0.0)
        for step in range(config.steps):
            warm = min(1.0, (step + 1) / config.warmup)
            factor = warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))
            for group in optimizer.param_groups:
                group["lr"] = config.lr * factor
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                logits, targets = answer_logits(model, *next(loader))
            loss = torch.nn.functional.cross_entropy(logits.float(), targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            accuracy = (logits.argmax(-1) == targets).float().mean().item()
            loss_mean = loss.item() if loss_mean is None else 0.98 * loss_mean + 0.02 * loss.item()
            accuracy_mean = accuracy if accuracy_mean is None else 0.98 * accuracy_mean + 0.02 * accuracy
            progress.update(bar, advance=1, loss=loss_mean, accuracy=accuracy_mean)
            if step % 250 == 249 and not console.is_terminal:
                console.print(f"step {step + 1}: loss {loss_mean:.4f}, token accuracy {accuracy_mean:.4f}")
    model.to(torch.bfloat16).save_pretrained(output)  # half the size; what is measured below is what is saved
    encoder.save_pretrained(output)
    held_out = iter(Conversations(encoder, config, "held_out"))
    console.print(f"held-out token accuracy {evaluate(model.float().eval(), held_out, 20):.4f}")
    return output


def main(arguments: list[str]) -> int:
    """The command; returns the exit status."""
    console = Console()
    try:
        given = OmegaConf.merge(OmegaConf.structured(PretrainConfig), OmegaConf.from_dotlist(arguments))
        config: PretrainConfig = OmegaConf.to_object(given)  # type: ignore[assignment]
        start = time.monotonic()
        output = pretrain(config, console)
    except Exception as error:
        if not isinstance(error, MrmError) and type(error).__module__.split(".")[0] != "omegaconf":
            raise
        console.print(f"[red]error:[/] {error}")
        return 2
    size = sum(file.stat().st_size for file in output.iterdir())
    console.print(f"saved {output} ({size / 1e6:.1f} MB) after {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
