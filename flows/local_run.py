"""A run here and now: Prefect's API for as long as it takes, the flow in this process, progress on the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from augment.errors import AugmentError, InputError
from flows.local_server import local_api, silence_telemetry

if TYPE_CHECKING:
    from prefect import State

    from augment.config import RunConfig
    from augment.publishing import Publication


def run_here(load: Callable[[], RunConfig], verbose: bool = False) -> Publication:
    """What became of the run that ``load`` describes.

    The API starts first and gets ready while ``load`` and the imports take their time. Nothing is written to standard
    output.

    Raises:
        AugmentError: the run file is wrong, the API cannot start, or a stage failed.
    """
    started = time.monotonic()
    _prepare_environment(verbose)
    with contextlib.redirect_stdout(sys.stderr), local_api() as server:
        config = load()
        if server is not None:
            _refuse_placement(config)
        from augment.store import Store

        Store.open(config.store)
        from flows.augment_dataset import augment_dataset
        from flows.progress import SHOWN, terminal_listener

        if server is not None:
            server.wait()
        with warnings.catch_warnings(), terminal_listener() as listener:
            if not verbose:
                warnings.simplefilter("ignore")
            token = SHOWN.set(listener)
            try:
                publication = _outcome(augment_dataset(config, return_state=True))
            finally:
                SHOWN.reset(token)
    return publication.model_copy(update={"seconds": round(time.monotonic() - started, 3)})


def _prepare_environment(verbose: bool) -> None:
    """Set what Prefect and the others read when they are imported; what the user has set stays."""
    silence_telemetry()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")


def _refuse_placement(config: RunConfig) -> None:
    for name, value in config.placement:
        if value != "here":
            raise InputError(
                f"placement.{name} names the deployment '{value}', which needs a Prefect server; set PREFECT_API_URL."
            )


def _outcome(state: State[Any]) -> Publication:
    """What the flow returned, or the error that ended it."""
    from augment.publishing import Publication
    from flows.augment_dataset import RefusalError

    result = state.result(raise_on_failure=False)
    if isinstance(result, RefusalError):
        return result.publication
    if isinstance(result, BaseException):
        raise result
    if result is None:
        raise AugmentError(f"the run ended as {state.name} ({state.message}).")
    assert isinstance(result, Publication)
    return result
