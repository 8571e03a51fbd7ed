"""The command line: what it answers, and that bad input is one clear line and exit code 2."""

import json
import math
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nas
from search_spaces import Choice, Float, SearchSpace
from workers.protocol import Measurement

Run = Callable[..., tuple[int, str, str]]
SPACE = SearchSpace({"x": Float(0.0, 1.0), "kind": Choice(["a", "b"])}, name="toy")


@pytest.fixture
def study(tmp_path: Path) -> nas.Study:
    storage = f"sqlite:///{tmp_path}/nas.db"
    made = nas.create_study("demo", space=SPACE, metrics=["error", "cost"], strategy="random_search", storage=storage)
    rng = np.random.default_rng(0)
    made.add_trials(({"x": float(x), "kind": "a"}, {"error": float(x), "cost": float(1 - x)}) for x in rng.random(20))
    made.tell(made.ask(), failed="no luck")
    return made


def test_pareto_as_json_has_trial_metrics_and_architecture(run: Run, study: nas.Study) -> None:
    code, out, _ = run("pareto", "demo", "--json")
    front = json.loads(out)
    assert code == 0
    assert [entry["trial"] for entry in front] == [trial.number for trial in study.pareto_front()]
    assert front[0]["architecture"] == dict(study.trial(front[0]["trial"]).architecture)
    assert set(front[0]["metrics"]) == {"error", "cost"}


def test_trials_as_json_and_csv_say_the_same(run: Run, study: nas.Study) -> None:
    _, out, _ = run("trials", "demo", "--json")
    records = json.loads(out)
    assert [record["trial"] for record in records] == list(range(21))
    assert records[20]["state"] == "failed"
    assert {"trial", "state", "metrics", "attempt"} <= set(records[0])
    _, text, _ = run("trials", "demo", "--csv")
    header, *lines = text.splitlines()
    assert len(lines) == 21
    assert {"trial", "state", "error", "cost", "x", "kind"} <= set(header.split(","))


def test_tables_for_people_show_every_trial(run: Run, study: nas.Study) -> None:
    for command in (["trials", "demo"], ["studies"], ["status", "demo"], ["best", "demo"], ["show", "demo", "20"]):
        code, out, err = run(*command)
        assert (code, err) == (0, "")
        assert out.strip()
    assert "no luck" in out


def test_best_tells_what_measured_best_and_what_is_believed_to_be_best(run: Run, study: nas.Study) -> None:
    code, out, _ = run("best", "demo", "--json")
    found, wanted = json.loads(out), study.recommended()
    assert code == 0
    assert study.best is not None
    assert wanted is not None
    assert (found["trial"], found["no_recommendation"]) == (study.best.number, None)
    assert found["metrics"] == dict(study.best.metrics)
    told = found["recommended"]
    assert (told["trial"], told["believed"]) == (wanted.number, {"mean": wanted.mean, "sd": wanted.sd})
    assert told["measured"] == {"mean": study.trial(wanted.number).metrics["error"], "times": 1}
    assert json.loads(run("best", "demo", "--recommended", "--json")[1]) == told


def test_best_says_why_nothing_is_recommended(run: Run, tmp_path: Path) -> None:
    one = nas.create_study(
        "one", space=SPACE, metrics=["error"], strategy="random_search", storage=f"sqlite:///{tmp_path}/nas.db"
    )
    code, _, err = run("best", "one")
    assert code == 2
    assert "no feasible completed trial" in err
    one.tell(one.ask(), {"error": 1e150})
    code, _, err = run("best", "one", "--recommended")
    assert code == 2
    assert "needs two completed trials" in err
    code, out, _ = run("best", "one", "--json")
    assert code == 0
    assert json.loads(out)["recommended"] is None
    assert "needs two completed trials" in json.loads(out)["no_recommendation"]
    one.tell(one.ask(), {"error": -1e150})  # no variance that a float can hold
    code, out, _ = run("best", "one")
    assert code == 0
    assert "logarithms" in " ".join(out.split())


def test_states_filter_and_unknown_ones_are_refused(run: Run, study: nas.Study) -> None:
    _, out, _ = run("trials", "demo", "--state", "failed", "--json")
    assert [record["trial"] for record in json.loads(out)] == [20]
    code, _, err = run("trials", "demo", "--state", "done")
    assert code == 2
    assert "completed" in err


def test_pause_stop_and_delete_change_what_status_says(run: Run, study: nas.Study) -> None:
    for command, state in ((["pause", "demo"], "paused"), (["stop", "demo"], "stopped")):
        assert run(*command)[0] == 0
        assert json.loads(run("status", "demo", "--json")[1])["state"] == state
    assert run("delete", "demo", "--yes")[0] == 0
    assert run("status", "demo")[0] == 2


def test_a_dry_run_says_how_large_the_space_is_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(
        "search", "--name", "demo", "--space", "nas_bench_201", "--data", "digits", "--metric", "error", "--dry-run"
    )
    assert code == 0
    assert "15,625" in out
    assert list(tmp_path.iterdir()) == []


SEARCH = ("search", "--name", "new", "--space", "mlp", "--data", "iris", "--metric", "error", "--trials", "1")


def changed(option: str, value: str) -> tuple[str, ...]:
    at = SEARCH.index(option)
    return (*SEARCH[: at + 1], value, *SEARCH[at + 2 :])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "none.toml"), "does not exist"),
        (("search", "broken.toml"), "not valid TOML"),
        (("search", "typo.toml"), "did you mean 'strategy'"),
        (("search",), "--name"),
        ((*SEARCH, "--strategy", "local_serch"), "did you mean 'local_search'"),
        ((*SEARCH, "--strategy", "nsga2", "--set", "strategy.populaton=3"), "did you mean 'population'"),
        (changed("--space", "mpl"), "did you mean 'mlp'"),
        (changed("--data", "irsi"), "did you mean 'iris'"),
        (changed("--metric", "eror"), "did you mean 'error'"),
        (changed("--metric", "rmse"), "classification"),
        (changed("--data", "nan.csv"), "nan.csv"),
        (changed("--data", "oneclass.csv"), "class"),
        (changed("--name", "demo"), "exists"),
        (changed("--name", ""), "name"),
        ((*SEARCH, "--storage", "sqlite:///no/such/folder/x.db"), "is not a folder"),
        ((*SEARCH, "--storage", "mysql://u:secret@h/d"), "sqlite:///"),
        ((*SEARCH, "--storage", "sqlite:///text.db"), "text.db"),
        (changed("--space", "my_spaces:empty"), "my_spaces"),
        ((*changed("--space", "my_spaces:empty"), "--allow", "my_spaces"), "empty"),
        ((*changed("--space", "my_spaces:unbuildable"), "--allow", "my_spaces"), "negative"),
        ((*changed("--space", "my_spaces:spac"), "--allow", "my_spaces"), "spac"),
        ((*changed("--space", "my_broken:space"), "--allow", "my_broken"), "ZeroDivisionError"),
        ((*changed("--space", "my_missing:space"), "--allow", "my_missing"), "my_missing"),
        ((*SEARCH, "--time-limit", "soon"), "10m"),
        ((*SEARCH, "--confirm", "3"), "12 trials are needed, got 1"),
        ((*SEARCH[:-2], "--confirm", "3"), "how many there are in all"),
        ((*SEARCH, "--set", "confirm=3"), "part.key=value"),
        ((*SEARCH, "--strategy", "bayesian", "--set", "strategy.acquisition=qlognehvi"), "judges several metrics"),
        ((*SEARCH, "--trial-memory-limit", "lots"), "2GiB"),
        ((*SEARCH, "--target", "eror=1"), "error"),
        (("resume", "dmeo"), "demo"),
        (("pareto", "dmeo"), "demo"),
        (("show", "demo", "77"), "77"),
        (("best", "demo", "--storage", "sqlite:///other.db"), "does not exist"),
        (("pareto", "demo", "--json", "--csv"), "both"),
        (("export", "demo", "0", "--to", "folder"), "network"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    run: Run, study: nas.Study, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "broken.toml").write_text("name = ")
    (tmp_path / "typo.toml").write_text("name='n'\nspace='mlp'\ndata='iris'\nmetrics=['error']\nstrateggy='grid'\n")
    (tmp_path / "nan.csv").write_text("a,target\n1,2\n2,\n" * 10)
    (tmp_path / "oneclass.csv").write_text("a,target\n" + "1,x\n2,x\n" * 10)
    (tmp_path / "text.db").write_text("this is no database, whatever its name says" * 100)
    (tmp_path / "my_broken.py").write_text("1 / 0\n")
    (tmp_path / "my_spaces.py").write_text(
        "import torch\nfrom search_spaces import Choice, Op, SearchSpace\n"
        "def empty():\n    return SearchSpace({}, name='empty')\n"
        "class Layer(torch.nn.Module):\n"
        "    def __init__(self, width):\n        raise RuntimeError(f'negative width {width}')\n"
        "unbuildable = SearchSpace([Op(Layer, width=Choice([-1, -2]))], name='unbuildable')\n"
    )
    code, out, err = run(*arguments)
    sys.modules.pop("my_spaces", None)
    assert code == 2
    assert said in err + out
    assert "Traceback" not in err
    assert "secret" not in err
    assert sum(line.startswith("nas: ") for line in err.splitlines()) == 1
    assert len(study.trials) == 21


def test_resuming_needs_permission_for_code_and_the_code(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my_judge.py").write_text("def evaluate(assignment, report):\n    return {'error': 0.5, 'cost': 1.0}\n")
    made = nas.create_study(
        "judged",
        space=SPACE,
        metrics=["error", "cost"],
        evaluator="my_judge:evaluate",
        storage=f"sqlite:///{tmp_path}/nas.db",
    )
    made.close()
    code, _, err = run("resume", "judged", "--trials", "1")
    assert code == 2
    assert "--allow my_judge" in err
    (tmp_path / "my_judge.py").unlink()
    code, _, err = run("resume", "judged", "--trials", "1", "--allow", "my_judge")
    assert code == 2
    assert "my_judge" in err
    assert "no module" in err


def test_a_search_with_a_table_of_unknown_place_says_how_to_name_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_BENCHMARK_DATA", raising=False)
    code, _, err = run(
        "search",
        "--name",
        "t",
        "--space",
        "nas_bench_201",
        "--evaluator",
        "table",
        "--metric",
        "error",
        "--trials",
        "1",
    )
    assert code == 2
    assert "NAS_BENCHMARK_DATA" in err


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["pareto", "demo"], ["predictors", "list"]])
def test_what_only_looks_loads_no_heavy_library(study: nas.Study, tmp_path: Path, arguments: list[str]) -> None:
    script = (
        "import sys\nfrom nas.cli import main\nsys.argv = ['nas', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended\n"
        "heavy = {'torch', 'ray', 'optuna', 'sklearn', 'pandas', 'botorch', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_status_names_the_workers_and_show_what_was_measured(run: Run, study: nas.Study) -> None:
    queue = study.store.queue
    queue.register("w-1", host=socket.gethostname(), boot="b", pid=7, started=1.0, device="cuda:0")
    study.enqueue({"x": 0.5, "kind": "b"})
    [claimed] = queue.claim("w-1", 1, claim_key="once")
    values = [1.0, 0.5, math.nan, 0.25, 0.2, 0.125, 0.1, 0.05]
    reported = [Measurement(metric="error", step=step, value=value) for step, value in enumerate(values)]
    queue.report(claimed.trial_id, claimed.attempt, reported)
    code, out, err = run("status", "demo", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)["workers"]
    assert [(worker["worker"], worker["pid"], worker["device"], worker["holds"]) for worker in facts[-1:]] == [
        ("w-1", 7, "cuda:0", 1)
    ]
    _, out, _ = run("show", "demo", str(claimed.number), "--json")
    assert json.loads(out)["measurements"] == [
        {
            "attempt": 1,
            "metric": "error",
            "steps": list(range(8)),
            "values": ["nan" if v != v else v for v in values],
        }
    ]
    _, out, _ = run("show", "demo", str(claimed.number))
    assert "[1 0.5 … 0.125 0.1 0.05]" in " ".join(out.split())
