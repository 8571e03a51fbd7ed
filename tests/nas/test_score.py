"""nas score, and the functions behind it."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch

from nas.scoring import make_batch, make_scorer, sample_networks, score_architectures
from predictors.zero_cost.catalogue import ALL, AZ_NAS
from predictors.zero_cost.ranking import rank_aggregate
from predictors.zero_cost.scorer import network_decisions
from search_spaces import load_space, size
from workers.datasets import load_dataset

Run = Callable[..., tuple[int, str, str]]
CELLS = ("--space", "nas_bench_201", "--set", "space.channels=2", "--set", "space.cells=1", "--data", "digits")
SPACE = load_space("nas_bench_201", channels=2, cells=1)


@pytest.fixture
def run(run: Run) -> Iterator[Run]:
    """Run `nas score`; see the fixture of all commands."""
    threads = torch.get_num_threads()
    yield partial(run, "score")
    torch.set_num_threads(threads)


def test_json_has_every_architecture_best_first_and_the_rank_correlations(run: Run) -> None:
    code, out, _ = run(*CELLS, "--count", "6", "--examples", "12", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["proxies"] == list(AZ_NAS)
    records = found["architectures"]
    assert [record["rank"] for record in records] == [1, 2, 3, 4, 5, 6]
    aggregates = [record["aggregate"] for record in records]
    assert aggregates == sorted(aggregates, reverse=True)
    values = np.array([[float(record["scores"][name]) for name in AZ_NAS] for record in records])
    np.testing.assert_allclose(aggregates, rank_aggregate(values))
    assert len(found["rank_correlations"]) == 6
    assert found["seconds_per_architecture"] > 0
    for record in records:
        SPACE.validate(record["architecture"])
    again = json.loads(run(*CELLS, "--count", "6", "--examples", "12", "--json")[1])
    assert [record["scores"] for record in again["architectures"]] == [record["scores"] for record in records]
    other = json.loads(run(*CELLS, "--count", "6", "--json", "--seed", "1", "--proxies", "parameters")[1])
    assert [record["architecture"] for record in other["architectures"]] != [r["architecture"] for r in records]


def test_the_table_and_csv_show_the_same_and_say_how_long_it_took(run: Run) -> None:
    given = (*CELLS, "--count", "4", "--examples", "4", "--proxies", "synflow, parameters", "--gaussian")
    code, out, err = run(*given, "--csv")
    header, *lines = out.splitlines()
    assert code == 0
    assert len(lines) == 4
    assert {"rank", "aggregate", "synflow", "parameters", "cell/0->1"} <= set(header.split(","))
    assert "4 architectures" in err
    code, out, err = run(*given, "--top", "2")
    assert code == 0
    assert "synflow" in out
    assert sum("cell/0->1" in line.replace(" ", "") or "cell/0" in line for line in out.splitlines()) >= 2


@pytest.mark.parametrize("columns", [50, 80, 400])
def test_the_table_fits_the_terminal_and_says_which_proxies_do_not(
    run: Run, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = run(*CELLS, "--count", "3", "--examples", "4", "--proxies", "all", "--top", "2")
    assert code == 0
    table, architectures = out.split("└")
    assert max(map(len, out.splitlines())) <= columns
    header, *rows = [line.split() for line in table.splitlines() if line[:1] in "┃│"]
    names = [cell for cell in header if cell != "┃"]
    assert names[:3] == ["rank", "aggregate", "naswot"]
    assert len(rows) == 2  # no cell is folded
    assert [row[1] for row in rows] == ["1", "2"]
    missing = [name for name in ALL if name not in names]
    assert names[2:] + missing == list(ALL)
    assert (not missing) == (columns == 400)
    if missing:
        assert f"left out for want of width: {', '.join(missing)}; --csv and --json have all" in err
    assert "\n   1  cell/0->1=" in architectures
    assert "\n   2  cell/0->1=" in architectures


def test_regressions_and_tables_of_rows_are_scored_and_missing_scores_told(run: Run) -> None:
    given = ("--space", "mlp", "--set", "space.activations=['tanh']", "--data", "diabetes", "--count", "3")
    code, out, err = run(*given, "--proxies", "naswot,grad_norm", "--json")
    assert code == 0
    for record in json.loads(out)["architectures"]:
        assert record["scores"]["naswot"] is None
        assert math.isfinite(record["scores"]["grad_norm"])
        assert "no rectifier" in record["failures"]["naswot"]
    code, out, err = run(*given, "--proxies", "naswot,grad_norm")
    assert code == 0
    assert "3 scores are missing and rank last; the first: naswot: the network has no rectifier" in err


def test_a_table_without_any_score_is_an_error(run: Run) -> None:
    given = ("--space", "nas_bench_201", "--data", "iris", "--count", "2")
    for form in ((), ("--json",), ("--csv",)):
        code, out, err = run(*given, *form)
        assert code == 2
        assert not out
        assert "no proxy has a score for any of 2 architectures: " in err
    own = ("--proxies", "tests.nas.strategies.look_ups:unknown", "--allow", "tests")
    code, _, err = run(*CELLS, "--count", "1", *own)
    assert code == 2
    assert "any of 1 architectures: unknown: the score is nan" in err


def test_scores_of_minus_infinity_are_text_in_json(run: Run) -> None:
    code, out, _ = run(*CELLS, "--count", "12", "--examples", "4", "--proxies", "synflow", "--json")
    scores = [record["scores"]["synflow"] for record in json.loads(out, parse_constant=None)["architectures"]]
    assert code == 0
    assert all(value == "-inf" or math.isfinite(value) for value in scores)


FEW = ("layers=2", "widths=[4]", "activations=['relu']", "normalizations=['none']", "dropout=0", "skips=false")


def test_a_space_with_fewer_networks_gives_them_all(run: Run) -> None:
    code, out, _ = run(
        *("--space", "nas_bench_201", "--set", "space.channels=1", "--set", "space.cells=1", "--set", "space.stages=1"),
        *("--data", "digits", "--count", "3", "--proxies", "parameters", "--json"),
    )
    assert code == 0
    assert len(json.loads(out)["architectures"]) == 3
    few = load_space("mlp", layers=2, widths=[4], activations=["relu"], normalizations=["none"], dropout=0, skips=False)
    code, _, err = run("--space", "mlp", *(f"--set=space.{one}" for one in FEW), "--data", "iris", "--count", "5")
    assert code == 0
    assert "2 different networks were drawn, and 1000 draws more gave no other" in err
    assert len(list(sample_networks(few, 50, 0))) == 2  # of one layer and of two, whatever the training


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*CELLS, "--proxies", "naswt"), "did you mean 'naswot'"),
        ((*CELLS, "--proxies", "snip,snip"), "named twice"),
        ((*CELLS, "--proxies", ""), "unknown proxy ''"),
        ((*CELLS, "--proxies", "my_lab:proxy"), "--allow my_lab"),
        ((*CELLS, "--json", "--csv"), "both"),
        ((*CELLS, "--set", "strategy.population=3"), "only space.… and data.…"),
        ((*CELLS, "--set", "spce.channels=3"), "did you mean 'space'"),
        ((*CELLS, "--device", "abacus"), "must be 'cpu' or 'cuda'"),
        (("--space", "mpl", "--data", "iris"), "did you mean 'mlp'"),
        (("--space", "mlp", "--data", "irsi"), "did you mean 'iris'"),
        (("--space", "mlp"), "--data"),
        ((*CELLS, "--count", "0"), "--count"),
        ((*CELLS, "--examples", "0"), "--examples"),
        ((*CELLS, "--seed", "-1"), "--seed"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory"), MemoryError()]
)
def test_a_lack_of_memory_is_one_line_that_says_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def out_of_memory(*_: object) -> None:
        raise error

    monkeypatch.setattr("predictors.zero_cost.scorer.Scorer.scores", out_of_memory)
    code, _, err = run(*CELLS, "--count", "2", "--examples", "9")
    assert code == 2
    assert "memory ran out, with 9 examples in the batch; give fewer: --examples" in err
    assert "Traceback" not in err


def test_help_loads_no_torch() -> None:
    script = (
        "import sys\nfrom nas.cli import main\nsys.argv = ['nas', 'score', '--help']\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended\n"
        "heavy = {'torch', 'ray', 'optuna', 'sklearn', 'pandas', 'botorch', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_batch_is_what_training_sees_and_comes_from_the_seed() -> None:
    digits = load_dataset("digits")
    batch = make_batch(digits, examples=20, gaussian=False, seed=3)
    rows = digits.normalised(digits.train.inputs)
    found = [np.flatnonzero((rows == image.numpy()).all(axis=(1, 2, 3))) for image in batch.inputs]
    assert all(len(places) for places in found)
    assert [int(digits.train.targets[places[0]]) for places in found] == batch.targets.tolist()
    assert torch.equal(batch.inputs, make_batch(digits, examples=20, gaussian=False, seed=3).inputs)
    assert not torch.equal(batch.inputs, make_batch(digits, examples=20, gaussian=False, seed=4).inputs)
    assert len(make_batch(digits, examples=10**9, gaussian=False, seed=0)) == len(digits.train)


def test_gaussian_inputs_have_the_datas_shape_and_targets_of_its_kind() -> None:
    diabetes = load_dataset("diabetes")
    batch = make_batch(diabetes, examples=300, gaussian=True, seed=0)
    assert batch.inputs.shape == (len(diabetes.train) if len(diabetes.train) < 300 else 300, 10)
    assert abs(float(batch.inputs.mean())) < 0.1
    assert abs(float(batch.targets.mean())) < 0.3  # standardised
    assert batch.targets.dtype == torch.float32


def test_sampled_networks_are_distinct_by_what_they_are_built_from() -> None:
    drawn = list(sample_networks(SPACE, 200, 0))
    assert len({network_decisions(SPACE, one) for one in drawn}) == 200
    assert drawn == list(sample_networks(SPACE, 200, 0))
    assert drawn[:50] == list(sample_networks(SPACE, 50, 0))
    assert size(SPACE) > 200


def test_watchers_hear_of_each_architecture() -> None:
    heard: list[int] = []
    scorer = make_scorer(SPACE, load_dataset("digits"), proxies=("parameters", "synflow"), examples=4)
    drawn = list(sample_networks(SPACE, 3, 0))
    table = score_architectures(scorer, drawn, lambda done, scores: heard.append(done))
    assert heard == [1, 2, 3]
    assert table.values.shape == (3, 2)
    assert table.architectures == tuple(drawn)
    assert list(table.correlations) == [("parameters", "synflow")]
    empty = score_architectures(scorer, [])
    assert empty.values.shape == (0, 2)
    assert len(empty.order) == 0
