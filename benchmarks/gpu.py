"""All that is promised of a GPU, on the GPU that is here: kernels are compiled, checked and timed, networks trained.

    python benchmarks/gpu.py [--cifar10 FILE.npz] [--into FOLDER] [--skip-checks]

Beside each time stands the floor that the device itself sets: the bytes that must move over the bandwidth of a copy,
measured in the same run. Times are medians between events on the device, after a warm-up, over several buffers of fresh
random numbers. The table goes to `results/gpu_<device>_<date>.json` and `.md`. FILE.npz holds CIFAR-10 as `images`
(n x 3 x 32 x 32, uint8) and `labels`; without it images are drawn at random, which takes as long.

Ends with status 1 where there is no GPU or a check fails, 2 where a row falls short of what is wanted.
"""

import argparse
import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent

TESTS = (
    *("tests/workers/kernels", "tests/workers/training"),
    *(f"tests/workers/test_{name}.py" for name in ("energy", "measure", "measuring")),
    "tests/predictors/zero_cost/test_zero_cost_contract.py",
)
"""Where tests marked `cuda` stand; none of them needs what only a search does (Ray, a database)."""


def main() -> int:
    """Check, measure, write; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as .npz: images, labels")
    parser.add_argument("--into", type=Path, default=HERE / "results", help="folder of the result files")
    parser.add_argument("--skip-checks", action="store_true", help="time what may be wrong")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing can be measured", file=sys.stderr)
        return 1
    sys.path.insert(0, str(HERE.parent))
    from workers.kernels import register

    if not register():
        print("the kernels could not be registered, see above: nothing can be measured", file=sys.stderr)
        return 1
    if not options.skip_checks and not _checked():
        return 1
    torch.manual_seed(0)
    device = torch.cuda.get_device_name()
    rows, failures, floors = _measured(options.cifar10)
    _write(options.into, device, rows, failures, floors)
    return 0 if not failures and all(row["reached"] for row in rows) else 2


def _checked() -> bool:
    """Whether all tests that need a GPU pass on it."""
    command = [sys.executable, "-m", "pytest", *TESTS, "-m", "cuda", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=HERE.parent, check=False).returncode == 0


def _measured(cifar10: Path | None) -> tuple[list[dict[str, object]], list[str], dict[str, float]]:
    """The rows, what failed, and the device's ceilings; one row's failure leaves the others."""
    from gpu_kernels import depthwise_rows, overlap_rows, sum_relu_row
    from gpu_networks import batched_mlp_row, capture_row, memory_row, naswot_row, training_row
    from gpu_timing import Row, copy_bytes_per_ms, matrix_operations_per_ms

    bandwidth, rate = copy_bytes_per_ms(), matrix_operations_per_ms()
    print(f"copy {bandwidth / 1e9:.3g} TB/s, bfloat16 matrix product {rate / 1e9:.4g} TFLOP/s", flush=True)
    images = targets = None
    if cifar10 is not None:
        with np.load(cifar10) as file:
            images, targets = file["images"], file["labels"]

    def single(row: Callable[[], Row]) -> Callable[[], Iterator[Row]]:
        return lambda: iter([row()])

    parts: list[Callable[[], Iterator[Row]]] = [
        lambda: overlap_rows(bandwidth),
        single(lambda: sum_relu_row(bandwidth)),
        lambda: depthwise_rows(bandwidth),
        single(batched_mlp_row),
        single(naswot_row),
        single(lambda: training_row(images, targets)),
        single(lambda: capture_row(images, targets)),
        single(lambda: memory_row(images, targets)),
    ]
    rows: list[dict[str, object]] = []
    failures: list[str] = []
    for part in parts:
        try:
            for row in part():
                rows.append({**asdict(row), "ratio": row.ratio, "of_floor": row.of_floor})
                print(_line(rows[-1]), flush=True)
        except Exception:  # whatever it is, the other rows are worth having
            failures.append(traceback.format_exc())
            print(failures[-1], flush=True)
        torch.cuda.empty_cache()
    return rows, failures, {"copy_bytes_per_second": 1e3 * bandwidth, "bfloat16_operations_per_second": 1e3 * rate}


def _write(
    folder: Path, device: str, rows: list[dict[str, object]], failures: list[str], floors: dict[str, float]
) -> None:
    now = datetime.now(UTC)
    name = f"gpu_{'_'.join(device.lower().split())}_{now:%Y-%m-%d}"
    folder.mkdir(parents=True, exist_ok=True)
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    document = {"device": device, "date": f"{now:%Y-%m-%d}", **versions, **floors, "rows": rows, "failures": failures}
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    head = [
        f"# {device}, {now:%Y-%m-%d}, torch {torch.__version__}",
        "",
        f"Copy {floors['copy_bytes_per_second'] / 1e12:.3g} TB/s, bfloat16 matrix product "
        f"{floors['bfloat16_operations_per_second'] / 1e12:.4g} TFLOP/s.",
        "",
        "| what | ours | against | ratio | of the floor | wanted | reached | notes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    body = [_line(row) for row in rows] + [f"| failed: {text.strip().splitlines()[-1]} |" for text in failures]
    (folder / f"{name}.md").write_text("\n".join([*head, *body]) + "\n")


def _line(row: dict[str, object]) -> str:
    share = "" if row["of_floor"] is None else f"{100 * float(str(row['of_floor'])):.0f} %"
    cells = [
        row["what"],
        f"{row['ours']:.4g} {row['unit']}",
        f"{row['against']}: {row['peer']:.4g}",
        f"{row['ratio']:.3g}x",
        share,
        row["wanted"],
        "yes" if row["reached"] else "NO",
        row["notes"],
    ]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    sys.exit(main())
