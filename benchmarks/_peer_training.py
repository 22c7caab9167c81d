"""pythae or torchcfm on one case of `models_vs_peers.py`, in the peers' environment: JSON in, a line of JSON out.

Each is used as its own documentation uses it. The nets are those of our model; what surrounds them is theirs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _training_cases import BITS, CASES, LEVELS, WARM_STEPS, Case, Request, Window, bits_per_dim, build
from torch import Tensor, nn

BETAS = (0.9, 0.99)


class StopError(Exception):
    """Enough steps were taken."""


def pythae(request: Request, case: Case, window: Window) -> None:
    """pythae's VAE around our encoder and decoder, trained by its BaseTrainer."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    data = torch.from_numpy(np.load(Path(request.data) / BITS)).float().reshape(-1, *case.shape)
    with tempfile.TemporaryDirectory(prefix="pythae-") as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=request.batch_size,
            learning_rate=1e-3,
            optimizer_cls="AdamW",
            optimizer_params={"betas": BETAS, "weight_decay": 0.0},
            no_cuda=request.device == "cpu",
        )
        callbacks = [pythae_callback(request.steps, window)]
        trainer = BaseTrainer(pythae_model(case), BaseDataset(data, torch.ones(len(data))), None, config, callbacks)
        try:
            trainer.train()
        except StopError:
            return


def pythae_model(case: Case) -> Any:
    """pythae's VAE with the nets of ours; the label is the one class that there is."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self, net: nn.Module) -> None:
            BaseEncoder.__init__(self)
            self.net = net

        def forward(self, x: Tensor) -> Any:
            mean, log_variance = self.net(x, x.new_zeros(len(x), dtype=torch.long)).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self, net: nn.Module) -> None:
            BaseDecoder.__init__(self)
            self.net = net

        def forward(self, z: Tensor) -> Any:
            raw = self.net(z, z.new_zeros(len(z), dtype=torch.long))
            return ModelOutput(reconstruction=raw.sigmoid().reshape(-1, *case.shape))

    model: Any = build(case)
    return VAE(
        VAEConfig(input_dim=case.shape, latent_dim=model.latent, reconstruction_loss="bce"),
        Encoder(model.posterior.net),
        Decoder(model.decoder),
    )


def pythae_vae_gan(request: Request, case: Case, window: Window) -> None:
    """pythae's VAE/GAN around our encoder, generator and critic, trained by its adversarial trainer."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import CoupledOptimizerAdversarialTrainer, CoupledOptimizerAdversarialTrainerConfig

    data = torch.from_numpy(np.load(Path(request.data) / LEVELS)).float().reshape(-1, *case.shape) / 127.5 - 1
    settings: Any = case.model
    optimisers = {
        "encoder": settings.encoder_optimiser,
        "decoder": settings.optimiser,
        "discriminator": settings.critic_optimiser,
    }
    chosen: dict[str, Any] = {}
    for net, own in optimisers.items():
        chosen[f"{net}_optimizer_cls"] = "AdamW"
        chosen[f"{net}_optimizer_params"] = {"betas": own.betas, "weight_decay": 0.0}
        chosen[f"{net}_learning_rate"] = own.learning_rate
    with tempfile.TemporaryDirectory(prefix="pythae-") as folder:
        config = CoupledOptimizerAdversarialTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=request.batch_size,
            no_cuda=request.device == "cpu",
            **chosen,
        )
        callbacks = [pythae_callback(request.steps, window)]
        rows = BaseDataset(data, torch.ones(len(data)))
        trainer = CoupledOptimizerAdversarialTrainer(pythae_vae_gan_model(case), rows, None, config, callbacks)
        try:
            trainer.train()
        except StopError:
            return


def pythae_vae_gan_model(case: Case) -> Any:
    """pythae's VAE/GAN with the nets of ours; the label is the one class that there is."""
    from pythae.models import VAEGAN, VAEGANConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder

    model: Any = build(case)

    def labels(rows: Tensor) -> Tensor:
        return rows.new_zeros(len(rows), dtype=torch.long)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            BaseEncoder.__init__(self)
            self.net = model.autoencoder.encoder

        def forward(self, x: Tensor) -> Any:
            mean, log_variance = self.net(x, labels(x)).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            BaseDecoder.__init__(self)
            self.net = model.autoencoder.generator

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.net.at(z, labels(z), None).rows)

    class Discriminator(BaseDiscriminator):
        depth = 1

        def __init__(self) -> None:
            BaseDiscriminator.__init__(self)
            self.net = model.contest.critic

        def forward(self, x: Tensor, output_layer_levels: list[int] | None = None) -> Any:
            if output_layer_levels:
                return ModelOutput(embedding_layer_1=self.net.net(x))
            return ModelOutput(embedding=self.net(x, labels(x)).sigmoid())

    config = VAEGANConfig(input_dim=case.shape, latent_dim=case.model.latent)  # type: ignore[attr-defined]
    return VAEGAN(config, Encoder(), Decoder(), Discriminator())


def pythae_pixelcnn(request: Request, case: Case, window: Window) -> dict[str, float]:
    """pythae's PixelCNN with our net in the place of its own, trained by its BaseTrainer; what rows held out cost.

    It reads and predicts bytes; the label is the one class that there is.
    """
    from pythae.data.datasets import BaseDataset
    from pythae.models.normalizing_flows import PixelCNN, PixelCNNConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Net(nn.Module):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            built: Any = build(case)
            self.net = built.net

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.net(x / 127.5 - 1, x.new_zeros(len(x), dtype=torch.long))
            return logits.transpose(1, 2)

    data = torch.from_numpy(np.load(Path(request.data) / LEVELS)).float().reshape(-1, *case.shape)
    model = PixelCNN(PixelCNNConfig(input_dim=case.shape, n_embeddings=case.levels))
    model.net = Net()
    optimiser = case.model.optimiser  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="pythae-") as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=request.batch_size,
            learning_rate=optimiser.learning_rate,
            optimizer_cls="AdamW",
            optimizer_params={"betas": optimiser.betas, "weight_decay": 0.0},
            no_cuda=request.device == "cpu",
        )
        rows = BaseDataset(data, torch.ones(len(data)))
        trainer = BaseTrainer(model, rows, None, config, [pythae_callback(request.steps, window)])
        try:
            trainer.train()
        except StopError:
            return {"bits_per_dim": bits_per_dim(model.net.net, request)} if request.judged else {}
    raise RuntimeError("its trainer ended before the steps were taken")


def pythae_callback(steps: int, window: Window) -> Any:
    """What notes each step of pythae's trainer, and raises :class:`StopError` after the last one."""
    from pythae.trainers.training_callbacks import TrainingCallback

    class Note(TrainingCallback):
        taken = 0

        def on_train_step_end(self, training_config: Any, **_: Any) -> None:
            self.taken += 1
            window.note(self.taken)
            if self.taken == steps:
                raise StopError

    return Note()


def torchcfm(request: Request, case: Case, window: Window) -> None:
    """The loop of torchcfm's example `conditional_mnist`, with our U-Net in the place of its own."""
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
    from torchvision import datasets, transforms

    device = torch.device(request.device)
    images = datasets.MNIST(
        request.data,
        train=True,
        transform=transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]),
    )
    loader = torch.utils.data.DataLoader(images, batch_size=request.batch_size, shuffle=True, drop_last=True)
    built: Any = build(case)
    model = built.velocity.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=BETAS, weight_decay=0.0)
    matcher = ConditionalFlowMatcher(sigma=0.0)
    taken = 0
    while True:
        for image, label in loader:
            optimizer.zero_grad()
            x1, y = image.to(device), label.to(device)
            x0 = torch.randn_like(x1)
            t, xt, ut = matcher.sample_location_and_conditional_flow(x0, x1)
            loss = (model(xt, t, y) - ut).square().mean()
            loss.backward()
            optimizer.step()
            taken += 1
            if taken in {WARM_STEPS, request.steps} and device.type == "cuda":
                torch.cuda.synchronize(device)
            if taken in {WARM_STEPS, request.steps}:
                window.note(taken)
            if taken == request.steps:
                return


TRAININGS: dict[tuple[str, str], Callable[[Request, Case, Window], dict[str, float] | None]] = {
    ("pythae", "vae"): pythae,
    ("pythae", "vae_gan"): pythae_vae_gan,
    ("pythae", "pixelcnn"): pythae_pixelcnn,
    ("torchcfm", "flow_matching"): torchcfm,
}


def main() -> int:
    request = Request(**json.loads(sys.argv[1]))
    case = CASES[request.case]
    torch.set_num_threads(request.threads)
    window = Window(request.batch_size, torch.device(request.device))
    judged = TRAININGS[case.peer, case.model.kind](request, case, window)
    print(json.dumps({**window.speed().as_json(), **(judged or {})}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
