"""Which settings to try next: a search over the model, how rows are drawn and how many, and which of them are kept.

::

    search_space   run file -> the settings that are searched, and their bounds
    suggest        what was tried, and what came of it -> the settings of the next trial
    with_settings  run file, settings -> the run of a trial

A suggestion is a function of the seed and of the trials before it, and of nothing else. So a search that was killed
needs no memory of its own: its trials are in the store, and it takes the same way through them again.

A Tree-structured Parzen Estimator suggests (Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization); of
trials that a gate refused it learns where rows are refused, and by how many gates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from augment._seeding import derive_seed
from augment.config import RunConfig
from augment.errors import InputError, did_you_mean
from augment.makers import maker
from models._settings import Choice, Range, Searched

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

AT_RANDOM = 8  # trials whose settings are drawn at random before the estimator has anything to go by
DIGITS = 3  # of a setting: more would be noise in a run file
BITS = 32  # of the seed that the sampler takes

Space = dict[str, Searched]
Settings = dict[str, Any]


class Tried(NamedTuple):
    """Settings as :func:`setting` gives them, their lift on validation rows, and how many gates refused the rows.

    ``lift`` is null where nothing was measured.
    """

    settings: Settings
    lift: float | None
    refusals: int


def search_space(config: RunConfig, keep: Sequence[str] = ()) -> Space:
    """The settings that a search of the run ``config`` varies; what ``keep`` names, whole or a section, stays.

    Raises:
        InputError: ``keep`` names nothing that is searched, or leaves nothing.
    """
    sections = {"plan": config.plan, "generate.select": config.generate.select}
    space: Space = dict(maker(config).searched())
    for prefix, section in sections.items():
        space |= {f"{prefix}.{name}": bounds for name, bounds in section.searched.items()}
    for name in keep:
        kept = [key for key in space if key == name or key.startswith(f"{name}.")]
        if not kept:
            raise InputError(f"--keep: '{name}' is no setting that is searched{did_you_mean(name, space)}")
        space = {key: bounds for key, bounds in space.items() if key not in kept}
    if not space:
        raise InputError("--keep leaves no setting to be searched; keep fewer.")
    return space


def setting(config: RunConfig, key: str) -> Any:
    """The value that ``config`` has at ``key``, such as ``model.beta``."""
    section: Any = config
    for name in key.split("."):
        section = getattr(section, name)
    return section


def with_settings(config: RunConfig, settings: Settings) -> RunConfig:
    """The run ``config`` with other values for some keys.

    Raises:
        InputError: they do not go together.
    """
    changed = config
    for key, value in settings.items():
        changed = _replaced(changed, key.split("."), value)
    try:
        for name in sorted({key.partition(".")[0] for key in settings}):
            section = getattr(changed, name)
            checked = type(section).model_validate(section.model_dump())
            changed = changed.model_copy(update={name: checked})
    except ValidationError as error:
        raise InputError(f"these settings do not go together: {_reason(error)}.") from None
    maker(changed).refuse()
    return changed


def suggest(space: Space, tried: Sequence[Tried], seed: int) -> Settings:
    """The settings of the next trial. They follow from the arguments alone."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # or else it says of every trial that a study was made
    try:
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=AT_RANDOM, seed=derive_seed(seed, "tune", len(tried)) % 2**BITS
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        distributions = {key: _distribution(bounds) for key, bounds in space.items()}
        study.add_trials([_as_trial(one, space, distributions) for one in tried])
        asked = study.ask(distributions)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {key: _value(asked.params[key], bounds) for key, bounds in space.items()}


def described(space: Space) -> dict[str, Any]:
    """The space as plain JSON values."""
    return {
        key: list(bounds.values) if isinstance(bounds, Choice) else bounds._asdict() for key, bounds in space.items()
    }


def _reason(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ").rstrip(".")


def _replaced(section: Any, keys: Sequence[str], value: Any) -> Any:
    first, *rest = keys
    return section.model_copy(update={first: _replaced(getattr(section, first), rest, value) if rest else value})


def _distribution(bounds: Searched) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(bounds, Choice):
        return CategoricalDistribution(list(range(len(bounds.values))))  # places: a value may be of any type
    if bounds.whole:
        return IntDistribution(int(bounds.low), int(bounds.high), log=bounds.log)
    return FloatDistribution(bounds.low, bounds.high, log=bounds.log)


def _value(drawn: Any, bounds: Searched) -> Any:
    """What is written in a run file for what the sampler drew."""
    if isinstance(bounds, Choice):
        return bounds.values[drawn]
    if bounds.whole:
        return int(drawn)
    return min(max(float(f"{drawn:.{DIGITS}g}"), bounds.low), bounds.high)


def _as_trial(tried: Tried, space: Space, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A trial as the sampler reads it; settings outside the space, such as null, tell it nothing."""
    from optuna.trial import TrialState, create_trial

    known = {key: _drawn(tried.settings[key], bounds) for key, bounds in space.items()}
    params = {key: value for key, value in known.items() if value is not None}
    return create_trial(
        state=TrialState.PRUNED if tried.lift is None else TrialState.COMPLETE,
        value=tried.lift,
        params=params,
        distributions={key: distributions[key] for key in params},
        constraints={"refusals": float(tried.refusals)},
    )


def _drawn(value: Any, bounds: Searched) -> Any:
    """What the sampler would have drawn to give ``value``; null where it cannot."""
    if isinstance(bounds, Choice):
        return bounds.values.index(value) if value in bounds.values else None
    assert isinstance(bounds, Range)
    return value if value is not None and bounds.low <= value <= bounds.high else None
