"""Study: the handle people hold. Run it, ask and tell, and read what it found. `nas.studies` creates and opens one."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nas import catalogue, findings
from nas.budget import Budget
from nas.comparison import QUICK, Compared, compare, examination
from nas.errors import NasError, NotResumable, SpecChanged
from nas.evaluation import make_pool
from nas.files import checkpoint_folder, sweep_checkpoints
from nas.history import History, no_collection
from nas.metric import Metric, as_metrics
from nas.quantities import is_finite, seconds
from nas.recommended import Recommended, recommended
from nas.settings import Part, StopRules, checked_checkpoints
from nas.spec import evaluator_document
from nas.store import FinishedTrial, NewTrial, Store, StudyRow
from nas.strategies.confirming import confirming
from nas.strategies.strategy import Strategy
from nas.trial import Proposal, Trial, TrialState
from search_spaces import SearchSpace, canonical_key
from workers.protocol import FailureKind, Keep, group_size

if TYPE_CHECKING:
    import pandas

    from nas.controller import Progress
    from nas.curves import Curve
    from workers.pool import Pool
    from workers.protocol import EvaluateFunction, Evaluator

ASKED_LEASE_SECONDS = 86_400.0
ROWS_AT_ONCE = 5000


class Study:
    """A named search in a storage. Everything it answers is read from there; several handles do no harm."""

    def __init__(
        self,
        store: Store,
        row: StudyRow,
        *,
        space: SearchSpace | None = None,
        allow: Sequence[str] = (),
        function: EvaluateFunction | Evaluator | None = None,
    ) -> None:
        self.store = store
        self._row = row
        self._space = space
        #: packages beside ours that code named by the study may be imported from
        self.allow = tuple(allow)
        self._function = function
        self._history: History | None = None

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.store.masked_url!r})"

    @property
    def name(self) -> str:
        """Its name."""
        return self._row.name

    @property
    def id(self) -> int:
        """The store's row id."""
        return self._row.id

    @property
    def uuid(self) -> str:
        """What no other study has, in any database; its files lie below it."""
        return self._row.uuid

    @property
    def seed(self) -> int:
        """The seed all randomness of the search derives from."""
        return self._row.seed

    @property
    def spec(self) -> Mapping[str, Any]:
        """The stored description of the study: plain JSON."""
        return self._row.spec

    @property
    def state(self) -> str:
        """Whether it is "active", "paused", "stopped" or "completed"."""
        return self.store.state(self.id)

    @cached_property
    def space(self) -> SearchSpace:
        """The search space: the stored one, so that who made the study and who resumes it work on the same.

        A node object that stands at several places is several nodes in a document, and predictors tell nodes apart.
        """
        stored = self.spec["space"]
        if stored["root"] is not None:
            return SearchSpace.from_document(stored)
        if self._space is None:
            raise NotResumable(
                f"study {self.name!r}: its search space lives only in the process that made it "
                f"({stored['reason']}); open it from Python with open_study(..., space=...)"
            )
        return self._space

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """What is optimised; the first one is the main one."""
        return as_metrics(self.spec["metrics"])

    @cached_property
    def strategy(self) -> Any:
        """The strategy object."""
        given = self.spec["strategy"]
        return catalogue.load("strategy", given["path"], given["settings"], allow=self.allow)

    @property
    def budget(self) -> Budget | None:
        """How far its trials are trained; None where the evaluator says so."""
        given = self.spec.get("budget")
        return None if given is None else Budget.of(given)

    @property
    def data(self) -> Part | None:
        """What its networks are trained on; None where the evaluator needs no data."""
        task = self.spec["task"]
        return Part(name=task["data"], settings=task["settings"]) if task else None

    @cached_property
    def stopper(self) -> Any:
        """The stopper object, or None."""
        given = self.spec.get("stopper")
        return None if given is None else catalogue.load("stopper", given["path"], given["settings"], allow=self.allow)

    @property
    def stop(self) -> StopRules:
        """When a search of this study is over."""
        return StopRules(**self.spec["stop"])

    @property
    def confirm(self) -> int:
        """How many finalists the last trials of a search measure again; see `nas.strategies.confirming`."""
        return int(self.spec.get("confirm") or 0)

    @property
    def checkpoints(self) -> Keep:
        """Which checkpoints of completed trials are kept; see `nas.files.sweep_checkpoints`."""
        return checked_checkpoints(self.spec.get("checkpoints") or "last")

    def _searcher(self, stop: StopRules) -> Strategy:
        """What proposes trials under these rules: the strategy, and at the end repeats of the finalists."""
        return confirming(self.strategy, self.confirm, stop, allow=self.allow)

    @property
    def history(self) -> History:
        """What is known now, as strategies see it; reads only what changed since the last time."""
        if self._history is None:
            self._history = History(self.space, self.metrics, seed=self.seed, budget=self.budget, data=self.data)
        rows = None
        with no_collection():
            while rows is None or len(rows) >= ROWS_AT_ONCE:  # in pieces: as rows they take twice the memory
                rows = self.store.changes(self.id, self._history.revision, limit=ROWS_AT_ONCE)
                self._history.update(rows)
        return self._history

    def run(
        self,
        evaluator: EvaluateFunction | Evaluator | str | Mapping[str, Any] | None = None,
        *,
        trials: int | None = None,
        workers: int = 1,
        time_limit: float | str | None = None,
        pool: str = "auto",
        gpus_per_worker: float = 0.0,
        ray_address: str | None = None,
        watch: Callable[[Progress], None] | None = None,
    ) -> str:
        """Search until a stop rule holds, and return the reason.

        Args:
            evaluator: as in `create_study`; needed here if the study has none, or one that lives in a process.
            trials: total number of trials, those of earlier runs included; the study's own rule unless given.
            workers: how many evaluate at once.
            time_limit: wall-clock of this run: seconds, or text such as "10m".
            pool: "ray" (processes that survive hangs and crashes, on one machine or a cluster), "local" (this process:
                for functions that cannot be imported elsewhere), or "auto": ray for several workers, or where a trial's
                time or memory is limited, if the evaluator can be imported; else local.
            gpus_per_worker: GPUs of each Ray worker; fractions share one.
            ray_address: a running Ray cluster to join; a private one is started unless given.
            watch: called about twice a second with the `Progress`.
        """
        from nas.controller import Controller

        function = self.bind_evaluator(evaluator)
        stop = self.stop if trials is None else replace(self.stop, trials=trials)
        searcher = self._searcher(stop)
        if stop != self.stop:  # a total that is asked for is the study's from now on: resuming needs no reminder
            self._row = self.store.update_spec(self.id, {**self.spec, "stop": stop.to_document()})
        if time_limit is not None:
            stop = replace(stop, time_limit_seconds=seconds(time_limit, "time_limit"))
        self._reopen("paused", "stopped", "completed")
        root, history = checkpoint_folder(self.store), self.history

        def sweep() -> None:
            sweep_checkpoints(root, self.uuid, history, self.checkpoints)

        controller = Controller(
            store=self.store,
            study_id=self.id,
            seed=self.seed,
            history=history,
            strategy=searcher,
            pool=self.make_pool(
                function, kind=pool, workers=workers, gpus_per_worker=gpus_per_worker, ray_address=ray_address
            ),
            stop=stop,
            group=group_size(self.spec["evaluator"] or {}),
            stopper=self.stopper,
            sweep=sweep,
            watch=watch,
        )
        try:
            return controller.run()
        finally:
            sweep()

    def make_pool(
        self, function: Any = None, *, kind: str, workers: int, gpus_per_worker: float, ray_address: str | None
    ) -> Pool:
        """Workers for this study's trials; see `run`. `function` is the evaluator if it is at hand as an object."""
        return make_pool(
            self.store,
            self._row,
            space=self.space,
            function=function,
            kind=kind,
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            ray_address=ray_address,
            allow=self.allow,
        )

    def bind_evaluator(self, evaluator: Any = None) -> Any:
        """Hold the evaluator given against the stored one; returns it as an object if there is one in hand."""
        stored = self.spec["evaluator"]
        if evaluator is None:
            if stored is None:
                raise NasError(f"study {self.name!r} has no evaluator yet; give one: study.run(evaluator=...)")
            if "function" in stored and self._function is None:
                raise NotResumable(
                    f"study {self.name!r} is evaluated by {stored['function']}, which lives only in the process that "
                    "defined it; go on from there with study.run(evaluator=...)"
                )
            return self._function
        described = evaluator_document(evaluator, has_data=bool(self.spec["task"])) or {}
        if stored is not None and described != stored:
            raise SpecChanged(
                f"study {self.name!r} is evaluated by {_evaluator_name(stored)}, got {_evaluator_name(described)}; "
                "results of two evaluators do not belong together: create another study"
            )
        if stored is None:
            self._row = self.store.update_spec(self.id, {**self.spec, "evaluator": described})
        self._function = in_hand(evaluator)
        return self._function

    def ask(self, *, lease_seconds: float = ASKED_LEASE_SECONDS) -> Trial:
        """A trial for the caller to evaluate: the next enqueued one, else a new proposal of the strategy.

        The caller holds it for `lease_seconds`; after that it waits for somebody else. Answer with `tell`.
        """
        searcher = self._searcher(self.stop)
        self._reopen("completed")
        if self.state == "paused":
            raise NasError(f"study {self.name!r} is paused; go on with study.resume() or: nas resume {self.name}")
        waiting = self.store.ask_waiting(self.id, lease_seconds=lease_seconds)
        if waiting is None:
            while True:
                history = self.history
                number = history.next_number
                proposals = searcher.propose(history, 1, np.random.default_rng([self.seed, number]))
                if not proposals:
                    why = "waits for pending trials to finish" if history.holders else "has nothing more to propose"
                    raise NasError(f"study {self.name!r}: the strategy {why}")
                waiting = self.store.ask(
                    self.id,
                    self._new_trial(proposals[0]),
                    first_number=number,
                    proposed_revision=history.revision,
                    lease_seconds=lease_seconds,
                )
                if waiting is not None:  # None: another controller used this number; look again
                    break
        return self.store.trial(self.id, waiting.number)

    def tell(
        self,
        trial: Trial,
        metrics: Mapping[str, float] | None = None,
        *,
        failed: str | None = None,
        kind: FailureKind = FailureKind.EXCEPTION,
    ) -> Trial:
        """Record the result of an asked trial: its metrics, or why it `failed`; returns the trial as it now stands.

        NaN or an infinite value makes it a failure. Telling the same result twice is harmless; `LeaseLost`
        if somebody else has taken the trial meanwhile.
        """
        if (metrics is None) == (failed is None):
            raise ValueError("tell needs either metrics or failed='the reason'")
        if metrics is not None:
            self._check_told(metrics)
            self.store.queue.finish(trial.id, trial.attempt, {name: float(value) for name, value in metrics.items()})
        else:
            self.store.queue.fail(trial.id, trial.attempt, kind, failed or "")
        return self.store.trial(self.id, trial.number)

    def _check_told(self, metrics: Mapping[str, Any]) -> None:
        """Refuse what cannot be meant; NaN and infinity can, and make the trial a failure."""
        wanted = [metric.name for metric in self.metrics]
        if set(metrics) != set(wanted):
            raise ValueError(
                f"a result needs the metrics {', '.join(wanted)}, got {', '.join(map(str, metrics)) or 'none'}"
            )
        for name, value in metrics.items():
            if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
                raise ValueError(f"metric {name!r} must be a number, got {reprlib.repr(value)}")
            if isinstance(value, int) and not is_finite(value):
                raise ValueError(f"metric {name!r} must be a number that a float can hold, got {reprlib.repr(value)}")

    def enqueue(self, architecture: Mapping[str, Any], *, budget: float | None = None, repeat: int = 0) -> Trial:
        """Put an architecture of one's own into the queue, before anything the strategy proposes."""
        self._reopen("completed")
        proposal = Proposal(architecture=self.space.validate(architecture), budget=budget, repeat=repeat)
        numbers = self.store.propose(
            self.id, [self._new_trial(proposal, priority=1)], first_number=None, proposed_revision=0
        )
        return self.store.trial(self.id, numbers[0])

    def add_trials(self, results: Iterable[tuple[Mapping[str, Any], Mapping[str, float]]]) -> list[int]:
        """Import results from elsewhere, (architecture, metrics) each, as completed trials; returns their numbers."""
        finished = [
            FinishedTrial(
                new=self._new_trial(Proposal(architecture=self.space.validate(architecture))), metrics=metrics
            )
            for architecture, metrics in results
        ]
        return self.store.add_finished(self.id, finished)

    def _reopen(self, *states: str) -> None:
        """Make a study that has ended in one of these states active again."""
        if self.state in states:
            self.store.set_study_state(self.id, "active")

    def _new_trial(self, proposal: Proposal, priority: int = 0) -> NewTrial:
        return NewTrial(proposal, canonical_key(self.space, proposal.architecture), priority=priority)

    @property
    def trials(self) -> list[Trial]:
        """All trials by number."""
        return list(self.store.all_trials(self.id))

    def trial(self, number: int) -> Trial:
        """One trial."""
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise ValueError(f"a trial is known by its number, got {reprlib.repr(number)}")
        return self.store.trial(self.id, number)

    def attributes(self, number: int) -> dict[str, Any]:
        """What is noted of a trial, by key: with its proposal ("proxies": zero-cost scores) and by its worker."""
        return self.store.attributes(self.trial(number).id)

    def curves(self) -> Mapping[tuple[int, str], Curve]:
        """(trial number, metric) -> what was reported of it on the way, by step."""
        return self.store.measured(self.id).curves()

    @property
    def best(self) -> Trial | None:
        """The feasible completed trial that measured best by the first metric, or None while there is none.

        Where trials have several budgets, only those that were trained furthest compare.
        Under noise the best measurement is partly luck: see `recommended`. Of an architecture that was measured several
        times (`confirm`), it is the mean that counts, and its first trial that is given.
        """
        number = findings.best(self.history)
        return None if number is None else self.trial(number)

    def recommended(self) -> Recommended | None:
        """The feasible trial that is believed to be best by the first metric: its posterior mean and how sure that is.

        Where finalists were confirmed (`confirm`), the one of them whose measurements have the best mean. None while
        fewer than two trials have completed, or none is feasible. `PredictorError` where nothing can be learnt.
        """
        return recommended(self.strategy, self.history, confirm=self.confirm, allow=self.allow)

    def compare_predictors(
        self,
        predictors: Sequence[str | Mapping[str, Any]] = QUICK,
        *,
        metric: str | None = None,
        folds: int = 5,
        watch: Callable[[int], None] | None = None,
    ) -> list[Compared]:
        """How well predictors, told what the strategy's is, would have foretold its trials, the best ranking first.

        Args:
            predictors: names, ``module:object`` paths, or tables of one and settings.
            metric: what is foretold; the first one unless said.
            folds: each trial is foretold by a fit to the other folds.
            watch: told how many fits are done.
        """
        task = examination(self.history, metric=metric, folds=folds)
        return compare(self.history, task, predictors, strategy=self.strategy, allow=self.allow, watch=watch)

    def pareto_front(self) -> list[Trial]:
        """Feasible completed trials that no other one beats in all metrics, by the first metric.

        Where trials have several budgets, only those that were trained furthest compare.
        """
        return self.store.some_trials(self.id, findings.front(self.history))

    def hypervolume(self, reference: Mapping[str, float]) -> float:
        """Volume dominated by the Pareto front up to a reference point, given per metric in its own units."""
        return findings.dominated_volume(self.history, reference)

    def to_dataframe(self) -> pandas.DataFrame:
        """One row per trial: number, state, attempt, seconds, metrics, then one column per decision path."""
        return findings.as_dataframe(self.trials)

    def pause(self) -> None:
        """Hand out no more trials until `resume`; running ones go on."""
        self.store.set_study_state(self.id, "paused")

    def resume(self) -> None:
        """Hand out trials again."""
        self.store.set_study_state(self.id, "active")

    def stop_search(self) -> None:
        """End the search from anywhere: its controller ends and running trials stop at their next beat."""
        self.store.set_study_state(self.id, "stopped")
        self.store.stop_all(self.id, "the study was stopped")

    def close(self) -> None:
        """Release the connection."""
        self.store.close()

    def counts(self) -> dict[str, int]:
        """Number of trials by state."""
        counted = self.store.counts(self.id)
        return {str(state): counted.get(str(state), 0) for state in TrialState}


def in_hand(evaluator: Any) -> Any:
    """The evaluator if it was given as an object, not by name."""
    return None if isinstance(evaluator, str | Mapping) else evaluator


def _evaluator_name(described: Mapping[str, Any]) -> str:
    return str(described.get("path") or described.get("function"))
