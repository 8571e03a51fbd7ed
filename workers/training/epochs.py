"""EpochPlan: all that is random in an epoch beside dropout, and its learning rates, on the device before it begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.training.augmentation import drawn
from workers.training.pruning import FULL_FROM, Scores, pruned
from workers.training.schedules import learning_rate_at
from workers.training.scores import Resident
from workers.training.seeding import derived_seed
from workers.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What one step of b examples does; the optional ones are there if the settings ask for them."""

    #: b, which examples
    order: Tensor
    #: 1, the learning rate
    rates: Tensor
    #: b, what each example's loss counts
    weights: Tensor | None = None
    #: b x 3 and b x 2, see `workers.training.augmentation.drawn`
    moves: Tensor | None = None
    holes: Tensor | None = None
    #: 1, of each example in its blend
    shares: Tensor | None = None


class EpochPlan:
    """The draws of an epoch, from (seed, epoch) and the examples' scores alone.

    They lie in tensors that stay where they are, and so does the number of the next step: a step reads its own part of
    them on the device. So it can be recorded once and replayed without being told anything, and an epoch that begins
    anew in its middle does there what it would have done.

    Args:
        settings: of the training.
        data: the training split.
        seed: of the training.
    """

    def __init__(self, settings: TrainingSettings, data: Resident, *, seed: int) -> None:
        device = data.targets.device
        self.size = min(settings.batch_size, len(data))
        self.scores = Scores(len(data), device) if settings.prune else None
        self._settings, self._data, self._seed = settings, data, seed
        self._most_steps = len(data) // self.size
        self._at = torch.zeros(1, dtype=torch.int64, device=device)
        self._offsets = torch.arange(self.size, device=device)
        self._of_examples: dict[str, Tensor] = {}
        self._of_steps: dict[str, Tensor] = {}

    def begin(self, epoch: int, step: int = 0) -> int:
        """Draw an epoch, which is to begin at a step; returns how many steps it has.

        With pruning it waits for the device, to know how many examples are left.
        """
        data, settings = self._data, self._settings
        device = data.targets.device
        generator = torch.Generator(device).manual_seed(derived_seed(self._seed, epoch, 1))
        order = torch.randperm(len(data), generator=generator, device=device)
        of_examples, of_steps = drawn(
            settings,
            examples=len(data),
            steps=self._most_steps,
            input_shape=tuple(data.inputs.shape[1:]),
            generator=generator,
        )
        steps = self._most_steps
        if self.scores is not None:
            out, weights = torch.zeros_like(order, dtype=torch.bool), torch.ones(len(data), device=device)
            if epoch < FULL_FROM * settings.epochs:
                if step == 0:
                    self.scores.begin()
                out, weights = pruned(self.scores.before, settings.prune, generator)
            # those left out stand last, and take part only where a first batch would not be full without them
            order = order[torch.argsort(out[order].to(torch.int8), stable=True)]
            steps = max(1, (len(data) - int(out.sum())) // self.size)
            of_examples["weights"] = weights[order]
        of_steps["rates"] = self._rates(epoch, steps).to(device)
        self._put(self._of_examples, {**of_examples, "order": order})
        self._put(self._of_steps, of_steps)
        self._at.fill_(step)
        return steps

    @property
    def order(self) -> Tensor:
        """All examples of the epoch that was begun, step by step."""
        return self._of_examples["order"]

    @property
    def rates(self) -> Tensor:
        """The learning rate of each of its steps."""
        return self._of_steps["rates"]

    def draw(self) -> Draw:
        """The draw of the next step. Everything in here happens on the device."""
        at = self._at.clone()
        rows = self._offsets + at * self.size
        self._at += 1
        return Draw(
            **{name: values.index_select(0, rows) for name, values in self._of_examples.items()},
            **{name: values.index_select(0, at) for name, values in self._of_steps.items()},
        )

    def _rates(self, epoch: int, steps: int) -> Tensor:
        """The learning rate of each step; a shorter epoch passes through its part of the schedule more quickly."""
        full, settings = self._most_steps, self._settings
        positions = [epoch * full + step * full / steps for step in range(steps)]
        rates = [learning_rate_at(settings, position, settings.epochs * full) for position in positions]
        return torch.tensor(rates + [0.0] * (full - steps))

    @staticmethod
    def _put(into: dict[str, Tensor], values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            if name in into:
                into[name].copy_(value)
            else:
                into[name] = value
