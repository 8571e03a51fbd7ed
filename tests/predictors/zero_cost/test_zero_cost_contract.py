"""What every proxy promises, asked of every one in the catalogue."""

import math
import random
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from predictors.zero_cost.batch import Batch
from predictors.zero_cost.catalogue import PROXIES, load_proxy
from predictors.zero_cost.error import ProxyError
from tests.predictors.zero_cost.networks import (
    IMAGE,
    NETWORKS,
    OUTPUTS,
    ROW,
    STEPS,
    batch_for,
    batch_of,
    cell,
    drawn_mlp,
    make,
)

COUNTS = {"parameters", "macs", "complexity"}
WITHOUT_CORRELATION = {"cell"}
"""Networks whose outputs change by the same amount with every one of equal inputs."""
DRAW_WEIGHTS = {"zen", "expressivity", "progressivity", "trainability"}
each_proxy = pytest.mark.parametrize("name", PROXIES)
each_network = pytest.mark.parametrize("kind", NETWORKS)


def score(name: str, network: nn.Module, batch: Batch) -> float:
    return load_proxy(name)(network, batch, functional.cross_entropy)


def everything(network: nn.Module) -> list[object]:
    """All there is to see of a network."""
    seen: list[object] = []
    for module in network.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        seen += [id(module), module.training, [list(one) for one in hooks], sorted(vars(module))]
    for tensor in (*network.parameters(), *network.buffers()):
        grad = None if tensor.grad is None else tensor.grad.clone()
        seen += [id(tensor), tensor.dtype, tensor.requires_grad, tensor.detach().clone(), tensor._version, grad]
    return seen


def same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return one == other


def used_a_little(kind: str) -> nn.Module:
    """A network in no pristine state: gradients, frozen weights, parts in eval mode, a hook of somebody's."""
    network = make(kind)
    network(batch_for(kind).inputs).sum().backward()
    parameters = list(network.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = None
    list(network.modules())[-1].eval()
    network.register_forward_hook(lambda module, given, result: None)
    return network


@each_proxy
@each_network
def test_a_score_leaves_the_network_and_global_generators_as_they_were_and_comes_again(name: str, kind: str) -> None:
    network, batch = used_a_little(kind), batch_for(kind)
    inputs = batch.inputs.clone()
    states = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002
    before, grads = everything(network), torch.is_grad_enabled()
    value = score(name, network, batch)
    after = everything(network)
    assert len(before) == len(after)
    assert all(same(one, other) for one, other in zip(before, after, strict=True))
    assert torch.equal(inputs, batch.inputs)
    assert batch.inputs.grad is None
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (repr(np.random.get_state()), random.getstate())  # noqa: NPY002
    assert torch.is_grad_enabled() == grads
    assert math.isfinite(value)
    torch.rand(3)  # wherever the global generator is
    with torch.no_grad():  # whoever wants no gradients
        assert score(name, make(kind).eval(), batch) == value  # and in whatever mode the network is


class Attentive(nn.Module):
    """Everything of torch's that drops."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.below = nn.LSTM(4, 6, num_layers=2, dropout=p, batch_first=True)
        self.attention = nn.MultiheadAttention(6, 2, dropout=p, batch_first=True)
        self.rest = nn.Sequential(nn.Dropout(p), nn.ReLU(), nn.Linear(30, 8), nn.AlphaDropout(p), nn.Linear(8, OUTPUTS))

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.below(x)
        attended, _ = self.attention(states, states, states)
        logits: Tensor = self.rest(attended.flatten(1))
        return logits


@each_proxy
def test_dropout_has_no_part_in_any_score(name: str) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        plain, dropping = Attentive(0.0), Attentive(0.5)
    dropping.load_state_dict(plain.state_dict())
    assert score(name, dropping, batch_of(STEPS)) == score(name, plain, batch_of(STEPS))


class Eager(nn.Module):
    """Begins with a module that may write into the inputs; its blocks are looked for inside, in several passes."""

    def __init__(self, first: nn.Module, inplace: bool) -> None:
        super().__init__()
        self.first, self.stem = first, nn.Linear(6, 8)
        self.body = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(inplace)) for _ in range(2))
        self.head = nn.Linear(8, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(self.first(x))
        for layer in self.body:
            y = layer(y)
        logits: Tensor = self.head(y)
        return logits


@each_proxy
@pytest.mark.parametrize("first", [nn.ReLU, nn.SiLU, lambda inplace: nn.Dropout(0.5, inplace)])
def test_modules_that_write_into_the_batch_score_as_those_that_do_not(
    name: str, first: Callable[[bool], nn.Module]
) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        plain, writing = Eager(first(False), inplace=False), Eager(first(True), inplace=True)
    writing.load_state_dict(plain.state_dict())
    batch = batch_of(ROW)
    inputs = batch.inputs.clone()
    expected = pytest.approx(score(name, plain, batch), rel=1e-3)  # zico divides by what rounding leaves
    assert [score(name, writing, batch) for _ in range(2)] == [expected] * 2
    assert torch.equal(inputs, batch.inputs)
    assert not batch.inputs.requires_grad


@each_proxy
def test_a_failure_leaves_the_network_and_the_generators_as_they_were(name: str) -> None:
    network, state = used_a_little("functional"), torch.get_rng_state()
    before = everything(network)
    network.register_forward_pre_hook(fail)
    if name in COUNTS - {"macs", "complexity"} | {"l2_norm"}:  # they run nothing
        score(name, network, batch_for("functional"))
    else:
        with pytest.raises(ProxyError, match=rf"^{score_name(name)}: .*out of luck"):
            score(name, network, batch_for("functional"))
    network._forward_pre_hooks.clear()
    assert all(same(one, other) for one, other in zip(before, everything(network), strict=True))
    assert torch.equal(state, torch.get_rng_state())


def fail(module: nn.Module, given: object) -> None:
    raise RuntimeError("out of luck")


def score_name(name: str) -> str:
    return "macs" if name == "complexity" else name


@each_proxy
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("no room"), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()],
)
def test_a_lack_of_memory_is_no_failure_of_the_network(name: str, error: Exception) -> None:
    def out_of_memory(module: nn.Module, given: object) -> None:
        raise error

    network = make("functional")
    network.register_forward_pre_hook(out_of_memory)
    if name not in COUNTS - {"macs", "complexity"} | {"l2_norm"}:
        with pytest.raises(type(error)) as raised:
            score(name, network, batch_for("functional"))
        assert raised.value is error


@each_proxy
def test_nan_in_the_weights_is_an_error_that_names_the_proxy(name: str) -> None:
    network = make("functional")
    with torch.no_grad():
        next(network.parameters()).flatten()[0] = math.nan
    if name in COUNTS | DRAW_WEIGHTS:  # they do not look at these weights
        assert math.isfinite(score(name, network, batch_for("functional")))
    else:
        with pytest.raises(ProxyError, match=f"^{name}: "):
            score(name, network, batch_for("functional"))


@each_proxy
def test_a_network_without_rectifiers_has_a_score_unless_it_is_rectifiers_that_are_counted(name: str) -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, OUTPUTS))
    if name in ("naswot", "linear_regions"):
        with pytest.raises(ProxyError, match=f"^{name}: the network has no rectifier"):
            score(name, network, batch_of(ROW))
    else:
        assert math.isfinite(score(name, network, batch_of(ROW)))


@each_proxy
@pytest.mark.parametrize("kind", ["cell", "residual_cnn", "recurrent", "functional"])
def test_a_batch_of_one_has_a_score_but_where_two_are_compared(name: str, kind: str) -> None:
    if name == "zico":
        with pytest.raises(ProxyError, match="zico: the batch must have at least 2 examples, got 1"):
            score(name, make(kind), batch_for(kind, examples=1))
    else:
        assert math.isfinite(score(name, make(kind), batch_for(kind, examples=1)))


@each_proxy
def test_what_torch_cannot_normalise_is_an_error_in_its_words(name: str) -> None:
    network, batch = make("mlp"), batch_for("mlp", examples=1)
    if name in COUNTS | {"l2_norm", "synflow"}:
        assert math.isfinite(score(name, network, batch))
    else:
        with pytest.raises(ProxyError, match=rf"^{name}: (.*more than 1 value per channel|the batch must have)"):
            score(name, network, batch)


@each_proxy
@each_network
def test_constant_inputs_have_an_answer(name: str, kind: str) -> None:
    given, value = batch_for(kind), 0.0 if kind in ("cell", "recurrent") else 1.0
    batch = Batch(inputs=torch.full_like(given.inputs, value), targets=given.targets)
    network = make(kind)
    if name == "epe_nas" and kind in WITHOUT_CORRELATION:
        with pytest.raises(ProxyError, match=r"^epe_nas: .*do not correlate"):
            score(name, network, batch)
    else:
        found = score(name, network, batch)
        assert math.isfinite(found) or found == -math.inf


@each_proxy
def test_a_network_cut_off_from_its_input_has_an_answer(name: str) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = cell(0, 0, 0, 0, 0, 0)
    if name == "epe_nas":
        with pytest.raises(ProxyError, match=r"^epe_nas: .*do not correlate"):
            score(name, network, batch_of(IMAGE))
    else:
        found = score(name, network, batch_of(IMAGE))
        assert math.isfinite(found) or found == -math.inf


@each_proxy
def test_a_network_without_weights_is_an_error_unless_nothing_depends_on_them(name: str) -> None:
    network = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.AdaptiveAvgPool1d(OUTPUTS))
    if name in COUNTS | {"naswot", "linear_regions", "jacob_cov", "epe_nas"}:
        assert math.isfinite(score(name, network, batch_of((8,))))
    else:
        with pytest.raises(ProxyError, match=f"^{name}: the network has no"):
            score(name, network, batch_of((8,)))


@pytest.mark.parametrize("name", sorted(set(PROXIES) - COUNTS - {"epe_nas"}))
def test_regressions_are_scored_too(name: str) -> None:
    network = drawn_mlp("none")
    batch = Batch(inputs=batch_of(ROW).inputs, targets=torch.randn(6, OUTPUTS, generator=torch.Generator()))
    assert math.isfinite(load_proxy(name)(network, batch, functional.mse_loss))


@pytest.mark.parametrize("name", sorted(set(PROXIES) - COUNTS - DRAW_WEIGHTS))
def test_other_weights_give_other_scores(name: str) -> None:
    if name == "linear_regions":  # every example has a region of its own in both
        return
    first, second = (score(name, make("residual_cnn", seed), batch_for("residual_cnn")) for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("name", sorted(DRAW_WEIGHTS))
def test_what_a_proxy_draws_comes_from_the_seed_alone(name: str) -> None:
    batch = batch_for("residual_cnn")
    first, second = (score(name, make("residual_cnn", seed), batch) for seed in (0, 1))
    assert first == second
    reseeded = Batch(inputs=batch.inputs, targets=batch.targets, seed=1)
    assert score(name, make("residual_cnn"), reseeded) != first


@pytest.mark.parametrize(
    ("inputs", "targets", "said"),
    [
        (torch.zeros(0, 3), torch.zeros(0), "b at least 1"),
        (torch.zeros(3), torch.zeros(3), "b x input shape"),
        (torch.zeros(3, 2), torch.zeros(2), "as many targets"),
        (torch.full((3, 2), math.nan), torch.zeros(3), "must be finite"),
    ],
)
def test_a_batch_that_nothing_can_be_scored_on_is_refused(inputs: Tensor, targets: Tensor, said: str) -> None:
    with pytest.raises(ProxyError, match=said):
        Batch(inputs=inputs, targets=targets)


@pytest.mark.cuda
def test_scores_are_those_of_the_cpu_on_the_device_of_the_network() -> None:
    for name, kind in product(PROXIES, NETWORKS):
        here = score(name, make(kind), batch_for(kind))
        assert score(name, make(kind).cuda(), batch_for(kind)) == pytest.approx(here, rel=0.02), (name, kind)
