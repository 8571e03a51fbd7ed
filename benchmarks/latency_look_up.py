"""Latency by measuring, by looking operators up and by a fitted predictor, on random networks of two spaces.

    python benchmarks/latency_look_up.py [--count 40] [--fitted 60] [--device cpu] [--batch-size 1]
        [--precision float32] [--repeats 30] [--seed 0] [--processor-time]

For each way it prints how far it is from what was measured, as Kendall's tau and the mean relative error, and what it
takes for one network. The predictor is fitted to networks drawn with another seed. Measuring once more is the floor:
nothing can be nearer to a measurement than another one.

Other processes make every measurement longer, each by another factor; --processor-time counts the time of this thread
only, for a CPU that is not one's own.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from results import save

from nas.latency import fit_latency
from nas.scoring import sample_networks
from predictors.quality import kendall_tau
from search_spaces import load_space
from search_spaces.build import build
from workers import measure
from workers.datasets import load_dataset
from workers.latency_table import LatencyTable
from workers.operators import OperatorReader

SPACES = {"nas_bench_201": {"channels": 8, "cells": 2}, "mobile_cnn": {"widths": [8, 12, 16]}}


def compared(name: str, arguments: argparse.Namespace) -> list[str]:
    """The lines about one space."""
    space, data, device = load_space(name, **SPACES[name]), load_dataset("digits"), torch.device(arguments.device)
    shape, how = data.input_shape, {"batch_size": arguments.batch_size, "precision": arguments.precision}
    drawn = list(sample_networks(space, arguments.count, arguments.seed))
    networks = [build(space, architecture, shape, data.outputs) for architecture in drawn]

    def of_all(latency_ms: Callable[[torch.nn.Module], float]) -> tuple[np.ndarray, float]:
        began = time.perf_counter()
        return np.array([latency_ms(network) for network in networks]), (time.perf_counter() - began) / len(networks)

    def measured(network: torch.nn.Module) -> float:
        return measure.latency(network, shape, device=device, repeats=arguments.repeats, **how).median_ms

    truth, seconds = of_all(measured)
    lines = [f"{name} {SPACES[name]}: {truth.min():.3g} to {truth.max():.3g} ms, {1e3 * seconds:.0f} ms to measure one"]

    def told(way: str, found: np.ndarray, seconds: float) -> None:
        error = np.mean(np.abs(found - truth) / truth)
        tau = kendall_tau(found, truth)
        lines.append(f"  {way:<24} tau {tau:.3f}  relative error {error:.3f}  {1e3 * seconds:.0f} ms a network")

    told("measured once more", *of_all(measured))
    with tempfile.TemporaryDirectory() as folder:
        table = LatencyTable(Path(folder) / "table.json", device)
        for way in ("look-up, table empty", "look-up, table full"):
            told(way, *of_all(lambda network: table.latency_ms(network, shape, **how)))
        lines.append(f"  {len(table)} entries in the table")
    predictor = fit_latency(
        space,
        data,
        count=arguments.fitted,
        device=arguments.device,
        repeats=arguments.repeats,
        threads=torch.get_num_threads(),
        seed=arguments.seed + 1,
        **how,
    )
    reader = OperatorReader()
    told("predicted", *of_all(lambda network: predictor.latency_ms(reader.read(network, shape, **how))))
    held = predictor.held_out
    lines.append(f"  of itself it says: tau {held.kendall_tau:.3f}  relative error {held.relative_error:.3f}")
    return lines


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--fitted", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--save", type=Path, help="append to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.processor_time:
        measure.time = type("Clock", (), {"perf_counter": staticmethod(time.thread_time)})
    device = measure.device_name(arguments.device)
    lines = [f"{device}, batch {arguments.batch_size}, {arguments.precision}"]
    print(lines[0])
    for name in SPACES:
        found = compared(name, arguments)
        print("\n".join(found), flush=True)
        lines += found
    if arguments.save:
        save(arguments.save, lines)


if __name__ == "__main__":
    main()
