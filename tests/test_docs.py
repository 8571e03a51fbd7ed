"""Every command and every piece of Python in the README and docs runs, page by page, in the order it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<skip><!-- not run: [^>]+-->\n)?```(?P<language>sh|python)\n(?P<code>.*?)```", re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_docs_say_runs(page: Path, tmp_path: Path) -> None:
    blocks = [match for match in BLOCK.finditer(page.read_text()) if not match["skip"]]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path),
    }
    environment.pop("NAS_STORAGE", None)
    for block in blocks:
        if block["language"] == "sh":
            command = ["bash", "-euo", "pipefail", "-c", block["code"]]
        else:
            command = [sys.executable, "-c", block["code"]]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{page.name}:\n{block['code']}\n{done.stdout}\n{done.stderr}"


def test_every_command_has_help_and_stands_in_the_docs() -> None:
    from typer.main import get_command

    from nas.cli import app

    text = "\n".join(page.read_text() for page in PAGES)
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.help, f"nas {name} has no help"
        assert f"nas {name}" in text, f"nas {name} is not in the docs"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
