"""Printing of what a benchmark measured: every figure with its spread, ours beside the peer's, and their ratio."""

import platform
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version


def heading(title: str, *packages: str) -> None:
    """Say what is measured, and with which versions."""
    print(f"\n{title}")
    print(f"  Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in packages))


def spread(values: Sequence[float], scale: float = 1.0, unit: str = "s") -> str:
    """Median (smallest – largest) of the runs."""
    scaled = sorted(scale * value for value in values)
    return f"{statistics.median(scaled):.4g} {unit} ({scaled[0]:.4g} – {scaled[-1]:.4g}, {len(scaled)} runs)"


def compare(
    ours: Sequence[float], peer: Sequence[float], name: str, wanted: float, *, scale: float = 1.0, unit: str = "s"
) -> bool:
    """Print both and the ratio peer / ours of the medians beside the one that is wanted; True if it is reached."""
    ratio = statistics.median(peer) / statistics.median(ours)
    reached = ratio >= wanted
    print(f"  ours        {spread(ours, scale, unit)}")
    print(f"  {name:<11} {spread(peer, scale, unit)}")
    print(f"  ratio       {ratio:.1f} (wanted: at least {wanted:g}) {'ok' if reached else 'FELL SHORT'}")
    return reached


def times(run: Callable[[int], float], count: int) -> list[float]:
    """Run with the seeds 0 … count - 1."""
    return [run(seed) for seed in range(count)]
