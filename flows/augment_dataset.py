"""The flow: a run config goes in, a published dataset comes out, or a refusal that says why."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from augment.config import RunConfig
from augment.errors import NotBlessedError
from augment.publishing import Publication
from augment.rounds import round_requests
from augment.store import ArtifactRef, Store
from flows import placement, tasks
from flows.announcing import announce
from flows.measuring import measure_worth
from flows.recording import Run, recorded


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
        real = run.keep(tasks.ingest(config))
        # before the training: what does not fit the data should cost no GPU
        wanted = tasks.rows_to_draw(config, real)
        if tasks.need_encoders(config):
            run.keep(tasks.learn_encoders(config, real))
        reference = run.keep(tasks.make_reference(config, real))
        model = run.keep(placement.train(config, real))
        shards, judged = draw(config, run, real, model, reference, wanted)
        audit = run.keep(tasks.conclude(config, real, reference, model, wanted, shards, judged))
        anew = partial(draw_anew, run=run, real=real, reference=reference, wanted=wanted)
        worth = measure_worth(config, run, real, audit, (shards, judged), anew)
        context = run.context.with_findings(wanted, (reference,), worth)
        publication = run.ended(tasks.publish(config, real, model, shards, judged, audit, context))
    announce(publication, wanted)
    return final_state(publication)


def draw(
    config: RunConfig, run: Run, real: ArtifactRef, model: ArtifactRef, reference: ArtifactRef, wanted: dict[str, int]
) -> tuple[list[ArtifactRef], list[ArtifactRef]]:
    """Shards and their judgements, drawn in rounds until no class lacks rows or the rounds are used up."""
    shards: list[ArtifactRef] = []
    judged: list[ArtifactRef] = []
    for number in range(config.generate.rounds + 1):
        requests = round_requests(config.generate, model, wanted, judged, number, Store.open(config.store))
        for shard in placement.generate(config, real, model, requests):
            shards.append(run.keep(shard))
            judged.append(run.keep(tasks.judge_shard(config, real, reference, shard, list(judged), wanted)))
        if not requests:
            break
    return shards, judged


def draw_anew(
    config: RunConfig, run: Run, real: ArtifactRef, reference: ArtifactRef, wanted: dict[str, int]
) -> tuple[list[ArtifactRef], list[ArtifactRef]]:
    """Shards and their judgements of a model that is trained with the seed of ``config``."""
    return draw(config, run, real, run.keep(placement.train(config, real)), reference, wanted)


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
