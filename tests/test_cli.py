"""The command line: what it prints, its exit statuses, and what it does not import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from augment.comparison import Comparison, Entry
from augment.doctor import Finding, examine_versions
from augment.errors import IntegrityError
from augment.gates import GateResult
from augment.publishing import Publication
from augment.worth.lift import unmeasured_record
from augment.worth.validation import ValidationLift
from flows.candidates import Outcome
from flows.cli import app
from flows.comparison_table import as_markdown, short_name
from flows.local_server import API_SETTINGS, NO_TELEMETRY, configured_api
from flows.printing import size
from flows.progress import Pace, amount

MODEL_KEYS = {"kind", "accepts", "likelihood", "objectives", "operators", "evaluations_per_sample", "paper"}
RUN_KEYS = {
    "status", "dataset", "version", "path", "verdict", "rows", "gates", "report", "picture", "seconds",
}  # fmt: skip


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def publication(status: str, folder: Path) -> Publication:
    failed = status == "refused"
    gate = GateResult(
        gate="class_plan", value=0.5, floor=None, limit=0.98, severity="critical", passed=not failed, sentence="Half."
    )
    return Publication(
        status=status, dataset="x", version=None if failed else "20260101T000000Z-0123456789ab", path=str(folder),
        verdict="not blessed" if failed else "blessed", rows={"a": {"real": 3, "synthetic": 4}}, gates=[gate],
        report=str(folder / "report" / "index.html"), picture=None, seconds=1.5,
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Make `augment run` end as it is told, after reading its run file."""

    def end_as(status: str | Exception) -> None:
        def run_here(load: Any, verbose: bool = False) -> Publication:
            load()
            if isinstance(status, Exception):
                raise status
            return publication(status, tmp_path)

        monkeypatch.setattr("flows.local_run.run_here", run_here)

    return end_as


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from flows.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'prefect', 'great_expectations', 'pyarrow', 'pandas', 'numpy', 'sklearn'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_contract_is_there_and_no_other() -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert commands == {
        "run", "plan", "compare", "tune", "models", "sources", "checks", "list", "show", "verify", "rollback",
        "pin", "unpin", "gc", "doctor",
    }  # fmt: skip


def test_models_as_json_have_the_keys_of_the_contract() -> None:
    done = call("models", "--json")
    rows = json.loads(done.stdout)
    assert done.exit_code == 0
    assert all(set(row) == MODEL_KEYS for row in rows)
    assert {row["likelihood"] for row in rows} <= {"exact", "bound", "none"}


@pytest.mark.parametrize("command", ["models", "sources", "checks"])
def test_what_there_is_is_listed_as_a_table_too(command: str) -> None:
    assert call(command).stdout.startswith("kind")


@pytest.mark.parametrize(("status", "code"), [("published", 0), ("unchanged", 0), ("refused", 3)])
def test_the_exit_status_says_what_became_of_a_run(outcome: Any, status: str, code: int) -> None:
    outcome(status)
    done = call("run", "--json")
    assert done.exit_code == code
    document = json.loads(done.stdout)
    assert set(document) == RUN_KEYS
    assert document["status"] == status


def test_a_run_ends_by_saying_where_everything_is(outcome: Any, tmp_path: Path) -> None:
    outcome("published")
    done = call("run")
    assert f"dataset   {tmp_path}" in done.stdout
    assert f"report    {tmp_path}/report/index.html" in done.stdout
    assert "picture   none" in done.stdout


def test_a_refused_run_says_where_it_is_kept_and_why(outcome: Any, tmp_path: Path) -> None:
    outcome("refused")
    done = call("run")
    assert f"kept at   {tmp_path}" in done.stdout
    assert "class_plan (critical): Half." in done.stdout


def test_a_wrong_run_file_is_one_sentence_and_status_two(outcome: Any, tmp_path: Path) -> None:
    outcome("published")
    (tmp_path / "run.yaml").write_text("trian: {}")
    done = call("run", str(tmp_path / "run.yaml"))
    assert done.exit_code == 2
    assert done.stderr == f"augment: {tmp_path}/run.yaml: trian is not a known key; did you mean 'train'?\n"
    assert done.stdout == ""


def test_an_error_with_json_is_one_document_too(outcome: Any) -> None:
    outcome(IntegrityError("a file is altered."))
    done = call("run", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout) == {"error": {"kind": "IntegrityError", "message": "a file is altered."}}


def test_a_fault_of_ours_is_status_one_and_its_traceback_is_shown_on_demand(outcome: Any) -> None:
    outcome(ZeroDivisionError("division\nby zero"))
    quiet, loud = call("run"), call("run", "-v")
    assert quiet.exit_code == loud.exit_code == 1
    assert quiet.stderr == "augment: unexpected ZeroDivisionError: division by zero\n"
    assert "Traceback" in loud.stderr


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [((), None, 0), (("--publish",), "published", 0), (("--publish",), "refused", 3), (("--publish",), None, 3)],
)
def test_the_exit_status_says_what_became_of_a_comparison(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: tuple[str, ...], status: str | None, code: int
) -> None:
    entry = Entry(rank=1, name="vae", model={}, verdict="refused", refused_by=["joint"], reasons=["Too far."])
    found = Comparison(dataset="x", metric="macro_f1", seeds=2, winner=None, worth=None, entries=[entry])
    published = publication(status, tmp_path) if status else None
    outcome = Outcome(comparison=found, path=str(tmp_path), publication=published)

    def compare_here(load: Any, kinds: list[str], publish: bool, verbose: bool = False) -> Outcome:
        assert load().name == "digits-scarce"
        assert (kinds, publish) == (["vae", "gan"], bool(asked))
        return outcome

    monkeypatch.setattr("flows.local_run.compare_here", compare_here)
    done = call("compare", "--models", "vae, gan,", *asked, "--json")
    assert done.exit_code == code
    document = json.loads(done.stdout)
    assert document["entries"][0]["reasons"] == ["Too far."]
    assert (document["publication"] or {}).get("status") == status
    told = call("compare", "--models", "vae,gan", *asked).stdout
    assert "refused: joint" in told
    assert "vae: Too far." in told


def test_a_search_prints_what_each_trial_tried_and_the_command_that_publishes_the_best(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lift = ValidationLift(
        metric="macro_f1", best_with="a", best_without="b", score_with=0.8, score_without=0.7, by_seed=[0.1],
        mean=0.1, standard_error=None, log_loss=0.5,
    )  # fmt: skip
    settings = {"model.beta": 0.5, "generate.select.density": None}
    first = Entry(rank=1, name="trial-1", model={}, settings=settings, verdict="passed", validation=lift)
    second = Entry(rank=2, name="trial-0", model={}, verdict="refused", refused_by=["joint"], reasons=["Too far."])
    worth = unmeasured_record("nobody asked", "macro_f1")
    found = Comparison(
        dataset="x", metric="macro_f1", seeds=1, winner="trial-1", worth=worth, entries=[first, second],
        searched={key: {} for key in settings},
    )  # fmt: skip
    outcome = Outcome(comparison=found, path=str(tmp_path))

    def tune_here(load: Any, trials: int, keep: list[str], verbose: bool = False) -> Outcome:
        assert load().train.steps == 7
        assert (trials, keep) == (5, ["plan"])
        return outcome

    monkeypatch.setattr("flows.local_run.tune_here", tune_here)
    asked = ("--trials", "5", "--keep", "plan", "--set", "train.steps=7", "--store", str(tmp_path))
    document = json.loads(call("tune", *asked, "--json").stdout)
    chosen = ["--set", "model.beta=0.5", "--set", "generate.select.density=null"]
    assert document["command"] == ["augment", "run", "--store", str(tmp_path), "--set", "train.steps=7", *chosen]
    told = call("tune", *asked).stdout
    assert "+10.0" in told.splitlines()[1]
    assert told.splitlines()[1].split()[-2:] == ["0.5", "null"]
    assert "refused: joint" in told
    assert told.rstrip().endswith("--set model.beta=0.5 --set generate.select.density=null")
    assert "Its settings: `--set model.beta=0.5 " in as_markdown(found)
    harmful = found.model_copy(update={"worth": worth.model_copy(update={"verdict": "harms"})})
    outcome.comparison = harmful
    assert json.loads(call("tune", *asked, "--json").stdout)["command"] is None
    assert call("tune", *asked).stdout.rstrip().endswith("Its rows harm, so there is nothing to publish.")


def test_a_column_of_a_search_has_the_shortest_name_that_no_other_has() -> None:
    keys = ["model.beta", "generate.select.density", "plan.density", "model.optimiser.beta"]
    assert [short_name(key, keys) for key in keys] == ["model.beta", "select.density", "plan.density", "optimiser.beta"]


def test_a_comparison_needs_models(outcome: Any) -> None:
    assert call("compare").exit_code == 2


def test_an_unknown_command_or_option_is_status_two() -> None:
    assert call("rnu").exit_code == 2
    assert call("run", "--sett", "x").exit_code == 2


@pytest.mark.parametrize(
    "command", [["list"], ["show", "x"], ["verify", "x"], ["rollback", "x", "v"], ["pin", "x", "v"], ["gc"]]
)
def test_a_store_that_is_not_there_is_refused_and_not_made(command: list[str], tmp_path: Path) -> None:
    done = call(*command, "--store", str(tmp_path / "none"))
    assert done.exit_code == 2
    assert "there is no store at" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_dataset_that_is_not_there_is_status_two(tmp_path: Path) -> None:
    assert call("list", "--json", "--store", str(tmp_path)).stdout == "[]\n"
    assert call("show", "nothing", "--store", str(tmp_path)).exit_code == 2
    assert call("gc", "--dry-run", "--store", str(tmp_path)).exit_code == 0


def test_the_plan_of_the_example_counts_rows_and_trains_nothing(tmp_path: Path) -> None:
    done = call("plan", "--json", "--store", str(tmp_path / "store"))
    document = json.loads(done.stdout)
    assert done.exit_code == 0
    by_class = {row["name"]: row for row in document["classes"]}
    assert by_class["1"]["train"] == 10
    assert by_class["1"]["train"] + by_class["1"]["synthetic"] == by_class["4"]["train"]
    parameters = document["model"]["parameters"]
    assert parameters > 0
    cost = document["cost"]
    assert cost["weights_bytes"] == 4 * parameters
    assert cost["rows_trained_on"] == cost["steps"] * document["model"]["batch_size"]
    assert cost["rows_drawn"] == sum(row["synthetic"] for row in document["classes"])
    assert cost["shards"] == 1
    parts = [sum(row[part] for row in document["classes"]) for part in ("train", "validation", "test")]
    rows = sum(parts) + cost["rows_drawn"]
    assert cost["drawn_bytes"] > 0
    assert cost["published_bytes"] / rows == pytest.approx(cost["drawn_bytes"] / cost["rows_drawn"], rel=0.5)
    assert not (tmp_path / "store" / "stages" / "train").exists()


def test_the_plan_refuses_a_check_that_the_data_cannot_answer(tmp_path: Path) -> None:
    checks = 'checks=[{kind: posterior_predictive, measures: ["image.inc"]}]'
    done = call("plan", "--store", str(tmp_path / "store"), "--set", checks)
    assert done.exit_code == 2
    assert "names 'image.inc', which these data do not have; they have: image.mean" in done.stderr


def test_the_plan_says_what_it_costs_for_a_person_too(tmp_path: Path) -> None:
    said = call("plan", "--store", str(tmp_path / "store"), "--set", "generate.shard_rows=100").stdout
    bytes_ = r"[\d.]+ [kM]B"
    assert re.search(rf"^size +weights {bytes_}, drawn rows about {bytes_}, published about {bytes_}$", said, re.M)
    assert re.search(r"^drawing +\d+ rows, \d+ evaluations of the model, \d+ shards$", said, re.M)
    assert re.search(r"^operator +prior: each row is drawn from its label alone", said, re.M)


@pytest.mark.parametrize(("count", "said"), [(0, "0 B"), (999, "999 B"), (999_600, "1 MB"), (2_500_000_000, "2.5 GB")])
def test_sizes_are_written_for_people(count: int, said: str) -> None:
    assert size(count) == said


def test_plan_refuses_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call("plan", "--store", str(tmp_path / "file" / "store"))
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


def test_the_doctor_names_versions_that_are_known_to_break(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"prefect": (3, 8, 8), "sqlalchemy": (2, 1, 9), "fastapi": (0, 155, 0), "torch": (2, 15, 0)}
    monkeypatch.setattr("augment.doctor._version", versions.get)
    broken = [finding.subject for finding in examine_versions() if finding.verdict == "broken"]
    assert broken == ["sqlalchemy", "fastapi"]


def test_the_doctor_ends_with_status_one_where_something_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("augment.doctor.examine", lambda *_: [Finding("fastapi", "broken", "too new.")])
    done = call("doctor", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == [{"subject": "fastapi", "verdict": "broken", "sentence": "too new."}]


def test_the_api_of_the_active_profile_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_PROFILE", raising=False)
    assert configured_api() is None
    (tmp_path / "profiles.toml").write_text('active = "a"\n[profiles.a]\nPREFECT_API_URL = "http://h/api"\n')
    assert configured_api() == "http://h/api"


def test_telemetry_is_off_in_every_dependency() -> None:
    assert NO_TELEMETRY["PREFECT_SERVER_ANALYTICS_ENABLED"] == NO_TELEMETRY["GX_ANALYTICS_ENABLED"] == "false"
    assert NO_TELEMETRY["DO_NOT_TRACK"] == NO_TELEMETRY["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert not set(NO_TELEMETRY) & set(API_SETTINGS)


def test_progress_says_rate_loss_and_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.0, 20.0, 20.0, 30.0, 30.0])
    monkeypatch.setattr("flows.progress.time.monotonic", lambda: next(clock))
    pace = Pace()
    assert pace.due(0, 5.0, False)
    assert pace.figures(300, "step", None) == ""
    assert pace.due(100, 5.0, False)
    assert pace.figures(300, "step", {"loss": 23.123, "kl": 1.0}) == ", 10 steps/s, loss 23.12, 20 s left"
    assert pace.due(0, 5.0, False), "a stage that starts over is said at once"
    assert pace.figures(300, "step", None) == ""


def test_a_total_that_nobody_knows_yet_is_not_shown() -> None:
    assert amount(1797, 0, "row") == "1,797 rows"
    assert amount(5, 10, "row") == "5 of 10 rows"
