"""From architectures to scores: seeds, failures, names, ranks."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from predictors.zero_cost.batch import gaussian_batch
from predictors.zero_cost.catalogue import AZ_NAS, PROXIES, checked_names, load_proxy
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.ranking import rank_aggregate, rank_correlation, ranks
from predictors.zero_cost.scorer import Scorer, network_decisions
from predictors.zero_cost.snip import snip
from search_spaces import Choice, Float, Op, SearchSpace, SpaceError, load_space, sample
from search_spaces.catalogue.nas_bench_201 import OPERATIONS, PATHS
from search_spaces.loading import LoadError

CELLS = load_space("nas_bench_201", channels=2, cells=1, stages=1)
CHEAP = ("naswot", "synflow", "snip", "expressivity")


def scorer(space: SearchSpace = CELLS, shape: tuple[int, ...] = (3, 6, 6), **settings: object) -> Scorer:
    given = {"proxies": CHEAP, "outputs": 3, "loss": functional.cross_entropy, **settings}
    return Scorer(space=space, batch=gaussian_batch(shape, 3, examples=6), **given)  # type: ignore[arg-type]


def test_scores_depend_on_the_architecture_and_the_seed_alone() -> None:
    rng = np.random.default_rng(0)
    architectures = [sample(CELLS, rng) for _ in range(4)]
    state = torch.get_rng_state()
    forwards = [scorer().scores(one).values for one in architectures]
    torch.rand(5)
    backwards = [scorer().scores(one).values for one in reversed(architectures)]
    assert forwards == backwards[::-1]
    assert len({values["snip"] for values in forwards}) == 4
    assert scorer(seed=1).scores(architectures[0]).values["snip"] != forwards[0]["snip"]
    torch.set_rng_state(state)
    scorer().scores(architectures[0])
    assert torch.equal(state, torch.get_rng_state())


def test_building_networks_touches_no_generator_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(seed: int) -> None:
        raise AssertionError("a GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    assert not scorer().scores(sample(CELLS, np.random.default_rng(0))).failures


def test_what_is_decided_about_training_changes_no_score() -> None:
    space = load_space("mlp", layers=2, widths=[4], activations=["relu"], dropout=0)
    rng = np.random.default_rng(0)
    first = sample(space, rng)
    second = space.validate({**first, "training/learning_rate": 0.05, "training/weight_decay": 0.01})
    assert first != second
    assert network_decisions(space, first) == network_decisions(space, second)
    assert all(path.startswith("network/") for path in network_decisions(space, first))
    scores = [scorer(space, (5,)).scores(one).values for one in (first, second)]
    assert scores[0] == scores[1]


def test_what_cannot_be_scored_is_told_and_keeps_no_other_score_back() -> None:
    space = SearchSpace(
        [
            Op(nn.Linear, in_features=4, out_features=5),
            Op(Activation, name=Choice(["relu", "tanh"])),
            Op(nn.Linear, in_features=5, out_features=3),
        ],
        name="two",
    )
    path = space.decisions[0].path
    found = scorer(space, (4,)).scores({path: "tanh"})
    assert math.isnan(found.values["naswot"])
    assert "naswot: the network has no rectifier" in found.failures["naswot"]
    assert set(found.failures) == {"naswot"}
    assert math.isfinite(found.values["snip"])
    assert found.seconds > 0
    assert not scorer(space, (4,)).scores({path: "relu"}).failures


class Activation(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = {"relu": torch.relu, "tanh": torch.tanh}[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_a_network_that_cannot_be_built_is_a_failure_of_every_proxy() -> None:
    space = SearchSpace([Op(nn.Linear, in_features=7, out_features=Choice([3, 5]))], name="seven")
    found = scorer(space, (4,)).scores({space.decisions[0].path: 3})
    assert set(found.failures) == set(CHEAP)
    assert all(math.isnan(value) for value in found.values.values())
    assert "shape (4,)" in found.failures["snip"]


def test_an_architecture_of_another_space_is_refused() -> None:
    with pytest.raises(SpaceError, match="no such decision"):
        scorer().scores({**dict.fromkeys(PATHS, OPERATIONS[1]), "width": 3})


def test_a_space_without_networks_is_refused() -> None:
    with pytest.raises(ProxyError, match="describes no network"):
        scorer(SearchSpace({"x": Float(0.0, 1.0)}, name="numbers"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "at least one"),
        (("naswt",), "did you mean 'naswot'"),
        (("snip", "snip"), "named twice"),
        (("nothing like it",), "known are naswot"),
    ],
)
def test_bad_names_of_proxies_are_told(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ProxyError, match=said):
        checked_names(names)
    with pytest.raises(ProxyError, match=said):
        scorer(proxies=names)


def test_every_name_leads_to_the_function_of_that_name() -> None:
    for name in PROXIES:
        found = load_proxy(name)
        assert found.__name__ == ("macs" if name == "complexity" else name)  # type: ignore[attr-defined]
        said = " ".join((found.__doc__ or "").split())
        assert "Source:" in said or name == "parameters"
        for word in ("arger is better", "atch normalisation", "akes "):
            assert word in said, (name, word)
    assert set(AZ_NAS) <= set(PROXIES)


def test_a_proxy_of_ones_own_is_named_by_its_path_and_needs_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_proxies.py").write_text(
        "from predictors.zero_cost.private_copy import proxy\n"
        "@proxy\ndef depth(network, batch, loss):\n    return len(list(network.modules()))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(LoadError, match="--allow my_proxies"):
        load_proxy("my_proxies:depth")
    found = load_proxy("my_proxies:depth", allow=("my_proxies",))
    batch = gaussian_batch((4,), 3, examples=2)
    assert found(nn.Sequential(nn.Linear(4, 3)), batch, functional.cross_entropy) == 2
    sys.modules.pop("my_proxies")


OWN = """
import math
import torch
from functools import wraps
from predictors.zero_cost.snip import snip

def raising(network, batch, loss):
    return {}["depth"]

def nothing(network, batch, loss):
    return None

def several(network, batch, loss):
    return torch.zeros(2, 3)

def text(network, batch, loss):
    return "3"

def infinite(network, batch, loss):
    return math.inf

@wraps(snip)
def around(network, batch, loss):
    return {}[snip(network, batch, loss)]

def with_gradient(network, batch, loss):
    return loss(network(batch.inputs), batch.targets)

def writing(network, batch, loss):
    batch.inputs.zero_()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return -math.inf

class Depth:
    def __call__(self, network, batch, loss):
        return len(list(network.modules()))

depth = Depth()
"""


def test_proxies_of_ones_own_are_held_to_the_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_proxies.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("raising", "nothing", "several", "text", "infinite", "around", "with_gradient", "writing", "depth")
    own = [f"own_proxies:{name}" for name in names]
    architecture = sample(CELLS, np.random.default_rng(0))
    found = scorer(proxies=(*own, "snip", "l2_norm"), allow=("own_proxies",)).scores(architecture)
    sys.modules.pop("own_proxies")
    failures = {path.removeprefix("own_proxies:"): said for path, said in found.failures.items()}
    assert failures == {
        "raising": "raising: KeyError: 'depth'",
        "nothing": "nothing: the score must be one number, got None (NoneType)",
        "several": "several: the score must be one number, got shape (2, 3) (Tensor)",
        "text": "text: the score must be one number, got '3' (str)",
        "infinite": "infinite: the score is inf; the network gives NaN or overflows on this batch",
        "around": failures["around"],
    }
    assert failures["around"].startswith("snip: KeyError: ")
    assert math.isfinite(found.values["own_proxies:with_gradient"])
    assert found.values["own_proxies:writing"] == -math.inf
    assert found.values["own_proxies:depth"] > 5
    expected = scorer(proxies=("snip", "l2_norm")).scores(architecture).values
    assert {name: found.values[name] for name in expected} == expected


def test_what_is_a_proxy_already_is_not_made_one_again() -> None:
    assert load_proxy("predictors.zero_cost.snip:snip") is load_proxy("snip") is snip


def test_names_are_there_without_torch_and_scoring_without_ray_optuna_and_sql() -> None:
    script = (
        "import sys\nfrom predictors.zero_cost.catalogue import PROXIES\nimport predictors.zero_cost.ranking\n"
        "assert 'torch' not in sys.modules\n"
        "from predictors.zero_cost.catalogue import load_proxy\nimport predictors.zero_cost.scorer\n"
        "for name in PROXIES: load_proxy(name)\n"
        "heavy = {'ray', 'optuna', 'sqlalchemy', 'sklearn', 'pandas', 'botorch', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_and_their_correlation_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(6, size=40).astype(float), rng.standard_normal(40)
    np.testing.assert_allclose(ranks(first), stats.rankdata(first))
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_no_score_ranks_with_the_worst_and_is_left_out_of_correlations() -> None:
    scores = np.array([3.0, math.nan, 1.0, -math.inf])
    assert ranks(scores).tolist() == [4.0, 1.5, 3.0, 1.5]
    assert rank_correlation(scores, np.array([1.0, 9.0, 2.0, 3.0])) == pytest.approx(-1.0)
    assert math.isnan(rank_correlation(scores, np.full(4, 2.0)))
    assert math.isnan(rank_correlation(scores[:1], scores[:1]))


def test_the_aggregate_is_the_sum_of_logarithms_of_relative_ranks() -> None:
    scores = np.array([[1.0, 30.0], [2.0, 10.0], [3.0, 20.0]])
    expected = [math.log(1 / 3) + math.log(3 / 3), math.log(2 / 3) + math.log(1 / 3), math.log(3 / 3) + math.log(2 / 3)]
    np.testing.assert_allclose(rank_aggregate(scores), expected)
    best_by_all = rank_aggregate(np.array([[1.0, 2.0], [0.0, 1.0]]))
    assert best_by_all[0] == 0.0
    np.testing.assert_allclose(rank_aggregate(np.exp(scores)), expected)  # only ranks count


@pytest.mark.slow
def test_scores_of_benchmark_cells_are_those_that_others_published(benchmark_data: Path) -> None:
    with np.load(benchmark_data / "nasbench201" / "nb201_core.npz", allow_pickle=False) as core:
        operations = core["op_names"][core["ops"]]
    with np.load(benchmark_data / "nasbench201" / "nb201_zc13.npz", allow_pickle=False) as tables:
        rows, names, table = tables["index_cifar10"], [str(name) for name in tables["proxies"]], tables["cifar10"]
    space = load_space("nas_bench_201")
    chosen = np.random.default_rng(0).choice(len(rows), 6, replace=False)
    whole = scorer(space, (3, 32, 32), proxies=("synflow", "l2_norm", "parameters"), outputs=10)
    ours = [whole.scores(dict(zip(PATHS, map(str, operations[rows[at]]), strict=True))).values for at in chosen]
    for name, theirs in (("synflow", "synflow"), ("l2_norm", "l2_norm"), ("parameters", "params")):
        published = table[chosen, names.index(theirs)]
        # other weights of the same distribution; theirs is in millions for the last
        found = np.array([values[name] for values in ours]) / (1e6 if name == "parameters" else 1)
        np.testing.assert_allclose(found, published, rtol=0.02, err_msg=name)
