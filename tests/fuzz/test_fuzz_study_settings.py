"""Study files, --set assignments, storage URLs, search-space documents: whatever they hold, an answer in words."""

import json
import random
from copy import deepcopy
from pathlib import Path

import pytest

from nas.settings import override, read_study_file, settings_from
from nas.spec import make_spec
from nas.store import masked, open_store
from nas.store.address import parse
from nas.store.text import canonical
from search_spaces import SearchSpace, load_space, sample
from search_spaces.catalogue import CATALOGUE
from tests.fuzz.hammer import hammer, refused_or_done
from tests.fuzz.nasty import deep, mutated, plain, scalar, spoiled, text

STUDY = b"""
name = "demo"
seed = 3
reuse = true
storage = "sqlite:///demo.db"
metrics = ["error", {name = "macs", goal = "minimize", limit = 1e6}]
data = {name = "iris", test = 0.2}

[space]
name = "mlp"
layers = 2

[strategy]
name = "regularized_evolution"
population = 10

[evaluator]
name = "training"
epochs = 2

[stop]
trials = 30
time_limit = "1h30m"
patience = 5
target = {error = 0.05}

[limits]
time_limit = "10m"
memory_limit = "2GiB"
lease_seconds = 60
beat_seconds = 10
lost = 3
breaker = true
"""


def answered(document: dict[str, object]) -> None:
    """Settings that were accepted can be stored as they are, and read back."""
    settings = settings_from(document)
    spec = make_spec(
        space=SPACE,
        source=settings.space,
        metrics=settings.metrics,
        strategy="random_search",
        evaluator={"name": settings.evaluator.name, **settings.evaluator.settings},
        data={"name": settings.data.name, **settings.data.settings} if settings.data else None,
        stop=settings.stop,
        limits=settings.limits,
        reuse=settings.reuse,
        allow=(),
    )
    assert json.loads(canonical(spec)) == json.loads(json.dumps(spec))


SPACE = load_space("mlp")


def test_a_study_file_of_any_bytes_is_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"

    def case(rng: random.Random) -> None:
        file.write_bytes(spoiled(rng, STUDY))
        with refused_or_done():
            answered(read_study_file(file))

    hammer("study file", 0.15, case)


def test_a_study_file_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text("name = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ValueError, match=r"study\.toml"):
        read_study_file(file)


def test_a_study_document_of_any_values_is_taken_or_refused(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_bytes(STUDY)
    good = read_study_file(tmp_path / "good.toml")

    def case(rng: random.Random) -> None:
        document = mutated(rng, good)
        with refused_or_done():
            answered(document)

    hammer("study document", 0.2, case)


def test_any_assignment_is_taken_or_refused(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_bytes(STUDY)
    good = read_study_file(tmp_path / "good.toml")
    paths = [f"{part}.{key}" for part, keys in good.items() if isinstance(keys, dict) for key in keys]

    def case(rng: random.Random) -> None:
        document = mutated(rng, good) if rng.random() < 0.3 else mutated(random.Random(0), good, lambda _: "x")
        path = rng.choice((*paths, *good, text(rng), f"{rng.choice(paths)}.{text(rng)}"))
        value = rng.choice((text(rng), json.dumps(plain(rng)), "1979-05-27", "1979-05-27T07:32:00Z", "0x10", "1e400"))
        with refused_or_done():
            override(document, rng.choice((f"{path}={value}", path, f"={value}", f"{path} = {value}")))
            answered(document)

    hammer("assignment", 0.1, case)


PASSWORD = "c4nary-pa55"
URLS = (
    f"postgresql://user:{PASSWORD}@127.0.0.1:1/db",
    f"postgresql+psycopg://user:{PASSWORD}@[::1]:1/db?sslmode=require&application_name=x",
    f"postgresql://127.0.0.1:1/db?user=u&password={PASSWORD}",
    f"mysql://user:{PASSWORD}@h/db",
    "sqlite:///file.db",
    "sqlite:///file.db?synchronous=NORMAL",
    "sqlite://",
    "sqlite:///:memory:",
    "sqlite:////absolute/file.db",
)


def test_any_storage_address_is_read_or_refused_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def case(rng: random.Random) -> None:
        url = rng.choice(URLS)
        for _ in range(rng.choice((1, 1, 2))):
            # not within the password: a canary with a letter in it would not be found again
            places = [at for at in range(len(url) + 1) if not _within(url, at)]
            at, kind = rng.choice(places), rng.randrange(3)
            if kind == 0:
                url = url[:at] + text(rng) + url[at:]
            elif kind == 1:
                url = url[:at] + rng.choice("@:/?#%[]&= {}") + url[at:]
            elif at < len(url) and not _within(url, at + 1) and not url[at + 1 :].startswith(PASSWORD):
                url = url[:at] + url[at + 1 :]
        assert PASSWORD not in masked(url) or PASSWORD not in url.partition("?")[0], masked(url)
        with refused_or_done() as said:
            address = parse(url)
            assert PASSWORD not in str(address) + repr(address)
            if address.is_sqlite:
                open_store(url, create=rng.random() < 0.5).close()
        assert PASSWORD not in "".join(said), said

    hammer("storage address", 0.05, case)
    assert not list(tmp_path.parent.glob("*passwd*")), "nothing is written outside"


def _within(url: str, at: int) -> bool:
    start = url.find(PASSWORD)
    return start >= 0 and start < at < start + len(PASSWORD)


DOCUMENTS = [load_space(name).to_document() for name in CATALOGUE]


def test_any_space_document_is_made_or_refused() -> None:
    import numpy as np

    def odd(rng: random.Random) -> object:
        if rng.random() < 0.3:
            return deepcopy(rng.choice(DOCUMENTS)["root"])  # it may be changed in its turn
        if rng.random() < 0.2:
            return {"node": rng.choice(("choice", "integer", "float", "repeat", "shared", "op", "cell", "parts", "x"))}
        return deep(rng) if rng.random() < 0.1 else scalar(rng)

    def case(rng: random.Random) -> None:
        document = mutated(rng, rng.choice(DOCUMENTS), odd)
        with refused_or_done():
            space = SearchSpace.from_document(document)
            again = SearchSpace.from_document(json.loads(json.dumps(space.to_document())))
            assert again == space
            architecture = sample(space, np.random.default_rng(0))
            assert again.validate(dict(architecture)) == architecture

    hammer("space document", 0.06, case)


def test_a_small_document_cannot_stand_for_an_endless_space() -> None:
    bomb: object = {"node": "integer", "low": 0, "high": 1, "log": False}
    for _ in range(6):
        bomb = {"node": "repeat", "body": bomb, "count": 10_000}
    with pytest.raises(ValueError, match="repeat"):
        SearchSpace.from_document({"name": "bomb", "root": {"node": "parts", "parts": [["all", bomb]]}})
