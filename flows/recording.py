"""The run as the store remembers it: which artifacts it uses, and what became of it."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from prefect.runtime import flow_run

from augment.config import BalancePlan, RunConfig, relative_paths
from augment.errors import InputError
from augment.publishing import RunContext
from augment.runs import RunRecord
from augment.store import ArtifactRef, Store, hash_json


class Run:
    """A run in progress; ``keep`` what it makes, so that garbage collection leaves it alone."""

    def __init__(self, record: RunRecord, context: RunContext) -> None:
        self.context = context
        self._record = record

    @property
    def kept(self) -> list[ArtifactRef]:
        """All that this run uses."""
        return list(self._record.artifacts)

    def keep(self, ref: ArtifactRef) -> ArtifactRef:
        """``ref``, noted as used by this run."""
        self._record.note(ref)
        return ref

    def ended(self, status: str) -> None:
        """Note what became of this run."""
        self._record.finish(status)


@contextlib.contextmanager
def recorded(config: RunConfig) -> Iterator[Run]:
    """A run of ``config`` that the store knows of.

    A run that fails is noted as failed. One that is told to stop, or killed, stays noted as running: its work waits to
    be taken up again.

    Raises:
        InputError: the config has relative paths, or the store cannot be written.
    """
    refuse_relative_paths(config)
    context = run_context(config)
    record = RunRecord.start(Store.open(config.store), context.run_id, hash_json(context.config))
    try:
        yield Run(record, context)
    except Exception:
        record.finish("failed")
        raise


def refuse_relative_paths(config: RunConfig) -> None:
    """Return if no path in ``config`` depends on the current folder, which on a worker is nobody's choice.

    Raises:
        InputError: there is a relative path.
    """
    relative = relative_paths(config)
    if "://" not in config.store and not Path(config.store).expanduser().is_absolute():
        relative.append("store")
    if relative:
        raise InputError(f"{relative[0]} is a relative path; a run on a server needs absolute ones.")


def run_context(config: RunConfig) -> RunContext:
    """What a publication must know of the run that is going on."""
    identifier = flow_run.get_id()
    return RunContext(
        run_id=identifier or str(uuid.uuid4()),
        config=config.model_dump(mode="json"),
        seed=config.seed,
        equal_class_mass=isinstance(config.plan, BalancePlan),
        code_commit=code_commit(),
        flow_run_id=identifier,
    )


def code_commit() -> str | None:
    """The commit of the checkout that this code runs from, or null where it is none."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return None
