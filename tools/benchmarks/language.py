"""An encoder of columns against a plain one of the same size: sorting the words of real sentences.

    python tools/benchmarks/language.py
    python tools/benchmarks/language.py --seeds 1 --steps 300

The text is that of Python's own language reference, which comes with every Python as
pydoc_data.topics. A sentence's words (the 1,000 most frequent ones; others are omitted) go into the
encoder as opaque numbers, and PyTorch's decoder writes them in alphabetical order. The networks
differ in the encoder alone. Runs of one seed see the same sentences in the same order.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import random
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors
from revcol_backbone.transformers.text_encoder import TextEncoder, make_layer

MEBIBYTE = 2**20
VOCABULARY = 1000
PADDING, BEGIN, END = range(3)
FIRST_WORD = 3
SHORTEST, LONGEST = 4, 10
TEST_EVERY = 5
WIDTH, HEADS, HIDDEN, DECODER_LAYERS, DROPOUT = 64, 4, 128, 2, 0.0
PLAIN_LAYERS = 6
# Narrower by what the fusions have.
COLUMNS, LEVELS, COLUMN_HIDDEN = 3, 2, 100
DEEPER = 4
TEST_BATCH = 200
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, LARGEST_NORM = 64, 3e-3, 0.01, 1.0


@dataclass(frozen=True)
class Text:
    """Sentences as numbers of words.

    Args:
        words: The words by their numbers, in alphabetical order.
        training: Whole sentences.
        test: Pieces of sentences from other topics.
    """

    words: dict[int, str]
    training: list[list[int]]
    test: list[list[int]]


class Sorter(nn.Module):
    """PyTorch's Transformer with an encoder of choice, over shared word embeddings.

    Args:
        encoder: Called as ``torch.nn.TransformerEncoder``, with batches first.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.words = nn.Embedding(FIRST_WORD + VOCABULARY, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(LONGEST + 1, WIDTH))
        self.transformer = nn.Transformer(
            WIDTH,
            HEADS,
            num_decoder_layers=DECODER_LAYERS,
            dim_feedforward=HIDDEN,
            dropout=DROPOUT,
            custom_encoder=encoder,
            batch_first=True,
            norm_first=True,
        )

    def encode(self, source: Tensor) -> Tensor:
        """Encode words (B, N) to (B, N, C)."""
        return self.transformer.encoder(self._embed(source), src_key_padding_mask=source == PADDING)

    def decode(self, memory: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Scores of the next word after each of ``target`` (B, M): (B, M, words)."""
        length = target.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=target.device).triu(1)
        hidden = self.transformer.decoder(
            self._embed(target), memory, tgt_mask=later, memory_key_padding_mask=source == PADDING
        )
        return hidden @ self.words.weight.T

    def _embed(self, words: Tensor) -> Tensor:
        return self.words(words) + self.positions[: words.shape[1]]


@report_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure and write the table; ``None`` means the command line of this process."""
    args = parse_arguments(argv)
    jobs = [(name, seed) for seed in range(args.seeds) for name in ENCODERS]
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in ENCODERS}
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(args.workers, context) as pool:
        running = [pool.submit(train_and_test, *job, args.steps) for job in jobs]
        for (name, seed), run in zip(jobs, running, strict=True):
            score = run.result()
            scores[name].append(score)
            print(
                f'seed {seed}, {name}: words {score[0]:.1%}, sentences {score[1]:.1%}', flush=True
            )
    text = table(scores)
    print(f'\n{text}')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out, lambda path: path.write_text(text + '\n'))


def plain_encoder(depth: int = 1) -> nn.Module:
    """PyTorch's encoder of six layers, or of ``depth`` times as many."""
    layer = make_layer(WIDTH, HEADS, HIDDEN, DROPOUT)
    layers, norm = PLAIN_LAYERS * depth, nn.LayerNorm(WIDTH)
    return nn.TransformerEncoder(layer, layers, norm, enable_nested_tensor=False)


def column_encoder(depth: int = 1) -> nn.Module:
    """As many layers in columns, their perceptrons narrowed by what the fusions need."""
    return TextEncoder(
        COLUMNS * depth, LEVELS, 1, WIDTH, HEADS, COLUMN_HIDDEN, DROPOUT, save_memory=True
    )


ENCODERS: dict[str, Callable[..., nn.Module]] = {
    'plain, 6 layers': plain_encoder,
    '3 columns of 2 levels': column_encoder,
}


def train_and_test(name: str, seed: int, steps: int) -> tuple[float, float]:
    """Train one network; the shares of words and of whole sentences that it then gets right."""
    torch.set_num_threads(1)
    text = read_text()
    torch.manual_seed(seed)
    model = Sorter(ENCODERS[name]())
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.15)
    for source, target in itertools.islice(batches(text.training, seed), steps):
        train_step(model, source, target)
        nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()
        schedule.step()
    return test(model, text.test)


def train_step(model: Sorter, source: Tensor, target: Tensor) -> None:
    """Compute the gradients of one batch."""
    model.train()
    scores = model.decode(model.encode(source), source, target[:, :-1])
    loss = F.cross_entropy(scores.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PADDING)
    model.zero_grad()
    loss.backward()


@torch.no_grad()
def test(model: Sorter, sentences: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Shares of words and of whole sentences that are right, the likeliest word taken each time."""
    model.eval()
    right = words = whole = 0
    for start in range(0, len(sentences), TEST_BATCH):
        source, target = collate(sentences[start : start + TEST_BATCH])
        memory = model.encode(source)
        written = target[:, :1]
        for _ in range(target.shape[1] - 1):
            following = model.decode(memory, source, written)[:, -1:].argmax(-1)
            written = torch.cat([written, following], dim=1)
        is_word, is_right = target >= FIRST_WORD, written == target
        right += (is_right & is_word).sum().item()
        words += is_word.sum().item()
        whole += (is_right | (target == PADDING)).all(1).sum().item()
    return right / words, whole / len(sentences)


def read_text() -> Text:
    """Split Python's language reference by its topics, and number the words."""
    parts: tuple[list, list] = ([], [])
    for index, topic in enumerate(sorted(topics)):
        is_test = index % TEST_EVERY == 0
        for sentence in re.split(r'[.:;!?]\s|\n\s*\n', topics[topic]):
            parts[is_test].append(re.findall(r'[a-z]+', sentence.lower()))
    counts = Counter(itertools.chain(*parts[False]))
    known = sorted(word for word, _ in counts.most_common(VOCABULARY))
    numbers = {word: FIRST_WORD + index for index, word in enumerate(known)}
    training, test = (
        [[numbers[word] for word in sentence if word in numbers] for sentence in part]
        for part in parts
    )
    training = [sentence for sentence in training if len(sentence) >= SHORTEST]
    seen = set(map(tuple, pieces(training)))
    unseen = dict.fromkeys(piece for piece in map(tuple, pieces(test)) if piece not in seen)
    return Text(dict(enumerate(known, FIRST_WORD)), training, [list(piece) for piece in unseen])


def pieces(sentences: Sequence[list[int]]) -> Iterator[list[int]]:
    """Cut sentences into pieces of at most ten words, and omit those of less than four."""
    for sentence in sentences:
        for start in range(0, len(sentence), LONGEST):
            piece = sentence[start : start + LONGEST]
            if len(piece) >= SHORTEST:
                yield piece


def batches(sentences: Sequence[list[int]], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of random stretches of random sentences."""
    draw = random.Random(seed)
    while True:
        chosen = []
        for sentence in draw.choices(sentences, k=BATCH_SIZE):
            length = min(len(sentence), draw.randint(SHORTEST, LONGEST))
            start = draw.randint(0, len(sentence) - length)
            chosen.append(sentence[start : start + length])
        yield collate(chosen)


def collate(sentences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """The sentences, (B, N), and what is to be written, (B, N + 2), both padded at the end."""
    targets = [[BEGIN, *sorted(sentence), END] for sentence in sentences]
    return pad(sentences), pad(targets)


def pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of different lengths as one tensor."""
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PADDING)


def step_memory(encoder: nn.Module) -> float:
    """Peak of a step through an encoder alone, without its parameters' gradients, in MiB."""
    tokens = torch.randn(BATCH_SIZE, LONGEST, WIDTH)
    padding = torch.zeros(BATCH_SIZE, LONGEST, dtype=torch.bool)
    with LiveBytes() as live:
        encoder(tokens, src_key_padding_mask=padding).square().mean().backward()
    return (live.peak - sum(p.grad.nbytes for p in encoder.parameters())) / MEBIBYTE


def table(scores: dict[str, list[tuple[float, float]]]) -> str:
    """A row for each encoder: means and standard deviations over the seeds, size and memory."""
    lines = [
        '| encoder | parameters | words right | sentences right | memory of a step '
        f'| {DEEPER} times as deep |',
        '|---|--:|--:|--:|--:|--:|',
    ]
    for name, runs in scores.items():
        make = ENCODERS[name]
        parameters = sum(parameter.numel() for parameter in make().parameters())
        cells = [
            f'{100 * statistics.mean(values):.1f} ± {100 * statistics.pstdev(values):.1f}'
            for values in zip(*runs, strict=True)
        ]
        memory = [f'{step_memory(make(depth)):.1f} MiB' for depth in (1, DEEPER)]
        lines.append(f'| {" | ".join([name, f"{parameters:,}", *cells, *memory])} |')
    return '\n'.join(lines)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seeds', type=int, default=3, help='runs of each, from seed 0 on')
    parser.add_argument('--steps', type=int, default=600, help='training steps of each run')
    parser.add_argument('--workers', type=int, default=2, help='runs at a time, a thread each')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/language/results.md'))
    return parser.parse_args(argv)


if __name__ == '__main__':
    sys.exit(main())
