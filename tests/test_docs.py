"""What the documents say is done here, as a reader would do it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def shell_lines(language: str = "sh") -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks(language) for line in block.splitlines()]
    return [line for line in lines if line]


def test_every_make_command_of_the_readme_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for line in shell_lines():
        if line.startswith("make "):
            assert line.split()[1] in targets


def test_every_augment_command_of_the_documents_exists() -> None:
    from typer.main import get_command

    from flows.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    for document in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for name in re.findall(r"(?:^|`)augment ([a-z]+)\b", document.read_text(), flags=re.MULTILINE):
            assert name in known, f"{document.name} names `augment {name}`"


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deployments").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_readme_followed_literally_publishes_and_reads(tmp_path: Path) -> None:
    from sklearn.datasets import load_wine

    wine = load_wine(as_frame=True)
    frame = wine.frame.assign(cultivar=[str(wine.target_names[i]) for i in wine.target]).drop(columns="target")
    frame.to_csv(tmp_path / "wine.csv", index=False)
    (tmp_path / "wine.yaml").write_text(blocks("yaml")[0])
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    for line in shell_lines():
        if line.startswith("augment "):
            done = subprocess.run(
                line.split(), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"
    code = "import datasets, duckdb, pandas\nfrom augment import load_dataset\n"
    code += "version = str(load_dataset('store/datasets/wine').path)\n"
    code += "".join(blocks("python-other")) + "".join(blocks("python"))
    code += "assert frame.is_synthetic.any() and not test.is_synthetic.any()\nassert next(iter(loader))\n"
    environment |= {"HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
