"""How many architectures of NAS-Bench-201 one core samples, mutates and identifies in a second.

    python benchmarks/space_throughput.py [--count 20000] [--seed 0]

The canonical key is that of the whole network, 15 cells and all; "first" is a fresh process that has seen no cell yet,
"again" the same architectures once more.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from search_spaces import canonical_key, load_space, mutate, sample


def rate(count: int, work: Callable[[int], object]) -> float:
    """Calls per second of this process's own time."""
    start = time.process_time()
    for index in range(count):
        work(index)
    return count / (time.process_time() - start)


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    space, rng, count = load_space("nas_bench_201"), np.random.default_rng(arguments.seed), arguments.count
    architectures = [sample(space, rng) for _ in range(count)]
    figures = {
        "sample": rate(count, lambda index: sample(space, rng)),
        "mutate": rate(count, lambda index: mutate(space, architectures[index], rng)),
        "canonical key, first": rate(count, lambda index: canonical_key(space, architectures[index])),
        "canonical key, again": rate(count, lambda index: canonical_key(space, architectures[index])),
    }
    print(json.dumps({f"{name} (per second)": round(value) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
