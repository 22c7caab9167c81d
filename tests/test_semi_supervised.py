"""A critic that tells classes apart learns from rows without a label too: digits of which ten a class have one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from _model_cases import generator, train
from _toy_mixtures import load_digits
from pydantic import ValidationError
from torch import Tensor

from models._augmentation import draw_changes
from models._contract import Batch, GenerativeModel, Objective, Span, TensorSpec
from models._generators import as_seen
from models._semi_supervised import supervised, undecided
from models._techniques import Techniques
from models.gan import GanConfig, GenerativeAdversarialNet

SPEC = TensorSpec((1, 8, 8), (Span("continuous", 64, 17),), 10)
TELLING = GanConfig(loss="non_saturating", net="mlp", r1=0.1, augmentation=("noise",), techniques={"classify": True})
ROWS, LABELS_PER_CLASS, STEPS, BATCH_ROWS = 1000, 10, 1500, 64
SEEDS = (5, 6, 7, 8, 9)


class LabelsAlone(GenerativeModel):
    """The critic of a net, which sees its rows changed as ever and learns nothing but labels."""

    def __init__(self, inner: GenerativeAdversarialNet) -> None:
        super().__init__()
        self.spec, self.inner = inner.spec, inner

    def objectives(self) -> Sequence[Objective]:
        critic, settings = self.inner.contest.critic, self.inner.settings
        return [Objective("critic", tuple(critic.parameters()), self._loss, settings.critic_optimiser)]

    def _loss(self, batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
        contest = self.inner.contest
        change = draw_changes(self.spec, contest.changes, len(batch.y), noise)
        features = contest.critic.net(change(as_seen(self.spec, batch.x)))
        return {"loss": supervised(contest.critic.class_logits(features), batch.y)}


class Parts:
    """Digits of one seed: training rows of which ten a class are labelled, and the others to test with."""

    def __init__(self, seed: int) -> None:
        digits = load_digits()
        x = digits.pixels.reshape(-1, *SPEC.shape)
        order = torch.randperm(len(x), generator=generator(seed))
        rows, tested = order[:ROWS], order[ROWS:]
        told = [rows[digits.digit[rows] == digit][:LABELS_PER_CLASS] for digit in range(SPEC.num_classes)]
        self.labelled = Batch(x[torch.cat(told)], digits.digit[torch.cat(told)])
        self.unlabelled = Batch(x[rows], torch.full((ROWS,), -1))
        self.tested = Batch(x[tested], digits.digit[tested])

    def mixed(self) -> Batch:
        """As many draws of rows with a label as of rows without one."""
        times = ROWS // len(self.labelled.y)
        parts = [self.labelled] * times + [self.unlabelled]
        return Batch(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))

    def accuracy(self, net: GenerativeAdversarialNet) -> float:
        """The share of the test rows whose class a net tells."""
        with torch.no_grad():
            told = net.class_logits(self.tested.x).argmax(1)
        return float((told == self.tested.y).float().mean())


def labels_alone(parts: Parts, seed: int, config: GanConfig) -> float:
    """The accuracy after as many steps on as many labelled rows, none of the others, and no generator."""
    net = config.build(SPEC, generator(seed))
    train(LabelsAlone(net), parts.labelled, STEPS, BATCH_ROWS // 2)
    return parts.accuracy(net.eval())


def with_generator(parts: Parts, seed: int, rows: Batch) -> float:
    """The accuracy of a critic that is trained on ``rows``, beside its generator."""
    net = TELLING.build(SPEC, generator(seed))
    train(net, rows, STEPS, BATCH_ROWS)
    return parts.accuracy(net)


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_rows_without_a_label_make_a_critic_better_than_labels_alone() -> None:
    """Than the better of two trainings on labels alone: one sees its rows changed as the other net does, one as is.

    And than the same game on the labelled rows: that a generator takes part is not enough. The settings were chosen by
    other seeds.
    """
    gains, of_the_others = [], []
    for seed in SEEDS:
        parts = Parts(seed)
        plain = TELLING.model_copy(update={"augmentation": ()})
        alone = max(labels_alone(parts, seed, config) for config in (TELLING, plain))
        whole = with_generator(parts, seed, parts.mixed())
        gains.append(whole - alone)
        of_the_others.append(whole - with_generator(parts, seed, parts.labelled))
    assert np.mean(gains) > 0.02, gains
    assert min(gains) > 0, gains
    assert np.mean(of_the_others) > 0.005, of_the_others


def test_how_undecided_a_row_is_between_classes_is_an_entropy() -> None:
    even, sure = torch.zeros(4), torch.tensor([40.0, 0, 0, 0])
    unknown = torch.tensor([-1, -1])
    assert float(undecided(torch.stack([even, even + 3]), unknown)) == pytest.approx(np.log(4), rel=1e-6)
    assert float(undecided(torch.stack([sure, even]), unknown)) == pytest.approx(np.log(4) / 2, rel=1e-6)


def test_rows_with_a_label_are_never_called_undecided() -> None:
    logits = torch.randn(3, 4, generator=generator()).requires_grad_()
    undecided(logits, torch.tensor([2, -1, 0])).backward()
    assert logits.grad is not None
    assert logits.grad[1].any()
    assert not logits.grad[[0, 2]].any()
    assert float(undecided(logits.detach(), torch.tensor([2, 1, 0]))) == 0


def test_rows_with_a_label_do_not_count_in_the_mean() -> None:
    logits = torch.zeros(4, 3)
    assert float(undecided(logits, torch.tensor([0, 1, 2, -1]))) == pytest.approx(np.log(3), rel=1e-6)


def test_how_undecided_rows_are_weighs_as_set() -> None:
    batch = Batch(torch.randn(4, *SPEC.shape, generator=generator(5)), torch.tensor([-1, -1, 3, -1]))
    light, heavy = (
        TELLING.model_copy(update={"techniques": Techniques(classify=True, entropy_weight=weight)}) for weight in (1, 3)
    )
    found = [
        config.build(SPEC, generator()).eval().objectives()[0].loss(batch, generator(1)) for config in (light, heavy)
    ]
    assert float(found[1]["undecided"].detach()) == pytest.approx(3 * float(found[0]["undecided"].detach()), rel=1e-5)


@pytest.mark.parametrize("weight", ["entropy_weight", "label_weight"])
def test_a_weight_of_classes_that_nobody_tells_is_refused(weight: str) -> None:
    with pytest.raises(ValidationError, match=f"{weight} is of a critic that tells classes"):
        GanConfig(techniques={weight: 0.5})


def test_the_critic_alone_becomes_decided() -> None:
    """The generator's rows are its fakes, of which no class has to be told."""
    net = TELLING.build(SPEC, generator())
    batch = Batch(torch.zeros(4, *SPEC.shape), torch.tensor([1, -1, 3, -1]))
    critic, maker = (objective.loss(batch, generator(1)) for objective in net.objectives())
    assert critic["undecided"] > 0
    assert "undecided" not in maker
