"""residual_cnn: stages of residual blocks on images, with the settings of their training."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.catalogue.checks import check_count, check_names, check_sizes
from search_spaces.catalogue.learning import learning_decisions
from search_spaces.catalogue.stages import stage_width, staged
from search_spaces.nodes import Choice, Node, Op
from search_spaces.space import SearchSpace

BLOCKS = {
    "basic": "search_spaces.operations.residual:BasicBlock",
    "bottleneck": "search_spaces.operations.residual:BottleneckBlock",
    "inverted": "search_spaces.operations.residual:InvertedResidual",
    "separable": "search_spaces.operations.residual:SeparableBlock",
}
OWN_SETTINGS: dict[str, dict[str, Node]] = {
    "bottleneck": {"reduction": Choice([2, 4])},
    "inverted": {"expansion": Choice([2, 4])},
}


def residual_cnn(
    stages: int = 3,
    blocks: int = 3,
    widths: Sequence[int] = (16, 24, 32),
    kernels: Sequence[int] = (3, 5),
    block_types: Sequence[str] = tuple(BLOCKS),
    training: bool = True,
) -> SearchSpace:
    """Stem, stages of residual blocks, head; for images of any number of channels and size.

    Each stage decides its width and how many blocks follow its first; each block decides its type, its kernel, and what
    only its type has. Every stage but the first halves rows and columns and doubles the widths to choose from.

    Args:
        stages: how many stages.
        blocks: the most blocks of a stage.
        widths: channels that the first stage may have.
        kernels: odd kernel sizes of the convolutions over space.
        block_types: names in `BLOCKS`.
        training: whether the settings of the training are decided too (below "training").
    """
    check_count("stages", stages)
    check_count("blocks", blocks)
    check_sizes("widths", widths)
    check_sizes("kernels", kernels, odd=True)
    check_names("block_types", "block type", block_types, BLOCKS)

    def block(stage: int, shrinks: bool) -> Node:
        return Choice(
            [
                Op(
                    BLOCKS[name],
                    label=name,
                    out_channels=stage_width(stage, widths),
                    kernel_size=Choice(list(kernels)),
                    stride=2 if shrinks else 1,
                    **OWN_SETTINGS.get(name, {}),
                )
                for name in block_types
            ]
        )

    network: dict[str, Node] = {
        "stem": Op(
            "search_spaces.operations.convolution:ConvBatchNorm", label="stem", out_channels=stage_width(0, widths)
        ),
        **staged(stages, blocks, block),
        "head": Op("search_spaces.operations.heads:PoolingHead", label="head"),
    }
    root: dict[str, Node] = {"network": network}
    if training:
        root["training"] = learning_decisions(label_smoothing=0.2)
    return SearchSpace(root, "residual_cnn")
