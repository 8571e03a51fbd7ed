"""How long the command line takes to answer: `nas --help`, and `nas pareto` on 1,000 trials.

python benchmarks/command_line.py [--runs 7]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from spread import heading, spread
from stored_trials import write_ours


def clock(command: list[str]) -> float:
    """Seconds of a whole process."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    nas = str(Path(sys.executable).parent / "nas")
    heading("the command line, whole processes", "typer", "sqlalchemy")
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{Path(folder) / 'study.db'}"
        write_ours(storage, np.random.default_rng(0).random((1000, 12)))
        for title, command, wanted in (
            ("nas --help", [nas, "--help"], 0.4),
            ("nas pareto, 1,000 trials", [nas, "pareto", "stored", "--storage", storage, "--json"], 0.8),
        ):
            clock(command)  # warm the file cache
            seconds = [clock(command) for _ in range(runs)]
            reached = statistics.median(seconds) <= wanted
            print(f"  {title:<26}{spread(seconds)}  wanted: at most {wanted} s {'ok' if reached else 'FELL SHORT'}")


if __name__ == "__main__":
    main()
