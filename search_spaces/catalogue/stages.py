"""What the ready spaces of stages have in common: a width for each stage, a first block, and how many follow it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search_spaces.nodes import Choice, Integer, Node, Repeat, Shared


def stage_width(stage: int, widths: Sequence[int]) -> Shared:
    """All blocks of a stage have one width; each stage doubles those to choose from."""
    return Shared(f"width{stage + 1}", Choice([width * 2**stage for width in widths]))


def staged(stages: int, blocks: int, block: Callable[[int, bool], Node]) -> dict[str, Node]:
    """Stages of one to `blocks` blocks.

    Args:
        stages: how many.
        blocks: the most of a stage.
        block: makes the node of a block from its stage's number and whether it makes the image smaller: the first of
            every stage but the first one does.
    """
    return {
        f"stage{stage + 1}": {
            "first": block(stage, stage > 0),
            "more": Repeat(block(stage, False), Integer(0, blocks - 1)),
        }
        for stage in range(stages)
    }
