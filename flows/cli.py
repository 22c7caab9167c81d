"""The command line, ``augment``: it starts flows and shows what there is.

Heavy modules (Prefect, torch, Great Expectations) are imported inside the commands that need them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from augment.errors import InputError
from flows import listing
from flows.printing import print_json, print_publication, print_table
from flows.sentences import Sentences

if TYPE_CHECKING:
    from augment.config import RunConfig
    from augment.store import Store

REFUSED = 3


def _remember_json(ctx: typer.Context, value: bool) -> bool:
    ctx.find_root().obj = {**(ctx.find_root().obj or {}), "json": value}
    return value


def _remember_verbose(ctx: typer.Context, value: bool) -> bool:
    ctx.find_root().obj = {**(ctx.find_root().obj or {}), "verbose": value}
    return value


app = typer.Typer(
    name="augment",
    cls=Sentences,
    help="Synthetic training data, published only with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunFile = Annotated[Path | None, typer.Argument(metavar="[RUN.yaml]", help="The run file; without it the example.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change a setting; repeatable.")]
RunStore = Annotated[str | None, typer.Option("--store", metavar="DIR", help="Instead of the run file's store.")]
StoreFolder = Annotated[str, typer.Option("--store", metavar="DIR", help="The folder of artifacts and datasets.")]
Json = Annotated[bool, typer.Option("--json", callback=_remember_json, help="One JSON document on standard output.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", callback=_remember_verbose, help="Show logs, tracebacks.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The dataset.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="The version, or the start of its hex digits.")]
OneVersion = Annotated[str | None, typer.Option("--version", help="Another version than the latest.")]


@app.command()
def run(
    file: RunFile = None,
    set_: Settings = None,
    store: RunStore = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Run the whole flow, here and now: from the source to a published dataset, or a refusal that says why."""
    from flows.local_run import run_here

    publication = run_here(_loader(file, set_, store), verbose)
    if json:
        print_json(publication.model_dump(mode="json"))
    else:
        print_publication(publication)
    if publication.status == "refused":
        print(f"augment: {publication.dataset} is not blessed; see {publication.path}.", file=sys.stderr)
        raise typer.Exit(REFUSED)


@app.command()
def plan(
    file: RunFile = None,
    set_: Settings = None,
    store: RunStore = None,
    json: Json = False,
    verbose: Verbose = False,  # noqa: ARG001  (its callback remembers it)
) -> None:
    """Check everything and show what would be made and what it would cost; nothing is trained."""
    from augment.runfile import load_run_config
    from flows.planning import describe_run, print_plan

    described = describe_run(load_run_config(file, set_ or [], store))
    if json:
        print_json(described)
    else:
        print_plan(described)


@app.command()
def compare(
    kinds: Annotated[str, typer.Option("--models", metavar="KIND,KIND,...", help="The models; see `augment models`.")],
    file: RunFile = None,
    publish: Annotated[bool, typer.Option("--publish", help="Publish the dataset of the best model.")] = False,
    set_: Settings = None,
    store: RunStore = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train several models and rank them on validation rows, in one table; the best alone is measured on test rows."""
    from flows.comparison_table import as_document, print_outcome
    from flows.local_run import compare_here

    named = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    outcome = compare_here(_loader(file, set_, store), named, publish, verbose)
    print_json(as_document(outcome)) if json else print_outcome(outcome)
    if publish and (outcome.publication is None or outcome.publication.status == "refused"):
        reason = "no model passes the gates" if outcome.publication is None else "the best model is refused"
        print(f"augment: {outcome.comparison.dataset} is not blessed, because {reason}.", file=sys.stderr)
        raise typer.Exit(REFUSED)


@app.command()
def tune(
    file: RunFile = None,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=2, max=10_000, help="Settings tried, the run file's first.")
    ] = 20,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="A.B", help="A setting, or section, that is not varied; repeatable."),
    ] = None,
    set_: Settings = None,
    store: RunStore = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Search settings of the model, ratio and selection on validation rows; the best are measured on test rows."""
    from flows.comparison_table import as_search_document, print_search
    from flows.local_run import tune_here

    outcome = tune_here(_loader(file, set_, store), trials, keep or [], verbose)
    given = [
        *(["--store", store] if store is not None else []),
        *(part for one in set_ or [] for part in ("--set", one)),
    ]
    command = ["augment", "run", *([str(file)] if file else []), *given]
    print_json(as_search_document(outcome, command)) if json else print_search(outcome, command)


@app.command()
def models(json: Json = False) -> None:
    """List the generative models: what each accepts and offers, and what drawing costs."""
    _show(listing.model_rows(), json)
    if not json:
        for sentence in listing.refused_forms():
            print(sentence)


@app.command()
def sources(json: Json = False) -> None:
    """List the kinds of sources that rows are read from."""
    _show(listing.source_rows(), json)


@app.command()
def checks(json: Json = False) -> None:
    """List the gates that there are checks for, and which cannot be left out."""
    _show(listing.check_rows(), json)


@app.command("list")
def list_datasets(store: StoreFolder = "./store", json: Json = False) -> None:
    """List the published datasets of a store."""
    from augment.versions import list_datasets

    found = list_datasets(_existing(store))
    if json:
        print_json([summary.model_dump(mode="json") for summary in found])
        return
    rows = listing.dataset_rows(found)
    print_table(rows, ["dataset", "versions", "latest", "real", "synthetic"])


@app.command()
def show(
    name: Name,
    path: Annotated[bool, typer.Option("--path", help="Print the version's folder and nothing else.")] = False,
    version: OneVersion = None,
    store: StoreFolder = "./store",
    json: Json = False,
) -> None:
    """Show the versions of a dataset, and the gates of the latest."""
    from augment.versions import list_versions
    from augment.versions import show as show_version

    opened = _existing(store)
    folder, manifest = show_version(opened, name, version)
    if path and not json:
        print(folder)
        return
    versions = [summary.model_dump(mode="json") for summary in list_versions(opened, name)]
    gates = [gate.model_dump(mode="json") for gate in manifest.gates]
    if json:
        shown = {"dataset": name, "version": manifest.version, "path": str(folder), "verdict": manifest.verdict}
        print_json({**shown, "rows": manifest.rows, "gates": gates, "versions": versions})
        return
    print_table(versions, ["version", "created", "latest", "pinned", "bytes"])
    print(f"\n{manifest.version}: {manifest.verdict}, {folder}\n")
    print_table([{"class": key, **rows} for key, rows in manifest.rows.items()], ["class", "real", "synthetic"])
    print()
    print_table(gates, ["gate", "passed", "value", "limit", "severity", "sentence"])


@app.command()
def verify(name: Name, version: OneVersion = None, store: StoreFolder = "./store", json: Json = False) -> None:
    """Compare every byte of a version with its manifest; exit status 3 where something is altered."""
    from augment.versions import verify

    found = verify(_existing(store), name, version).model_dump(mode="json")
    wrong = {kind: found[kind] for kind in ("altered", "missing", "extra") if found[kind]}
    if json:
        print_json({**found, "intact": not wrong})
    for kind, names in wrong.items():
        print(f"augment: {kind} in {found['path']}: {', '.join(names)}", file=sys.stderr)
    if wrong:
        raise typer.Exit(REFUSED)
    if not json:
        print(f"{found['dataset']} {found['version']}: {found['files']} files, as published")


@app.command()
def rollback(name: Name, version: Version, store: StoreFolder = "./store", json: Json = False) -> None:
    """Make an older version the latest again."""
    from augment.versions import rollback

    now = rollback(_existing(store), name, version).model_dump(mode="json")
    print_json({"dataset": name, "latest": now}) if json else print(f"the latest {name} is {now['version']}")


@app.command()
def pin(name: Name, version: Version, store: StoreFolder = "./store", json: Json = False) -> None:
    """Keep a version whatever garbage collection does."""
    from augment.versions import pin

    pinned = pin(_existing(store), name, version)
    print_json({"dataset": name, "pinned": pinned}) if json else print(f"{name} {pinned} is pinned")


@app.command()
def unpin(name: Name, version: Version, store: StoreFolder = "./store", json: Json = False) -> None:
    """Let garbage collection take a version again."""
    from augment.versions import unpin

    unpinned = unpin(_existing(store), name, version)
    print_json({"dataset": name, "unpinned": unpinned}) if json else print(f"{name} {unpinned} is no longer pinned")


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreFolder = "./store",
    json: Json = False,
) -> None:
    """Remove what no kept version or unfinished run refers to."""
    from augment.versions import collect_garbage

    garbage = collect_garbage(_existing(store), dry_run).model_dump(mode="json")
    if json:
        print_json(garbage)
        return
    print_table(garbage["removed"], ["kind", "bytes", "path"])
    print(f"\n{'would free' if dry_run else 'freed'} {garbage['bytes']:,} bytes")


@app.command()
def doctor(store: StoreFolder = "./store", json: Json = False) -> None:
    """Look for what is known to break: versions, GPU, Prefect's API and database, the store."""
    from augment.doctor import examine
    from flows.local_server import configured_api, configured_database, prefect_home

    findings = examine(store, prefect_home(), configured_api(), configured_database())
    if json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.verdict:<7} {finding.subject:<12} {finding.sentence}")
    if any(finding.verdict == "broken" for finding in findings):
        raise typer.Exit(1)


def _loader(file: Path | None, settings: list[str] | None, store: str | None) -> Callable[[], RunConfig]:
    """What reads the run file, when the time has come for the imports that this takes."""

    def load() -> RunConfig:
        from augment.runfile import load_run_config

        return load_run_config(file, settings or [], store)

    return load


def _show(rows: list[dict[str, Any]], json: bool) -> None:
    if json:
        print_json(rows)
    else:
        print_table(rows, rows[0] if rows else [])


def _existing(location: str) -> Store:
    """The store at ``location``, which must be there already.

    Raises:
        InputError: there is none.
    """
    from augment.store import Store

    folder = Path(location).expanduser().absolute()
    if not folder.is_dir():
        raise InputError(f"there is no store at {folder}; give its folder with --store.")
    return Store(folder)


def main() -> None:
    """The entry point of the ``augment`` command."""
    from flows.local_server import silence_telemetry

    silence_telemetry()
    try:
        app()
    except SystemExit as end:
        leave(end.code)
    leave(0)


def leave(status: object) -> None:
    """End the process with ``status`` at once: unloading Prefect and torch module by module takes seconds."""
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()  # what still has to be sent or removed
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr, flush=True)
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    main()
