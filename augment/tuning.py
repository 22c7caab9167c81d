"""Which settings to try next: a search over the model, how rows are drawn and how many, and which of them are kept.

::

    search_space   run file -> the settings that are searched, and their bounds
    suggest        what was tried, and what came of it -> the settings of the next trial
    with_settings  run file, settings -> the run of a trial
    found_out      trial -> what the search learns from it

A suggestion is a function of the seed and of the trials before it, and of nothing else. So a search that was killed
needs no memory of its own: its trials are in the store, and it takes the same way through them again.

A Tree-structured Parzen Estimator suggests (Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization). It is
told the score by which trials are ranked; of those that a gate refused it learns where rows are refused, and by how
many gates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from augment._seeding import derive_seed
from augment.comparison import Cost, Trial, ranked
from augment.config import RunConfig
from augment.errors import InputError, did_you_mean
from augment.makers import maker
from augment.store import Store
from models._searched import OneOf, Searched

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

AT_RANDOM = 8  # trials whose settings are drawn at random before the estimator has anything to go by
ASKED_AGAIN = 30  # times, where the sampler suggests what was tried already
BITS = 32  # of the seed that the sampler takes
TIE = 1e-4  # points of lift that a nat of log loss counts, which decides between equal lifts

Space = dict[str, Searched]
Settings = dict[str, Any]


class Tried(NamedTuple):
    """Settings as :func:`setting` gives them, their score, and how many gates refused the rows.

    ``score`` is null where nothing was measured.
    """

    settings: Settings
    score: float | None
    refusals: int


def search_space(config: RunConfig, keep: Sequence[str] = ()) -> Space:
    """The settings that a search of the run ``config`` varies; what ``keep`` names, whole or a section, stays.

    Raises:
        InputError: ``keep`` names nothing or leaves nothing, or the run file has settings that no bounds go with.
    """
    space: Space = dict(maker(config).searched())
    for prefix, section in {"plan": config.plan, "generate.select": config.generate.select}.items():
        space |= {f"{prefix}.{name}": bounds for name, bounds in section.searched.items()}
    kept: set[str] = set()
    for name in keep:
        named = {key for key in space if key == name or key.startswith(f"{name}.")}
        if not named and not _is_there(config, name):
            raise InputError(f"--keep: '{name}' is no setting that is searched{did_you_mean(name, space)}")
        kept |= named
    space = {key: bounds for key, bounds in space.items() if key not in kept}
    if not space:
        raise InputError("--keep leaves no setting to be searched; keep fewer.")
    for end in (0, 1):
        try:
            with_settings(config, {key: bounds.ends[end] for key, bounds in space.items()})
        except InputError as error:
            raise InputError(
                f"the run file has settings that a search does not go with ({str(error).rstrip('.')}); change them, or "
                "name what is to stay with --keep."
            ) from None
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


def suggest(space: Space, tried: Sequence[Tried], seed: int) -> Settings | None:
    """The settings of the next trial, null where all that were asked for were tried. They follow from the arguments."""
    import optuna

    known = [one.settings for one in tried]
    distributions = {key: _distribution(bounds) for key, bounds in space.items()}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # or else it says of every trial that a study was made
    try:
        for turn in range(ASKED_AGAIN):
            own_seed = derive_seed(seed, "tune", len(tried), turn) % 2**BITS
            sampler = optuna.samplers.TPESampler(n_startup_trials=AT_RANDOM, seed=own_seed)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.add_trials([_as_trial(one, space, distributions) for one in tried])
            drawn = study.ask(distributions).params
            settings = {key: bounds.setting(drawn[key]) for key, bounds in space.items()}
            if settings not in known:
                return settings
    finally:
        optuna.logging.set_verbosity(verbosity)
    return None


def found_out(config: RunConfig, trial: Trial, space: Space, store: Store) -> Tried:
    """What the search learns from a ``trial``, whose run is ``config`` with the settings of the trial."""
    (entry,) = ranked([trial], [Cost()], config.worth.metric, store).entries
    settings: Settings = {}
    for key, bounds in space.items():
        value = trial.settings.get(key, setting(config, key))
        if value is None and isinstance(bounds, OneOf) and None not in bounds.values:
            value = bounds.values[0]  # what is left to the model
        settings[key] = value
    lift = entry.validation
    score = None if lift is None else lift.mean - TIE * lift.log_loss
    return Tried(settings, score, len(entry.refused_by) + (entry.verdict == "failed"))


def described(space: Space) -> dict[str, Any]:
    """The space as plain JSON values."""
    return {key: bounds._asdict() for key, bounds in space.items()}


def _is_there(config: RunConfig, key: str) -> bool:
    """Whether a run file can have ``key``, so that a search leaves it alone."""
    try:
        setting(config, key)
    except AttributeError:
        return False
    return True


def _reason(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ").rstrip(".")


def _replaced(section: Any, keys: Sequence[str], value: Any) -> Any:
    first, *rest = keys
    return section.model_copy(update={first: _replaced(getattr(section, first), rest, value) if rest else value})


def _distribution(bounds: Searched) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(bounds, OneOf):
        return CategoricalDistribution(list(range(len(bounds.values))))  # places: a value may be of any type
    if bounds.whole:
        return IntDistribution(int(bounds.low), int(bounds.high), log=bounds.log)
    return FloatDistribution(bounds.low, bounds.high, log=bounds.log)


def _as_trial(tried: Tried, space: Space, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A trial as the sampler reads it; settings outside the space, such as null, tell it nothing."""
    from optuna.trial import TrialState, create_trial

    drawn = {key: bounds.drawn(tried.settings[key]) for key, bounds in space.items()}
    params = {key: value for key, value in drawn.items() if value is not None}
    return create_trial(
        state=TrialState.PRUNED if tried.score is None else TrialState.COMPLETE,
        value=tried.score,
        params=params,
        distributions={key: distributions[key] for key in params},
        constraints={"refusals": float(tried.refusals)},
    )
