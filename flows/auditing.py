"""The stages that a publication and a comparison share: from the source to the audit of drawn rows."""

from __future__ import annotations

from typing import NamedTuple

from augment.config import RunConfig
from augment.rounds import round_requests
from augment.store import ArtifactRef, Store
from flows import placement, tasks
from flows.measuring import Draw, Drawn
from flows.recording import Run


class Audited(NamedTuple):
    """What the stages left; ``wanted`` are the synthetic rows of each class that the plan asks for."""

    real: ArtifactRef
    wanted: dict[str, int]
    reference: ArtifactRef
    model: ArtifactRef
    drawn: Drawn
    audit: ArtifactRef

    def draw_anew(self, run: Run) -> Draw:
        """Draws such rows of a model that is trained with the seed of another config."""

        def draw_of(config: RunConfig) -> Drawn:
            model = run.keep(placement.train(config, self.real))
            return draw(config, run, self.real, model, self.reference, self.wanted)

        return draw_of


def audited(config: RunConfig, run: Run) -> Audited:
    """Ingest and split the source, train, draw and judge rows until each class has what is wanted, audit them all."""
    real = run.keep(tasks.ingest(config))
    # before the training: what does not fit the data should cost no GPU
    wanted = tasks.rows_to_draw(config, real)
    if tasks.need_encoders(config):
        run.keep(tasks.learn_encoders(config, real))
    reference = run.keep(tasks.make_reference(config, real))
    model = run.keep(placement.train(config, real))
    shards, judged = draw(config, run, real, model, reference, wanted)
    audit = run.keep(tasks.conclude(config, real, reference, model, wanted, shards, judged))
    return Audited(real, wanted, reference, model, (shards, judged), audit)


def draw(
    config: RunConfig, run: Run, real: ArtifactRef, model: ArtifactRef, reference: ArtifactRef, wanted: dict[str, int]
) -> Drawn:
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
