"""Bayesian search, on a small Gaussian process in closed form; what all strategies promise is in tests/contracts."""

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nas
from nas import catalogue
from nas.candidates.ground import Candidate, Ground
from nas.candidates.shortlist import Shortlist
from nas.cli import main
from nas.history import History
from nas.metric import Metric
from nas.pareto import hypervolume
from nas.recommended import recommended
from nas.settings import Part, StudySettings, override, settings_from
from nas.strategies.bayesian import PARTS, Bayesian
from nas.strategies.beliefs import Beliefs, Expectation
from nas.strategies.next_candidate import Search
from nas.strategies.presets import Auto
from nas.strategies.random_search import RandomSearch
from nas.strategies.untried import Untried
from search_spaces.architecture import Architecture
from search_spaces.moves import sample
from search_spaces.nodes import Choice, Float, Integer
from search_spaces.space import SearchSpace
from tests.nas.strategies.simulated import CONDITIONAL, FLAT, Simulated, loss, search
from tests.nas.strategies.small_process import SmallProcess, Unconditioned

PROCESS = "tests.nas.strategies.small_process:SmallProcess"
UNCONDITIONED = "tests.nas.strategies.small_process:Unconditioned"
DIGITS = SearchSpace({str(index): Choice(["a", "b", "c", "d"]) for index in range(4)}, name="digits")
MIXED = SearchSpace(
    {"rate": Float(1e-4, 1.0, log=True), "width": Integer(4, 64, log=True), "kind": Choice(["x", "y"])}, name="mixed"
)


def bayesian(**settings: Any) -> Bayesian:
    return Bayesian(**{"predictor": PROCESS, "candidates": {"count": 60}, **settings}).allowing(("tests",))


def bowl(architecture: Architecture) -> dict[str, float]:
    """Smallest, 0, at rate 0.01, width 16 and kind y; `size` wants a small width."""
    rate, width = np.log10(float(architecture["rate"])) + 2, np.log2(float(architecture["width"])) - 4
    return {
        "error": rate**2 + width**2 + (architecture["kind"] == "x"),
        "size": float(architecture["width"]),
        "seconds": 1.0,
    }


def run(strategy: Any, space: SearchSpace, value: Any, trials: int, seed: int = 0, metrics: Any = ("error",)) -> Any:
    """A serial search; `value` gives a trial's metrics, or None where it fails."""
    metrics = [Metric(m) if isinstance(m, str) else m for m in metrics]
    study = Simulated(space, metrics, seed)
    history = study.history()
    for _ in range(trials):
        for number in study.add(strategy.propose(study.refresh(history), 1, study.rng()), history.revision):
            found = value(study.architecture(number))
            if found is None:
                study.finish(number, "failed")
            else:
                study.finish(number, metrics={metric.name: found[metric.name] for metric in metrics})
    study.refresh(history)
    return history


def best(history: History) -> float:
    return float(np.nanmin(history.finished.losses[:, 0]))


@pytest.mark.parametrize("acquisition", [name for name in catalogue.names("acquisition") if not name.startswith("q")])
def test_every_acquisition_finds_what_random_search_does_not(acquisition):
    ours = [best(run(bayesian(acquisition=acquisition), MIXED, bowl, 25, seed)) for seed in range(2)]
    random = [best(run(RandomSearch(), MIXED, bowl, 75, seed)) for seed in range(2)]
    assert np.mean(ours) < np.mean(random)


@pytest.mark.slow
@pytest.mark.parametrize("candidates", ["mutation_pool", "climb", "evolved", "enumeration"])
def test_every_way_to_look_for_candidates_serves(candidates):
    wanted = sample(DIGITS, np.random.default_rng(9))

    def apart(architecture: Architecture) -> dict[str, float]:
        return {"error": float(sum(architecture[path] != wanted[path] for path in wanted))}

    strategy = bayesian(candidates={"name": candidates})
    assert best(run(strategy, DIGITS, apart, 40)) == 0.0


def test_the_first_trials_are_a_latin_hypercube_whatever_they_give():
    study, other = Simulated(DIGITS, seed=3), Simulated(DIGITS, seed=3)
    strategy = bayesian(initial=8)
    one_by_one = search(study, strategy, 8)
    proposals = strategy.propose(other.history(), 8, other.rng())
    assert [proposal.architecture for proposal in proposals] == one_by_one
    for path in DIGITS.by_path:
        assert sorted(str(architecture[path]) for architecture in one_by_one) == [*"aabbccdd"]
    assert search(Simulated(DIGITS, seed=4), strategy, 8) != one_by_one


def test_nothing_is_fitted_while_fewer_than_two_have_completed():
    class Unfit(SmallProcess):
        def fit(self, architectures, losses):
            raise AssertionError

    study = Simulated(DIGITS)
    strategy, history = bayesian(initial=1), study.history()
    study.add(strategy.propose(history, 4, study.rng()))
    study.finish(0)
    study.refresh(history)
    history.cache[(*strategy._key, "parts", False)] = replace(strategy._parts(DIGITS, 1), predictor=Unfit(DIGITS))
    assert len(strategy.propose(history, 3, study.rng())) == 3
    study.finish(1)
    with pytest.raises(AssertionError):
        strategy.propose(study.refresh(history), 1, study.rng())


def test_a_proposal_names_the_trial_it_was_derived_from():
    history = run(
        bayesian(candidates={"random": 0.0, "two": 0.0}), DIGITS, lambda a: {"error": 1.0 * (a["0"] == "a")}, 20
    )
    for number in range(10, 20):
        (parent,) = history.trial(number).lineage
        child, parents = history.trial(number).architecture, history.trial(parent).architecture
        assert sum(child[path] != parents[path] for path in child) == 1


@pytest.mark.parametrize("predictor", [PROCESS, UNCONDITIONED])
@pytest.mark.parametrize(("pending", "fantasies"), [("believe", 1), ("draw", 1), ("draw", 4)])
def test_a_batch_spreads_where_pending_trials_are_taken_in(predictor, pending, fantasies):
    def spread(how: str, fantasies: int = 1) -> float:
        study = Simulated(MIXED, seed=1)
        search(study, RandomSearch(), 15)
        strategy = bayesian(predictor=predictor, pending=how, fantasies=fantasies, candidates={"count": 400})
        batch = strategy.propose(study.history(), 6, study.rng())
        points = np.array(
            [[np.log10(float(p.architecture["rate"])), np.log2(float(p.architecture["width"]))] for p in batch]
        )
        return float(np.linalg.norm(points[:, None] - points[None], axis=2).mean())

    assert spread(pending, fantasies) > 1.2 * spread("ignore")


def test_conditioning_and_fitting_again_believe_the_same_of_what_is_pending():
    study = Simulated(DIGITS, seed=2)
    search(study, RandomSearch(), 12)
    history, chance = study.history(), np.random.default_rng(0)
    some, others = ([sample(DIGITS, chance) for _ in range(5)] for _ in range(2))
    found = []
    for predictor in (SmallProcess(DIGITS), Unconditioned(DIGITS)):
        beliefs = Beliefs.after(history, predictor, most=100, warp="none", per_second=False)
        assert beliefs is not None
        expectation = Expectation.of(beliefs).taking_in(some, "believe", chance)
        np.testing.assert_allclose(
            expectation.expected[:, 0], beliefs.posteriors[0].predict(some).mean, rtol=1e-9, err_msg="believed"
        )
        found.append(expectation.posteriors[0].predict(some))
        before, after = beliefs.posteriors[0].predict(others), expectation.posteriors[0].predict(others)
        assert (after.variance < before.variance).any()
    # the level and spread that are fitted again differ; at the pending ones both stand by what was believed
    np.testing.assert_allclose(found[0].mean, found[1].mean, atol=0.02)
    assert (found[0].variance < 1e-3).all()


def test_under_noise_the_best_is_believed_not_measured():
    study = Simulated(FLAT, seed=0)
    chance = np.random.default_rng(0)
    for _ in range(40):
        study.finish(study.enqueue(sample(FLAT, chance)), metrics={"error": float(chance.normal())})
    strategy = bayesian(predictor={"name": PROCESS, "noise": 1.0}, warp="none")
    history = study.history()
    search = Search.begin(strategy._parts(FLAT, 1), history, key="k", most=100, warp="none", pending="believe")
    assert search is not None
    outlook, parents = search._expectations[0].outlook(history)
    assert outlook.best > best(history) + 0.5
    means = outlook.posteriors[0].predict([parent.architecture for parent in parents]).mean
    assert (np.diff(means) >= 0).all()


def test_the_recommendation_is_the_best_belief_of_a_feasible_trial():
    study = Simulated(DIGITS, (Metric("error"), Metric("size", limit=1.0)))
    chance = np.random.default_rng(0)
    known: dict[int, tuple[Architecture, bool]] = {}
    while len(known) < 30:
        architecture = sample(DIGITS, chance)
        number = study.enqueue(architecture)
        error = float(sum(value == "a" for value in architecture.values()) + chance.normal())
        known[number] = architecture, architecture["0"] != "b"
        study.finish(number, metrics={"error": error, "size": 0.0 if known[number][1] else 2.0})
    strategy, history = bayesian(predictor={"name": PROCESS, "noise": 1.0}, warp="none"), study.history()
    found = recommended(strategy, history)
    assert found is not None
    posterior = SmallProcess(DIGITS, noise=1.0).fit([a for a, _ in known.values()], history.finished.losses[:, 0])
    feasible = {number: a for number, (a, is_feasible) in known.items() if is_feasible}
    belief = posterior.predict([*feasible.values()])
    best = int(belief.mean.argmin())
    assert history.trial(found.number).architecture == [*feasible.values()][best]
    assert (found.mean, found.sd) == pytest.approx((belief.mean[best], np.sqrt(belief.variance[best])))
    assert recommended(strategy, Simulated(DIGITS).history()) is None


def test_what_fails_is_learnt_and_kept_away_from():
    def outcome(architecture: Architecture) -> dict[str, float] | None:
        return None if architecture["kind"] == "x" or float(architecture["width"]) > 32 else bowl(architecture)

    failed = run(bayesian(initial=12), MIXED, outcome, 36).finished.states == "failed"
    assert failed[:12].mean() >= 0.5
    assert failed[12:].mean() < 0.2


@pytest.mark.slow
def test_limits_are_kept_and_the_best_that_keeps_them_is_found():
    limited = ("error", Metric("size", limit=8.0))

    def volume(strategy: Any, trials: int, seed: int) -> float:
        finished = run(strategy, MIXED, bowl, trials, seed, limited).finished
        assert finished.is_feasible[10:].mean() > 0.5 or strategy == RandomSearch()
        return hypervolume(finished.losses[finished.is_feasible], [4.0, 8.0])

    ours = [volume(bayesian(), 22, seed) for seed in range(2)]
    random = [volume(RandomSearch(), 44, seed) for seed in range(2)]
    assert np.mean(ours) > np.mean(random)


@pytest.mark.slow
@pytest.mark.parametrize("acquisition", ["qlognehvi", "qlognparego"])
def test_several_metrics_are_traded_off_better_than_at_random(acquisition):
    def volume(strategy: Any, trials: int, seed: int) -> float:
        history = run(strategy, MIXED, bowl, trials, seed, ("error", "size"))
        return hypervolume(history.finished.losses, [4.0, 64.0])

    ours = [volume(bayesian(acquisition=acquisition), 25, seed) for seed in range(2)]
    random = [volume(RandomSearch(), 25, seed) for seed in range(2)]
    assert np.mean(ours) > np.mean(random)


@pytest.mark.parametrize("acquisition", ["qlognehvi", "qlognparego"])
def test_a_limit_that_nothing_keeps_yet_is_looked_for(acquisition):
    def tilted(architecture: Architecture) -> dict[str, float]:
        places = [float(architecture[name]) for name in "abcd"]
        return {"error": sum(places), "size": -sum(places)}

    space = SearchSpace({name: Float(0.0, 1.0) for name in "abcd"}, name="tilted")
    metrics = ("error", Metric("size", limit=-3.4))
    for seed in range(2):
        strategy = bayesian(acquisition=acquisition, predictor="gaussian_process", initial=8)
        history = run(strategy, space, tilted, 8, seed, metrics)
        assert not history.finished.is_feasible.any()
        assert run(strategy, space, tilted, 18, seed, metrics).finished.is_feasible.any()


def test_candidates_are_scored_by_the_thousand_as_they_are_alone(monkeypatch):
    study = Simulated(FLAT, [Metric("error"), Metric("size")], 0)
    history = study.history()
    settings = {"predictor": "gaussian_process", "candidates": "enumeration", "initial": 6}
    for number in study.add(bayesian(**settings).propose(history, 6, study.rng()), history.revision):
        study.finish(number, metrics={"error": loss(study.architecture(number)), "size": float(number)})
    study.refresh(history)
    proposed = []
    for together in (1000, 7):
        monkeypatch.setattr("nas.strategies.next_candidate.TOGETHER", together)
        proposed.append(bayesian(**settings).propose(history, 1, np.random.default_rng(0)))
    assert proposed[0] == proposed[1]


def test_three_metrics_and_four_are_searched_too():
    def three(architecture: Architecture) -> dict[str, float]:
        return {**bowl(architecture), "rate": float(architecture["rate"]), "more": -float(architecture["rate"])}

    for metrics in (("error", "size", "rate"), ("error", "size", "rate", "more")):
        history = run(bayesian(initial=5), MIXED, three, 8, metrics=metrics)
        assert len(history.finished.completed) == 8


def test_an_improvement_is_divided_by_the_seconds_it_takes():
    def rows(seconds_of: Any) -> History:
        study = Simulated(MIXED, seed=0)
        chance = np.random.default_rng(0)
        for number in range(25):
            architecture = sample(MIXED, chance)
            error = (np.log10(float(architecture["rate"])) + 2) ** 2  # the width does not matter
            study.finish(study.enqueue(architecture), metrics={"error": float(error)})
            study.rows[number].started, study.rows[number].ended = 0, int(1e6 * seconds_of(architecture))
        return study.history()

    slow_large = rows(lambda a: float(a["width"]) ** 6)
    chosen: dict[bool, list[float]] = {False: [], True: []}
    for quick, widths in chosen.items():
        for seed in range(8):
            (proposal,) = bayesian(per_second=quick).propose(slow_large, 1, np.random.default_rng(seed))
            widths.append(float(proposal.architecture["width"]))
    assert np.mean(chosen[True]) < 0.5 * np.mean(chosen[False])


def test_a_posterior_is_fitted_once_for_each_number_of_finished_trials(monkeypatch):
    fitted = []
    fit = SmallProcess.fit
    monkeypatch.setattr(SmallProcess, "fit", lambda self, a, losses: fitted.append(len(losses)) or fit(self, a, losses))
    study, strategy = Simulated(DIGITS), bayesian(initial=4)
    search(study, strategy, 6)
    history = study.history()
    fitted.clear()
    strategy.propose(history, 5, study.rng())
    strategy.propose(history, 1, study.rng())
    assert fitted == [6]
    study.enqueue(sample(DIGITS, np.random.default_rng(0)))
    strategy.propose(study.refresh(history), 1, study.rng())
    assert fitted == [6]
    study.finish(6)
    strategy.propose(study.refresh(history), 1, study.rng())
    assert fitted == [6, 7]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"predictor": "gausian_process"}, "unknown predictor 'gausian_process'; did you mean 'gaussian_process'"),
        ({"predictor": 3}, "predictor must be a name, or a table with a name and settings, got 3"),
        ({"acquisition": {"name": "ucb"}}, "unknown acquisition 'ucb'; .*known are log_expected_improvement"),
        ({"candidates": "qqq"}, "unknown candidates 'qqq'; known are mutation_pool"),
        ({"initial": 0}, "initial must be a whole number of at least 1, got 0"),
        ({"most": 1}, "most must be a whole number of at least 2, got 1"),
        ({"design": "sobol"}, "design must be one of random, latin_hypercube, got 'sobol'"),
        ({"pending": True}, "pending must be one of believe, draw, ignore, got True"),
        ({"warp": None}, "warp must be one of half_ranks, none, got None"),
        ({"per_second": 1}, "per_second must be true or false, got 1"),
        ({"predicter": "hmc"}, "has no setting 'predicter'; did you mean 'predictor'"),
        ({"_allow": ["os"]}, "has no setting '_allow'"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_when_the_strategy_is_made(settings, said):
    with pytest.raises(ValueError, match=said):
        catalogue.load("strategy", "bayesian", settings)


@pytest.mark.parametrize(
    ("settings", "metrics", "said"),
    [
        ({"acquisition": "thompson"}, 2, "'thompson' judges a single metric, the study has 2; use qlognehvi"),
        ({"acquisition": "qlognehvi"}, 1, "'qlognehvi' judges several metrics, the study has 1"),
        ({"acquisition": "thompson", "candidates": "climb"}, 1, "draws anew at each call, candidates 'climb'"),
        ({"acquisition": "thompson", "per_second": True}, 1, "acquisition 'thompson' gives none"),
        ({"acquisition": {"name": "thompson", "draws": 3}}, 1, "'thompson' has no setting 'draws'; it has none"),
        ({"candidates": {"parent": 3}}, 1, "'mutation_pool' has no setting 'parent'; did you mean 'parents'"),
        ({"candidates": {"two": 3}}, 1, "candidates 'mutation_pool': two must be a number from 0 to 1, got 3"),
        ({"predictor": {"name": PROCESS, "widht": 3}}, 1, "has no setting 'widht'; did you mean 'width'"),
        ({"predictor": {"name": PROCESS, "space": 3}}, 1, "has no setting 'space'; it has width, noise"),
        (
            {"predictor": "tests.nas.strategies.simulated:Simulated"},
            1,
            "is no predictor: Simulated has no method 'fit'",
        ),
        ({"acquisition": "nas.candidates.climb:Climb"}, 1, "nothing that may be named here"),
        ({"predictor": "nas.studies:delete_study"}, 1, "nothing that may be named here"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_before_a_search_begins(settings, metrics, said):
    with pytest.raises(ValueError, match=said):
        bayesian(**settings).check(MIXED, [Metric(f"m{index}") for index in range(metrics)])


def test_code_of_one_s_own_is_a_part_only_where_it_is_allowed():
    made = catalogue.load("strategy", "bayesian", {"predictor": PROCESS}, allow=["tests"])
    made.check(MIXED, [Metric("error")])
    with pytest.raises(ValueError, match="--allow tests"):
        catalogue.load("strategy", "bayesian", {"predictor": PROCESS}).check(MIXED, [Metric("error")])


def test_settings_of_the_parts_come_from_the_command_line():
    document: dict[str, Any] = {
        "name": "x",
        "space": "s",
        "metrics": ["error"],
        "evaluator": "e",
        "strategy": "bayesian",
    }
    for text in ("predictor=" + PROCESS, "predictor.width=2.5", "candidates.count=7", "acquisition.margin=0.5"):
        override(document, f"strategy.{text}")
    override(document, "strategy.acquisition.name=probability_of_improvement")
    found: StudySettings = settings_from(document)
    made = catalogue.load("strategy", found.strategy.name, found.strategy.settings, allow=["tests"])
    parts = made._parts(MIXED, 1)
    assert (parts.predictor, parts.candidates.count, parts.acquisition.margin) == (SmallProcess(MIXED, 2.5), 7, 0.5)
    described = catalogue.describe("strategy", made)
    assert catalogue.load("strategy", described.name, json.loads(json.dumps(described.settings))) == made


@pytest.mark.slow
def test_a_study_searches_with_it_and_goes_on_from_its_rows(tmp_path):
    settings = {"name": "bayesian", "predictor": "gaussian_process", "initial": 5, "candidates": {"count": 40}}
    found = []
    for name, stages in (("at once", [12]), ("in two", [8, 12])):
        for trials in stages:
            make = nas.create_study if trials == stages[0] else nas.open_study
            facts = {"space": FLAT, "metrics": ["error"], "strategy": settings} if make is nas.create_study else {}
            study = make(name, storage=f"sqlite:///{tmp_path}/nas.db", **facts)
            study.run(evaluator=lambda assignment, report: {"error": loss(assignment.architecture)}, trials=trials)
            architectures = [trial.architecture for trial in study.trials]
            study.close()
        found.append(architectures)
    assert found[0] == found[1]
    assert len(set(found[0])) == 12


def test_what_does_not_fit_is_said_before_a_search_begins(tmp_path, capsys, monkeypatch):
    line = "search --name x --space nas_bench_201 --data digits --metric error --dry-run --strategy bayesian"
    line += " --set strategy.predictor.dept=3"
    monkeypatch.setattr(sys, "argv", ["nas", *line.split(), f"--storage=sqlite:///{tmp_path}/nas.db"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "predictor 'gaussian_process' has no setting 'dept'; did you mean 'depth'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "predictor", "acquisition", "candidates", "design"),
    [
        ("bananas", "path_ensemble", "independent_thompson", "mutation_pool", "random"),
        ("nas_bowl", "gaussian_process", "log_expected_improvement", "mutation_pool", "random"),
        ("boshnas", "deep_ensemble", "upper_confidence_bound", "climb", "random"),
        ("weak_nas", "gradient_boosting", "upper_confidence_bound", "shortlist", "random"),
        ("auto", "stacked", "log_expected_improvement", "mutation_pool", "latin_hypercube"),
    ],
)
def test_presets_are_the_strategy_with_the_papers_settings(name, predictor, acquisition, candidates, design):
    made = catalogue.load("strategy", name, {})
    assert isinstance(made, Bayesian)
    made.check(MIXED, [Metric("error")])
    assert [made.part(kind).name for kind in PARTS] == [predictor, acquisition, candidates]
    assert made.design == design
    assert [made.part("acquisition", metrics).name for metrics in (2, 3, 4)] == [
        "qlognehvi",
        "qlognehvi",
        "qlognparego",
    ]
    # settings without a name are of the preset's own part
    altered = catalogue.load("strategy", name, {"predictor": {"seed": 3}, "candidates": {"count": 9}})
    assert altered.part("predictor") == Part(name=predictor, settings={"seed": 3})
    assert altered.part("candidates").name == candidates


def test_weak_nas_takes_its_predictor_by_its_word():
    assert catalogue.load("strategy", "weak_nas", {}).part("acquisition").settings == {"width": 0.0}


def test_a_search_is_auto_unless_told_otherwise(tmp_path):
    document = {"name": "x", "space": "mlp", "metrics": ["error"], "evaluator": "e"}
    assert settings_from(document).strategy.name == "auto"
    study = nas.create_study("x", space=MIXED, metrics=["error"], storage=f"sqlite:///{tmp_path}/nas.db")
    assert study.strategy == Auto()
    study.close()


@pytest.mark.slow
@pytest.mark.parametrize("metrics", [("error",), ("error", "size")])
def test_auto_finds_what_random_search_does_not(metrics):
    def reached(strategy, trials, seed):
        losses = run(strategy, MIXED, bowl, trials, seed, metrics).finished.losses
        return hypervolume(losses, [4.0, 64.0]) if len(metrics) > 1 else -float(losses.min())

    ours = [reached(Auto(candidates={"count": 60}), 20, seed) for seed in range(2)]
    assert np.mean(ours) > np.mean([reached(RandomSearch(), 40, seed) for seed in range(2)])


def test_a_shortlist_is_the_best_scored_share_and_any_of_it_is_taken():
    history = Simulated(DIGITS).history()
    parents = [Candidate(sample(DIGITS, np.random.default_rng(0)), (3,))]
    ground = Ground(space=DIGITS, untried=Untried(history), parents=parents)
    seen: list[np.ndarray] = []

    def score(architectures):
        seen.append(np.array([-loss(architecture) for architecture in architectures]))
        return seen[-1]

    taken = set()
    for seed in range(30):
        found = Shortlist(count=40, share=0.1).best(ground, score, np.random.default_rng(seed))
        assert found is not None
        rank = int((seen[-1] > -loss(found.architecture)).sum())
        assert rank < max(1, round(0.1 * len(seen[-1])))
        taken.add(rank)
        assert found.lineage in ((), (3,))
    assert len(taken) >= 3
    only = Shortlist(share=0.0).best(ground, score, np.random.default_rng(0))
    assert only is not None
    assert -loss(only.architecture) == seen[-1].max()


def test_the_best_of_the_failures_of_a_conditional_space_is_still_a_search():
    history = run(bayesian(initial=4), CONDITIONAL, lambda a: None if a["kind"] == "large" else {"error": 1.0}, 24)
    assert len(history.finished) == 24


def test_nothing_heavy_is_imported_before_there_is_a_model():
    code = (
        "import sys, numpy as np; from nas import catalogue; from nas.history import History;"
        "from nas.metric import Metric; from search_spaces import SearchSpace, Float;"
        "made = catalogue.load('strategy', 'auto', {});"
        "made.propose(History(SearchSpace({'x': Float(0, 1)}), [Metric('error')]), 5, np.random.default_rng(0));"
        "print([name for name in ('torch', 'scipy', 'botorch', 'ray', 'optuna', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_candidates_that_are_not_for_a_space_are_refused_before_a_search_begins():
    enumerating = catalogue.load("strategy", "bayesian", {"candidates": {"name": "enumeration", "limit": 35}})
    with pytest.raises(ValueError, match=r"'conditional' has 36 architectures, enumeration scores at most 35"):
        enumerating.check(CONDITIONAL, [Metric("error")])
    with pytest.raises(ValueError, match="has infinitely many architectures"):
        enumerating.check(MIXED, [Metric("error")])
    catalogue.load("strategy", "bayesian", {"candidates": "enumeration"}).check(CONDITIONAL, [Metric("error")])
