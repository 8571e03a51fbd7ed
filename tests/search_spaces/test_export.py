import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.build import build
from search_spaces.catalogue.mlp import mlp
from search_spaces.catalogue.mobile_cnn import mobile_cnn
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.constructors import constructor
from search_spaces.export import ExportError, export_network
from search_spaces.moves import sample
from search_spaces.network import evaluating
from search_spaces.nodes import Op
from search_spaces.source import source
from search_spaces.space import SearchSpace


class OwnModule(nn.Module):
    """A user's module: layers, functions, parameters, buffers, constants, arithmetic, shapes."""

    def __init__(self, in_channels: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, 8, 3, padding="same", dilation=2)
        self.stack = nn.Sequential(nn.GroupNorm(2, 8), nn.PReLU(8), nn.Dropout2d(0.3))
        self.scale = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.register_buffer("shift", torch.rand(8, 1, 1), persistent=False)
        self.head = nn.Linear(16, outputs, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stack(self.convolution(x)) * self.scale + self.shift
        batch, channels, _, _ = y.shape
        y = functional.dropout(functional.gelu(y), 0.5, training=self.training)
        y = torch.cat([functional.max_pool2d(y, 2).mean((2, 3)), y.reshape(batch, channels, -1).amax(-1)], dim=1)
        y = y[:, :16] - torch.tensor([0.5]) ** 2
        return self.head((1 + functional.softmax(-y, dim=1)) / 2)


class Own(nn.Module):
    """One function of the input, and layers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(x)[0]
        return output[:, -1]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, bias=False, batch_first=True, kdim=8)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return output


class WritesInPlace(nn.Module):
    """The result of an in-place call that nobody reads still counts; a result that nobody reads does not."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        y = x + 1
        y.mul_(2)
        return y


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(4)


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def warmed(network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """The network with statistics that are not those of a new one."""
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, *input_shape))
    return network


def written(network: nn.Module, input_shape: tuple[int, ...], folder: Path) -> nn.Module:
    """What the text of a network gives when it is imported here."""
    text = source(network.eval(), input_shape)
    (folder / "model.py").write_text(text.text)
    save_file({name: tensor.detach().clone() for name, tensor in text.weights.items()}, folder / "weights.safetensors")
    module = imported(folder / "model.py")
    loaded: nn.Module = module.load(folder)
    return loaded


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("exported_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SPACES = [
    pytest.param(nas_bench_201(channels=4, cells=1, stages=2), (1, 8, 8), id="nas_bench_201"),
    pytest.param(residual_cnn(stages=2, blocks=1, widths=(4, 8)), (3, 9, 9), id="residual_cnn"),
    pytest.param(mobile_cnn(stages=3, blocks=1, widths=(2, 4)), (3, 9, 9), id="mobile_cnn"),
    pytest.param(mlp(widths=(4, 8)), (5,), id="mlp"),
    pytest.param(SearchSpace([Op(OwnModule)], "own"), (3, 10, 10), id="own module"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("space", "input_shape"), SPACES)
def test_an_exported_folder_computes_what_the_network_computes(
    space: SearchSpace, input_shape: tuple[int, ...], tmp_path: Path
) -> None:
    architecture = sample(space, np.random.default_rng(5))
    network = warmed(build(space, architecture, input_shape, 3), input_shape)
    folder = tmp_path / "made" / "exported"
    files = export_network(
        network, input_shape, folder, architecture=dict(architecture), provenance={"study": "demo", "trial": 7}
    )
    assert [path.name for path in files] == [
        "architecture.json",
        "model.onnx",
        "model.py",
        "provenance.json",
        "weights.safetensors",
    ]
    assert list(folder.parent.iterdir()) == [folder]
    assert all(module.training for module in network.modules())
    x = torch.randn(5, *input_shape)
    with evaluating(network):
        expected = network(x)
    # that model.py gives the same in a process without our packages was checked by export_network itself
    torch.testing.assert_close(imported(folder / "model.py").load(folder)(x).detach(), expected, rtol=1e-4, atol=1e-5)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (output,) = session.run(["output"], {"input": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(output), expected, rtol=1e-3, atol=1e-4)
    assert json.loads((folder / "architecture.json").read_text()) == dict(architecture)
    provenance = json.loads((folder / "provenance.json").read_text())
    assert (provenance["study"], provenance["trial"]) == ("demo", 7)
    assert set(provenance["sha256"]) == {path.name for path in files} - {"provenance.json"}
    assert "search_spaces" not in (folder / "model.py").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("space", "input_shape"), SPACES[:3])
def test_the_text_of_every_sampled_network_computes_the_same_to_the_last_bit(
    space: SearchSpace, input_shape: tuple[int, ...], tmp_path: Path
) -> None:
    for seed in range(3):
        network = warmed(build(space, sample(space, np.random.default_rng(seed)), input_shape, 3), input_shape).eval()
        x = torch.randn(5, *input_shape)
        expected = network(x)
        assert torch.equal(written(network, input_shape, tmp_path)(x), expected)


@pytest.mark.parametrize(
    ("network", "input_shape"),
    [
        (Own(nn.Conv1d(4, 6, 3, stride=2, bias=False), nn.BatchNorm1d(6, affine=False), nn.Flatten()), (4, 9)),
        (Own(nn.ConvTranspose2d(3, 4, (2, 3), output_padding=1, stride=2), nn.Hardswish()), (3, 5, 5)),
        (Own(nn.Conv2d(3, 4, (1, 3), padding=(0, 1), padding_mode="reflect"), nn.InstanceNorm2d(4)), (3, 5, 5)),
        (Own(nn.LayerNorm(5, elementwise_affine=False), nn.LeakyReLU(0.3, inplace=True), nn.Softmax(-1)), (3, 5)),
        (Own(nn.LayerNorm((3, 5), bias=False), nn.ELU(0.5), nn.Hardtanh(-0.5, 0.5), nn.Softplus(2)), (3, 5)),
        (Own(nn.MaxPool2d(3, 2, 1), nn.AdaptiveMaxPool2d((2, None)), nn.Upsample(scale_factor=2.0)), (3, 9, 9)),
        (Own(nn.ZeroPad2d(1), nn.LPPool2d(2, 3), nn.PixelShuffle(2), nn.Unflatten(1, (1, 1))), (4, 7, 7)),
        (Own(nn.Sequential(nn.Linear(5, 5), nn.Identity()), nn.GELU("tanh"), nn.AlphaDropout(0.2)), (5,)),
        (Own(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))), (5,)),
        (Recurrent(nn.LSTM(4, 6, num_layers=2, batch_first=True, bidirectional=True)), (7, 4)),
        (Recurrent(nn.GRU(4, 6, batch_first=True, bias=False)), (7, 4)),
        (Recurrent(nn.RNN(4, 6, batch_first=True, nonlinearity="relu")), (7, 4)),
        (Attention(), (5, 8)),
        (WritesInPlace(), (4,)),
    ],
)
def test_layers_and_functions_of_torch_are_written_with_all_their_settings(
    network: nn.Module, input_shape: tuple[int, ...], tmp_path: Path
) -> None:
    x = torch.randn(3, *input_shape)
    expected = network.eval()(x)
    again = written(network, input_shape, tmp_path)
    assert torch.equal(again(x), expected)
    assert "unused" not in (tmp_path / "model.py").read_text()


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(3, 16, 3, padding=1, bias=False), "nn.Conv2d(3, 16, 3, padding=1, bias=False)"),
        (nn.Conv2d(4, 8, (3, 5), groups=2), "nn.Conv2d(4, 8, (3, 5), groups=2)"),
        (nn.BatchNorm2d(8, momentum=None), "nn.BatchNorm2d(8, momentum=None)"),
        (nn.LayerNorm(7), "nn.LayerNorm((7,))"),
        (
            nn.AvgPool2d(3, 1, 1, count_include_pad=False),
            "nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)",
        ),
        (nn.Dropout(0.25), "nn.Dropout(p=0.25)"),
        (nn.ReLU(), "nn.ReLU()"),
        (nn.Linear(2, 3, dtype=torch.float64), "nn.Linear(2, 3, dtype=torch.float64)"),
        (nn.LSTM(4, 6, dropout=0.5, num_layers=2), "nn.LSTM(4, 6, num_layers=2, dropout=0.5)"),
    ],
)
def test_a_constructor_reads_as_one_writes_it(layer: nn.Module, text: str) -> None:
    assert constructor(layer, "layer") == text


def test_the_text_of_a_small_network_is_what_one_would_write() -> None:
    space = SearchSpace([Op("torch.nn:Linear", out_features=4), Op("torch.nn:Tanh")])
    assert source(build(space, {}, (3,), 4).eval(), (3,)).text == (
        '"""A network in plain PyTorch; its weights are in weights.safetensors. Input: batch x 3, float32."""\n'
        "\n"
        "from pathlib import Path\n"
        "\n"
        "from safetensors.torch import load_file\n"
        "from torch import nn\n"
        "\n"
        "\n"
        "class Network(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.part_0 = nn.Linear(3, 4)\n"
        "        self.part_1 = nn.Tanh()\n"
        "\n"
        "    def forward(self, x):\n"
        "        x = self.part_0(x)\n"
        "        x = self.part_1(x)\n"
        "        return x\n"
        "\n"
        "\n"
        "def load(folder=Path(__file__).parent):\n"
        '    """The network with the weights of a folder, in eval mode."""\n'
        "    network = Network()\n"
        '    network.load_state_dict(load_file(Path(folder) / "weights.safetensors"))\n'
        "    return network.eval()\n"
    )


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            Own(nn.Linear(4, 4), Branches()),
            r"layers\.1 \(Branches\) cannot be traced: TraceError.*must not branch or loop",
        ),
        (TwoOutputs(), "the network must give one tensor"),
        (nn.Bilinear(4, 4, 2), "the network takes more than one input"),
    ],
)
def test_a_network_that_cannot_be_written_is_refused_with_the_reason(
    network: nn.Module, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        export_network(network, (4,), tmp_path / "exported", architecture={}, provenance={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_network_whose_text_computes_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="computes something else: outputs differ by"):
        export_network(Random(), (4,), tmp_path / "exported", architecture={}, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ExportError, match="is not an empty folder; name a new one"):
        export_network(nn.Linear(4, 2), (4,), tmp_path, architecture={}, provenance={})
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
