"""A run here and now: Prefect's API for as long as it takes, the flow in this process, progress on the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from augment.errors import InputError
from flows.local_server import local_api, silence_telemetry

if TYPE_CHECKING:
    from augment.config import RunConfig
    from augment.publishing import Publication
    from flows.candidates import Outcome


def run_here(load: Callable[[], RunConfig], verbose: bool = False) -> Publication:
    """What became of the run that ``load`` describes. Nothing is written to standard output.

    Raises:
        AugmentError: the run file is wrong, the API cannot start, or a stage failed.
    """
    started = time.monotonic()
    with _ready(load, verbose) as config:
        from flows.augment_dataset import augment_dataset, outcome_of

        publication = outcome_of(augment_dataset(config, return_state=True))
    return publication.model_copy(update={"seconds": round(time.monotonic() - started, 3)})


def compare_here(load: Callable[[], RunConfig], kinds: list[str], publish: bool, verbose: bool = False) -> Outcome:
    """What became of the comparison of models of these kinds, in the run that ``load`` describes.

    Raises:
        AugmentError: as :func:`run_here`; or there is no such kind.
    """
    with _ready(load, verbose) as config:
        from augment.comparison import chosen_models
        from flows.compare_generators import compare_generators, outcome_of

        models = chosen_models(config, kinds)
        return outcome_of(compare_generators(config, models, publish, return_state=True))


def tune_here(load: Callable[[], RunConfig], trials: int, keep: list[str], verbose: bool = False) -> Outcome:
    """What became of the search over settings of the run that ``load`` describes.

    Raises:
        AugmentError: as :func:`run_here`; or there is nothing to search, or to choose from.
    """
    with _ready(load, verbose) as config:
        from flows.tune_generator import outcome_of, tune_generator

        return outcome_of(tune_generator(config, trials, keep, return_state=True))


@contextlib.contextmanager
def _ready(load: Callable[[], RunConfig], verbose: bool) -> Iterator[RunConfig]:
    """What ``load`` gives, with an API to run flows by and a terminal that shows how far they are.

    The API starts first and gets ready while ``load`` and the imports take their time.
    """
    _prepare_environment(verbose)
    with contextlib.redirect_stdout(sys.stderr), local_api() as server:
        config = load()
        if server is not None:
            _refuse_placement(config)
        from augment.store import Store

        Store.open(config.store)
        import flows.augment_dataset  # noqa: F401  (takes seconds, which the API takes too)
        from flows.progress import SHOWN, terminal_listener

        if server is not None:
            server.wait()
        with warnings.catch_warnings(), terminal_listener() as listener:
            if not verbose:
                warnings.simplefilter("ignore")
            token = SHOWN.set(listener)
            try:
                yield config
            finally:
                SHOWN.reset(token)


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
