"""A plain PyTorch loop on one case of `models_vs_peers.py`: JSON in, a line of JSON out.

What somebody writes who has the nets and the losses of our model: a DataLoader, an Adam for each net, a pass of its own
for each kind of rows, and penalties in each step, taken where the rows were scored. There are no averaged weights, no
clipping and no journal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _training_cases import CASES, LABELS, LEVELS, WARM_STEPS, Case, Request, Window, build
from torch import Tensor

from models._augmentation import draw_changes
from models._contest import Contest
from models._gaussian import kl_divergence
from models._generators import as_seen
from models.alpha_gan import reconstruction_error

Step = Callable[[Tensor, Tensor], None]  # trains on rows (B, *shape) with labels (B,)
Loss = Callable[[Tensor, Tensor], Tensor]
Rows = Callable[[Tensor], Tensor]


def gan(model: Any, noise: torch.Generator) -> Step:
    """The critic's step and the generator's."""

    def critic(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            rows = model.generator(y, noise)
        return critic_loss(model.contest, x, [rows], y, noise)

    def generator(x: Tensor, y: Tensor) -> Tensor:
        rows = model.generator(y, noise)
        change = changes(model.contest, y, noise)
        return adversarial_loss(model.contest, change(x), [change(rows)], y)

    return in_turn(model, critic, generator)


def vae_gan(model: Any, noise: torch.Generator) -> Step:
    """The steps of the encoder, the generator and the critic."""
    nets, settings = model.autoencoder, model.settings

    def encoder(x: Tensor, y: Tensor) -> Tensor:
        posterior = nets.posterior(x, y)
        rows = nets.generator.at(posterior.at(nets.noise(y, noise)), y, noise).rows
        change = changes(model.contest, y, noise)
        real, made = (model.contest.critic.scored(change(kind), y).features for kind in (x, rows))
        kl = kl_divergence(posterior, nets.prior(y)).sum(1).mean()
        return settings.beta * kl + model.likelihood(real, made)

    def generator(x: Tensor, y: Tensor) -> Tensor:
        rows = both_kinds(nets, x, y, noise)
        change = changes(model.contest, y, noise)
        real, *made = (model.contest.critic.scored(change(kind), y) for kind in (x, *rows))
        scores = [against(model.contest, kind.score, real.score) for kind in made]
        return settings.gamma * model.likelihood(real.features, made[0].features) + sum(scores) / len(scores)

    def critic(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            rows = both_kinds(nets, x, y, noise)
        return critic_loss(model.contest, x, rows, y, noise)

    return in_turn(model, encoder, generator, critic)


def alpha_gan(model: Any, noise: torch.Generator) -> Step:
    """The steps of the encoder, the generator and both critics."""
    nets, weight = model.autoencoder, model.settings.reconstruction

    def encoder(x: Tensor, y: Tensor) -> Tensor:
        code = nets.posterior(x, y).at(nets.noise(y, noise))
        decoded = nets.generator.at(code, y, noise)
        return weight * reconstruction_error(model.spec, decoded, x) + adversarial_loss(
            model.codes, nets.noise(y, noise), [code], y
        )

    def generator(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            code = nets.posterior(x, y).at(nets.noise(y, noise))
        decoded = nets.generator.at(code, y, noise)
        drawn = nets.generator.at(nets.noise(y, noise), y, noise).rows
        change = changes(model.rows, y, noise)
        adversarial = adversarial_loss(model.rows, change(x), [change(decoded.rows), change(drawn)], y)
        return weight * reconstruction_error(model.spec, decoded, x) + adversarial

    def critic(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            rows = both_kinds(nets, x, y, noise)
        return critic_loss(model.rows, x, rows, y, noise)

    def code_critic(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            code = nets.posterior(x, y).at(nets.noise(y, noise))
        return critic_loss(model.codes, nets.noise(y, noise), [code], y, noise)

    return in_turn(model, encoder, generator, critic, code_critic)


def both_kinds(nets: Any, x: Tensor, y: Tensor, noise: torch.Generator) -> list[Tensor]:
    """Reconstructions, and rows of the prior; no gradient reaches the encoder."""
    with torch.no_grad():
        code = nets.posterior(x, y).at(nets.noise(y, noise))
    return [nets.generator.at(z, y, noise).rows for z in (code, nets.noise(y, noise))]


def changes(contest: Contest, y: Tensor, noise: torch.Generator) -> Rows:
    """The change that a critic sees all kinds of rows of a batch with."""
    change = draw_changes(contest.spec, contest.changes, len(y), noise)
    return lambda rows: change(as_seen(contest.spec, rows))


def critic_loss(contest: Contest, x: Tensor, synthetic: Sequence[Tensor], y: Tensor, noise: torch.Generator) -> Tensor:
    """What the critic minimises, penalties included."""
    change, weights = changes(contest, y, noise), contest.penalties
    real = change(x).detach().requires_grad_()
    of_real = contest.critic(real, y)
    loss = weights.r1 * squared_slope(of_real, real)
    for rows in synthetic:
        made = change(rows).detach().requires_grad_()
        of_made = contest.critic(made, y)
        own = contest.loss.critic(of_real, of_made).mean() + weights.r2 * squared_slope(of_made, made)
        loss = loss + own / len(synthetic)
    return loss


def squared_slope(score: Tensor, rows: Tensor) -> Tensor:
    """Half the mean squared gradient of scores by their rows."""
    (gradient,) = torch.autograd.grad(score.sum(), rows, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()


def adversarial_loss(contest: Contest, real: Tensor, synthetic: Sequence[Tensor], y: Tensor) -> Tensor:
    """What those minimise who made the rows."""
    of_real = contest.critic(real, y)
    return sum(against(contest, contest.critic(rows, y), of_real) for rows in synthetic) / len(synthetic)


def against(contest: Contest, synthetic: Tensor, real: Tensor) -> Tensor:
    return contest.loss.generator(synthetic - real if contest.loss.relative else synthetic).mean()


def in_turn(model: Any, *losses: Loss) -> Step:
    """One step of each net, in the order of our objectives."""
    taken = [
        (loss, torch.optim.Adam(own.parameters, lr=own.optimiser.learning_rate, betas=own.optimiser.betas))
        for loss, own in zip(losses, model.objectives(), strict=True)
    ]

    def step(x: Tensor, y: Tensor) -> None:
        for loss, optimiser in taken:
            model.zero_grad()
            loss(x, y).backward()
            optimiser.step()

    return step


LOOPS: dict[str, Callable[[Any, torch.Generator], Step]] = {"gan": gan, "vae_gan": vae_gan, "alpha_gan": alpha_gan}


def train(request: Request, case: Case, window: Window) -> None:
    """So many steps on the images, all of them in memory."""
    device, source = torch.device(request.device), Path(request.data)
    x = torch.from_numpy(np.load(source / LEVELS)).float() / 127.5 - 1
    images = torch.utils.data.TensorDataset(x, torch.from_numpy(np.load(source / LABELS)))
    loader = torch.utils.data.DataLoader(images, batch_size=request.batch_size, shuffle=True, drop_last=True)
    model = build(case).to(device).train()
    step = LOOPS[case.model.kind](model, torch.Generator(device=device).manual_seed(0))
    taken = 0
    while True:
        for image, label in loader:
            step(image.to(device), label.to(device))
            taken += 1
            if taken in {WARM_STEPS, request.steps}:
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                window.note(taken)
            if taken == request.steps:
                return


def main() -> int:
    request = Request(**json.loads(sys.argv[1]))
    torch.set_num_threads(request.threads)
    window = Window(request.batch_size, torch.device(request.device))
    train(request, CASES[request.case], window)
    print(json.dumps(window.speed().as_json()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
