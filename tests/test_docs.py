"""The pages of docs/ show code that runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["experiments.md"]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_one_after_the_other(page, tmp_path):
    # In a process of its own: a page begins with an empty namespace, and sees one device.
    assert blocks(page)
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page)))
    command = [sys.executable, str(script)]
    answer = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert answer.returncode == 0, answer.stderr[-2000:]


def environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_what_a_page_links_to_is_there(page):
    text = page.read_text()
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / path).exists(), path
