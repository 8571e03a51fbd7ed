"""mobile_cnn: stages of inverted residuals on images, with the settings of their training.

Source: the decisions of Cai et al., "Once-for-All", arXiv:1908.09791, section 3.2 (kernel and expansion of each block,
depth of each stage) and of Tan et al., "MnasNet", arXiv:1807.11626, section 4.1 (width, squeeze and excite).
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.catalogue.checks import check_count, check_sizes
from search_spaces.catalogue.learning import learning_decisions
from search_spaces.catalogue.stages import stage_width, staged
from search_spaces.nodes import Boolean, Choice, Node, Op
from search_spaces.space import SearchSpace


def mobile_cnn(
    stages: int = 4,
    blocks: int = 3,
    widths: Sequence[int] = (12, 16, 24),
    kernels: Sequence[int] = (3, 5, 7),
    expansions: Sequence[int] = (3, 4, 6),
    squeeze_excite: bool = True,
    features: int = 256,
    training: bool = True,
) -> SearchSpace:
    """Stem, stages of inverted residuals, a pointwise layer, head; for images of any number of channels and size.

    Each stage decides its width and how many blocks follow its first; each block decides the kernel of its depthwise
    convolution, its expansion, and whether it has a squeeze-and-excite layer. Every stage but the first doubles the
    widths to choose from and halves rows and columns as long as four are left, the stem as long as 32 are.

    Args:
        stages: how many stages.
        blocks: the most blocks of a stage.
        widths: channels that the first stage may have.
        kernels: odd kernel sizes of the depthwise convolutions.
        expansions: how many times the channels of its input the middle of a block may have.
        squeeze_excite: whether blocks may have a squeeze-and-excite layer.
        features: channels before the head.
        training: whether the settings of the training are decided too (below "training").
    """
    check_count("stages", stages)
    check_count("blocks", blocks)
    check_sizes("widths", widths)
    check_sizes("kernels", kernels, odd=True)
    check_sizes("expansions", expansions)
    check_count("features", features)

    def block(stage: int, shrinks: bool) -> Node:
        return Op(
            "search_spaces.operations.mobile:mobile_block",
            label="block",
            out_channels=stage_width(stage, widths),
            kernel_size=Choice(list(kernels)),
            expansion=Choice(list(expansions)),
            squeeze_excite=Boolean() if squeeze_excite else False,
            shrinks=shrinks,
        )

    network: dict[str, Node] = {
        "stem": Op("search_spaces.operations.mobile:mobile_stem", label="stem", out_channels=stage_width(0, widths)),
        **staged(stages, blocks, block),
        "features": Op(
            "search_spaces.operations.convolution:ConvBatchNorm",
            label="features",
            out_channels=features,
            kernel_size=1,
        ),
        "head": Op("search_spaces.operations.heads:PoolingHead", label="head"),
    }
    root: dict[str, Node] = {"network": network}
    if training:
        root["training"] = learning_decisions(label_smoothing=0.2)
    return SearchSpace(root, "mobile_cnn")
