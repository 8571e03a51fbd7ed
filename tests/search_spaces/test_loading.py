import sys

import pytest

from search_spaces.loading import ImportRefused, LoadError, load_object


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A user's package `lab_of_mine`, importable during a test."""
    package = tmp_path / "lab_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "cells.py").write_text(
        "import os, subprocess\nfrom subprocess import run\n\n\ndef small_cell():\n    return 1\n\n\n"
        "class Cell:\n    class Inner:\n        pass\n\n\nSIZES = [1, 2]\ncount = len\n"
    )
    (package / "broken.py").write_text("\n\nraise RuntimeError('no GPU here')\n")
    (package / "needy.py").write_text("import a_package_nobody_has\n")
    (package / "garbled.py").write_text("def f(:\n")
    (package / "leaving.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("lab_of_mine")]:
        del sys.modules[name]


def test_functions_classes_and_values_are_found(lab):
    assert load_object("lab_of_mine.cells:small_cell", ["lab_of_mine"])() == 1
    assert load_object("lab_of_mine.cells:Cell.Inner", ["lab_of_mine.cells"]).__name__ == "Inner"
    assert load_object("lab_of_mine.cells:SIZES", ["lab_of_mine"]) == [1, 2]
    assert load_object("search_spaces.space:SearchSpace").__name__ == "SearchSpace"


def test_a_package_that_is_not_allowed_is_refused_before_it_is_imported(lab):
    with pytest.raises(ImportRefused, match="--allow lab_of_mine"):
        load_object("lab_of_mine.cells:small_cell")
    with pytest.raises(ImportRefused):
        load_object("lab_of_mine.cells:small_cell", ["lab_of", "lab_of_mine.broken"])
    assert "lab_of_mine" not in sys.modules


@pytest.mark.parametrize("path", ["os:system", "subprocess:run", "builtins:eval", "posix:system", "shutil:rmtree"])
def test_the_standard_library_is_refused(path):
    with pytest.raises(ImportRefused):
        load_object(path)


@pytest.mark.parametrize(
    "path",
    [
        "lab_of_mine.cells:os.system",
        "lab_of_mine.cells:subprocess",
        "lab_of_mine.cells:run",
        "lab_of_mine.cells:count",
        "workers.processes:os.system",
        "workers.processes:subprocess.Popen",
        "workers.running:logger.handle",
        "workers.running:RunningTrial.mro",
    ],
)
def test_no_path_leads_through_an_allowed_module_to_another(lab, path):
    with pytest.raises(ImportRefused):
        load_object(path, ["lab_of_mine"])


@pytest.mark.parametrize(
    "path",
    [
        "lab_of_mine.cells",
        "lab_of_mine.cells:",
        ":x",
        "a:b:c",
        "../x:y",
        "",
        "workers.running:RunningTrial.__init__.__globals__",
        "workers.__init__:x",
        7,
        None,
    ],
)
def test_what_is_no_path_is_refused(path):
    with pytest.raises(LoadError, match="module:object"):
        load_object(path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("lab_of_mine.cell:small_cell", "there is no module 'lab_of_mine.cell'"),
        ("lab_of_yours.cells:small_cell", "there is no module 'lab_of_yours'"),
        ("lab_of_mine.cells:smal_cell", "did you mean 'small_cell'"),
        ("lab_of_mine.cells:Cell.Iner", "did you mean 'Inner'"),
        ("lab_of_mine.broken:x", r"broken.py:3: RuntimeError: no GPU here"),
        ("lab_of_mine.needy:x", "needs 'a_package_nobody_has'"),
        ("lab_of_mine.garbled:x", r"garbled.py:1: SyntaxError"),
        ("lab_of_mine.leaving:x", "SystemExit: 3"),
    ],
)
def test_each_way_to_fail_has_its_own_message(lab, path, said):
    with pytest.raises(LoadError, match=said):
        load_object(path, ["lab_of_mine", "lab_of_yours"])


def test_the_modules_of_torch_are_allowed_and_the_rest_of_torch_is_not():
    assert load_object("torch.nn.modules.linear:Linear").__name__ == "Linear"
    with pytest.raises(ImportRefused):
        load_object("torch:load")
    with pytest.raises(ImportRefused):
        load_object("torch.hub:load")
