"""What is kept to spare work: outputs of blocks that the backward pass would compute once more.

Every block of a network takes the same number of products, while the output of a block one level
further up is half as large. A fixed amount of memory, however many columns there are, goes to the
smallest outputs first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# In outputs of the stem. At RevCol-T's four columns it keeps all inner blocks of levels 1 to 3, the
# outputs of levels 2 and 3, and one of level 1.
BUDGET = 5.6


@dataclass(frozen=True)
class KeptOutputs:
    """The choice.

    Args:
        levels: The (column, level) that are kept, so that the column after need not give them back.
        blocks: The (column, level, block) of blocks inside of a level, counted from its end.
    """

    levels: frozenset[tuple[int, int]] = frozenset()
    blocks: frozenset[tuple[int, int, int]] = frozenset()


def choose_outputs(
    positions: Sequence[int], sizes: Sequence[int], chains: Sequence[int], budget: float
) -> KeptOutputs:
    """Choose what is kept of consecutive columns.

    Args:
        positions: The columns.
        sizes: For each level of a column the bytes of its output.
        chains: For each level how many blocks can be spared their output, its last one included.
        budget: The bytes that may be kept.

    Returns:
        The choice, of at most so many bytes.
    """
    levels, blocks = set(), set()
    for level in sorted(range(len(sizes)), key=sizes.__getitem__):
        for position in positions:
            for block in range(-chains[level], -1):
                if sizes[level] <= budget:
                    blocks.add((position, level, block))
                    budget -= sizes[level]
        for position in positions[:-1]:
            if chains[level] and sizes[level] <= budget:
                levels.add((position, level))
                budget -= sizes[level]
    return KeptOutputs(frozenset(levels), frozenset(blocks))
