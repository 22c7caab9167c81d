"""The rules of the layout, kept by reading the sources."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "augment", "flows")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ALLOWED = {"models": {"models"}, "augment": {"models", "augment"}, "flows": {"augment", "flows"}}


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    ours = {name.split(".")[0] for name in imported_modules(path)} & set(PACKAGES)
    assert ours <= ALLOWED[package_of(path)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_prefect_stays_in_flows_and_frames_out_of_models(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported_modules(path)}
    if package_of(path) != "flows":
        assert "prefect" not in roots
    if package_of(path) == "models":
        assert not roots & {"pandas", "pyarrow", "numpy", "great_expectations"}


@pytest.mark.parametrize("path", sorted((ROOT / "flows").glob("*.py")), ids=lambda p: p.name)
def test_flows_know_the_plain_names_of_augment_only(path: Path) -> None:
    assert [name for name in imported_modules(path) if name.startswith("augment.") and "._" in name] == []


def test_training_knows_no_stage_that_follows_it_and_its_key_all_that_its_figures_follow_from() -> None:
    from augment.training import CODE

    seen: set[str] = set()
    paths = sorted((ROOT / "augment/training").glob("*.py"))
    while paths:
        found = {name for name in imported_modules(paths.pop()) if name.startswith("augment.worth")} - seen
        seen |= found
        paths += [ROOT / f"{name.replace('.', '/')}.py" for name in found]
    assert seen == {name for name in CODE if name.startswith("augment.worth._")}
    known = {name for path in (ROOT / "augment/training").glob("*.py") for name in imported_modules(path)}
    later = ("augment.checks", "augment.generation", "augment.validation", "augment.publishing")
    assert [name for name in known if name.startswith(later)] == []


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_files_and_functions_stay_small() -> None:
    too_long = [f"{path.relative_to(ROOT)}" for path in SOURCES if len(path.read_text().splitlines()) > 350]
    for path in SOURCES:
        for function in functions(path):
            assert function.end_lineno is not None
            if function.end_lineno - function.lineno + 1 > 50:
                too_long.append(f"{path.relative_to(ROOT)}:{function.name}")
    assert too_long == []


def test_nothing_unsafe_is_loaded() -> None:
    unsafe = re.compile(r"import pickle|pickle\.load|weights_only=False|yaml\.load\(|np\.load\([^)]*allow_pickle=True")
    assert [p.name for p in SOURCES if unsafe.search(p.read_text())] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "helpers", "common", "misc", "manager", "base"}
    assert [p.name for p in SOURCES if p.stem.strip("_") in vague] == []


def test_flows_shadow_no_package() -> None:
    assert {p.stem for p in (ROOT / "flows").glob("*.py")} & {"augment", "models", "flows"} == set()


def test_tests_are_flat() -> None:
    assert [p for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name != "__pycache__"] == []


def test_every_setting_is_described() -> None:
    from augment.config import CHECKS, MODELS, SOURCES, RunConfig
    from augment.given import FromFiles

    silent = []
    sections = [RunConfig, *(f.annotation for f in RunConfig.model_fields.values()), *SOURCES.values()]
    sections += [*MODELS.values(), FromFiles, *CHECKS.values()]
    for section in sections:
        for name, field in getattr(section, "model_fields", {}).items():
            if name != "kind" and not field.description:
                silent.append(f"{section.__name__}.{name}")
    assert silent == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("augment.config", {"prefect", "great_expectations", "torchvision", "sklearn", "datasets", "matplotlib"}),
        ("augment.training", {"prefect", "great_expectations", "torchvision", "sklearn", "datasets", "matplotlib"}),
        ("augment.generation", {"prefect", "great_expectations", "torchvision", "sklearn", "datasets", "matplotlib"}),
        ("flows.cli", {"prefect", "great_expectations", "torch", "pandas", "pyarrow", "sklearn"}),
    ],
)
def test_heavy_libraries_are_imported_where_they_are_used(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(sorted({absent!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
