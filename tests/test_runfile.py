"""Run files: what is read, and the one sentence for everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from augment._yaml_text import MAX_BYTES, parse_yaml
from augment.config import RunConfig
from augment.errors import InputError
from augment.runfile import load_run_config

EXAMPLES = sorted((Path(__file__).parent.parent / "deployments" / "runs").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def read(folder: Path, text: str, *overrides: str) -> RunConfig:
    path = folder / "run.yaml"
    path.write_text(text)
    return load_run_config(path, overrides)


def complaint(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text, *overrides)
    return str(caught.value)


def test_without_a_file_the_packaged_example_is_read() -> None:
    config = load_run_config(None)
    assert config.name == "digits-scarce"
    assert config.split.train_per_class == dict.fromkeys("13579", 10)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_run_file_is_read(path: Path) -> None:
    assert Path(load_run_config(path).store).is_absolute()


def test_relative_paths_start_at_the_folder_of_the_run_file(folder: Path) -> None:
    config = read(folder, "source: {kind: csv, path: data/rows.csv}\nstore: here")
    assert config.source.path == folder / "data" / "rows.csv"  # type: ignore[attr-defined]
    assert config.store == str(folder / "here")


def test_a_path_of_the_test_part_starts_at_the_folder_of_the_run_file(folder: Path) -> None:
    config = read(folder, "source: {kind: csv, path: a.csv, test: {path: b.csv}}")
    test = config.source.test_source()
    assert test is not None
    assert test.path == folder / "b.csv"  # type: ignore[attr-defined]


def test_the_store_of_the_command_line_starts_at_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    (folder / "run.yaml").write_text("name: x")
    assert load_run_config(folder / "run.yaml", store="mine").store == str(folder / "elsewhere" / "mine")


def test_a_class_may_be_written_as_a_number_a_word_or_no(folder: Path) -> None:
    config = read(folder, "split: {train_per_class: {1: 5, no: 6, 007: 7}}")
    assert config.split.train_per_class == {"1": 5, "no": 6, "007": 7}


def test_a_number_may_be_written_with_an_exponent(folder: Path) -> None:
    assert read(folder, "train: {steps: 1e3, ema_decay: 1e-2}").train.steps == 1000


def test_set_changes_one_setting_and_leaves_the_others(folder: Path) -> None:
    config = read(folder, "train: {steps: 5, device: cpu}", "train.steps=7", "plan.kind=multiply", "plan.factor=3")
    assert (config.train.steps, config.train.device, config.plan.kind) == (7, "cpu", "multiply")


def test_a_setting_of_a_section_that_is_left_out_is_one_of_its_default_kind(folder: Path) -> None:
    config = read(folder, "name: x", "model.beta=3", "plan.everywhere=0.5", "train.steps=9")
    assert (config.model.kind, config.model.beta) == ("vae", 3)  # type: ignore[union-attr]
    assert (config.plan.kind, config.plan.everywhere, config.train.steps) == ("balance", 0.5, 9)  # type: ignore[union-attr]


def test_a_setting_that_the_default_kind_has_not_asks_for_the_kind(folder: Path) -> None:
    with pytest.raises(InputError, match=r"plan\.kind is missing; known are: balance, counts, multiply"):
        read(folder, "name: x", "plan.factor=3")


def test_setting_another_kind_drops_what_it_does_not_know(folder: Path) -> None:
    config = read(folder, "source: {kind: csv, path: a.csv, rows: 9}", "source.rows=8", "source.kind=wine")
    assert (config.source.kind, config.source.rows) == ("wine", 8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty and not a mapping"),
        ("- a", "is a list and not a mapping"),
        ("trian: {}", "trian is not a known key; did you mean 'train'?"),
        ("train: {stesp: 3}", "train.stesp is not a known key; did you mean 'steps'?"),
        ("source: {kind: csv, path: a, lable: b}", "source.lable is not a known key; did you mean 'label'?"),
        ("source: {kind: csv}", "source.path is missing"),
        ("source: {kind: digit}", "source.kind 'digit' is not known; did you mean 'digits'?"),
        ("source: {kind: csv, path: a, columns: {b: numerical}}", "did you mean 'numeric'?"),
        ("model: {kind: vea}", "did you mean 'vae'?"),
        ("model: 3", "model is 3, and should be a mapping"),
        ("plan: {kind: balanced}", "plan.kind 'balanced' is not known; did you mean 'balance'?"),
        ("plan: {factor: 3}", "plan.kind is missing; known are: balance, counts, multiply"),
        ("checks: [{kind: nope}]", "checks.0.kind 'nope' is not known"),
        ("name: A b", "name 'A b' is not allowed (The dataset's name: small letters"),
        ("seed: -3", "seed is -3: it should be greater than or equal to 0"),
        ("seed: 1e400", "seed is inf"),
        ("train: {steps: 0}", "train.steps is 0"),
        ("train: {steps: .nan}", "train.steps is nan"),
        ("train: {steps: 99999999999999}", "train.steps is 99999999999999: it should be less than"),
        ("split: {test: .inf}", "split.test is inf"),
        ("split: {test: 0.7, validation: 0.5}", "leave no rows to train on"),
        ("split: {train_per_class: {a: 0}}", "split.train_per_class.a is 0"),
        ("generate: {operator: magic}", "'magic' is not offered by vae"),
        ("model: {kind: vae, optimiser: {betas: [1.5, 0.9]}}", "model.optimiser.betas.0"),
        ("model: {kind: vae, optimiser: {betas: [0.9, .nan]}}", "model.optimiser.betas.1"),
        ("worth: {seeds: -1}", "worth.seeds is -1"),
        ("worth: {metric: accuracy}", "worth.metric"),
        ("name: x\nname: y", "the key 'name' is twice"),
        ("name: [", "cannot be read as YAML (line 1"),
        ("name: !!python/object:os.system x", "tags that ask for objects"),
        ("name: !!binary aGVsbG8=", "tags that ask for objects"),
        ("seed: !!bool maybe", "cannot be read as YAML"),
        ("name: &a [*a]", "without aliases"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_the_file_and_the_key(folder: Path, text: str, expected: str) -> None:
    message = complaint(folder, text)
    assert message.startswith(str(folder / "run.yaml"))
    assert expected in message
    assert "\n" not in message


def test_a_bomb_of_aliases_is_refused_before_it_unfolds() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(InputError, match="expands to more than"):
        parse_yaml("\n".join(lines), "it")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.stepz=3", "--set: train.stepz is not a known key; did you mean 'steps'?"),
        ("train.steps=-1", "--set: train.steps is -1"),
        ("model.kind=vea", "--set: model.kind 'vea'"),
        ("name.first=x", "name is a text without keys"),
        ("train", "is not of the form a.b=value"),
        ("train.steps=[", "--set train.steps cannot be read"),
    ],
)
def test_a_wrong_override_is_told_from_a_wrong_file(folder: Path, override: str, expected: str) -> None:
    assert expected in complaint(folder, "name: x", override)


def test_a_second_problem_is_counted(folder: Path) -> None:
    assert complaint(folder, "seed: -1\ntrain: {step: 3}").endswith("did you mean 'steps'? (1 more problem)")


def test_a_file_that_is_no_text_is_refused(folder: Path) -> None:
    path = folder / "run.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_run_config(path)
    path.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        load_run_config(path)
    with pytest.raises(InputError, match="No such file"):
        load_run_config(folder / "other.yaml")
    with pytest.raises(InputError, match="directory"):
        load_run_config(folder)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.sigma=wild", "model.sigma 'wild' is not known; known are: learned, optimal, shared, or a number."),
        ("model.sigma=0", "model.sigma is 0: it should be greater than or equal to 0.001."),
        ("generate.temperature=abc", "generate.temperature is 'abc', and should be a number."),
        ("model.latent=1.5", "model.latent is 1.5, and should be a whole number."),
        ("model.optimiser.betas.0=0.5", "model.optimiser.betas is {'0': 0.5}, and should be a list such as [a, b]."),
        ("checks=[{kind: posterior_predictive, statistics: []}]", "checks.0.statistics has 0 entries; give it 1 at"),
        ("generate.operator=wobble", "generate.operator 'wobble' is not offered by vae"),
    ],
)
def test_what_a_setting_should_be_is_said_in_the_words_of_a_run_file(override: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        load_run_config(None, [override], None)
    assert str(refused.value).startswith(f"--set: {sentence}")
    assert "more problem" not in str(refused.value)
