"""The flow: a run config goes in, a published dataset comes out, or a refusal that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from augment.config import RunConfig
from augment.errors import AugmentError, NotBlessedError
from augment.publishing import Publication
from flows import placement, tasks
from flows.announcing import announce
from flows.auditing import audited
from flows.measuring import measure_worth
from flows.recording import recorded


@flow(
    name="augment-dataset",
    flow_run_name="augment-{config.name}-{config.model.kind}",
    on_cancellation=[placement.cancel_children_of],
    on_crashed=[placement.cancel_children_of],
    persist_result=False,
)
def augment_dataset(config: RunConfig) -> State[Publication]:
    """Augment a labelled dataset with synthetic rows, and publish it only with evidence.

    Ingests and splits the source, trains the model, draws and judges synthetic rows until each class has what the plan
    wants, audits all of it, and publishes a version. A run whose data, gates or readers refuse ends as `NotBlessed`;
    a run that would publish what is published already ends as `Unchanged`.
    """
    with recorded(config) as run:
        found = audited(config, run)
        worth = measure_worth(config, run, found.real, found.audit, found.drawn, found.draw_anew(run))
        context = run.context.with_findings(found.wanted, (found.reference,), worth)
        publication = tasks.publish(config, found.real, found.model, *found.drawn, found.audit, context)
        run.ended(publication.status)
    announce(publication, found.wanted)
    return final_state(publication)


class RefusalError(NotBlessedError):
    """A refusal as Prefect keeps it with the run's state; ``publication`` says what was refused."""

    def __init__(self, publication: Publication) -> None:
        reasons = [g.sentence for g in publication.gates if g.passed is False and g.severity == "critical"]
        super().__init__(" ".join(reasons), Path(publication.path))
        self.publication = publication


def final_state(publication: Publication) -> State[Any]:
    """How Prefect shows a publication: a refusal is Failed, and nobody tries it again."""
    if publication.status == "refused":
        refusal = RefusalError(publication)
        return Failed(name="NotBlessed", message=str(refusal), data=refusal)
    name = "Unchanged" if publication.status == "unchanged" else "Completed"
    return Completed(name=name, message=f"{publication.dataset} {publication.version}", data=publication)


def outcome_of(state: State[Any]) -> Publication:
    """What the flow returned, refused or not, or the error that ended it."""
    result = result_of(state, "run")
    if isinstance(result, RefusalError):
        return result.publication
    assert isinstance(result, Publication)
    return result


def result_of(state: State[Any], what: str) -> Any:
    """What a flow returned, a refusal too; ``what`` names it where it ended without a result.

    Raises:
        BaseException: the error that ended it.
    """
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException) and not isinstance(result, NotBlessedError):
        raise result
    if result is None:
        raise AugmentError(f"the {what} ended as {state.name} ({state.message}).")
    return result
