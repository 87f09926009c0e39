"""Speed of a training step of hypernetworks over images, against plain implementations of the paper's two.

The plain way is that of the paper's authors: an MLP for each tensor of the hypo-SIREN, one batched product for each of
its layers, images and contexts one by one from a DataLoader, torch.optim.Adam. Our own models have no plain twin.
"""

import copy
import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hypersiren.completion.images.task import AUGMENTATION, Completion
from hypersiren.completion.train import make_objective
from hypersiren.fields.coords import grid
from hypersiren.hypernets.encoders.paper_encoder import PaperConvEncoder
from hypersiren.signals.sets.images import ImageSet
from hypersiren.studies.benchmarks.data import synthetic_pictures
from hypersiren.studies.benchmarks.measure import (
    Report,
    Step,
    Variant,
    count_flops,
    describe_machine,
    loop_step,
    speed_table,
)

LOG = logging.getLogger(__name__)


class PlainSetEncoder(nn.Module):
    """The set encoder: the mean over known pixels of an MLP's features of coordinates and values."""

    def __init__(self, encoder: Any):
        super().__init__()
        self.net = copy.deepcopy(encoder.net)

    def forward(self, known: tuple[Tensor, Tensor, Tensor]) -> Float[Tensor, "B Z"]:
        x, y, mask = known
        features = self.net(torch.cat([x, y], dim=-1)) * mask.unsqueeze(-1)
        return features.sum(dim=1) / mask.sum(dim=1, keepdim=True)


class PlainConvEncoder(nn.Module):
    """The CNN at full resolution, on an image whose unknown pixels are 0, and one linear layer over all positions."""

    def __init__(self, encoder: PaperConvEncoder):
        super().__init__()
        own = copy.deepcopy(encoder)
        first, second = own.stem
        blocks = [_Residual(*block) for block in own.blocks]  # type: ignore[misc]
        self.net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *blocks, own.last, nn.ReLU())
        self.position = own.position

    def forward(self, known: tuple[Float[Tensor, "B C H W"]]) -> Float[Tensor, "B Z"]:
        return self.position(self.net(known[0]).flatten(2)).squeeze(-1)


class _Residual(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.net = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.net(x))


class PlainHyperSiren(nn.Module):
    """The paper's model as everybody writes it, with copies of a `HyperSiren`'s weights.

    Args:
        model: One with a set encoder or the paper's CNN (without its mask channel), the full hypernetwork with separate
            MLPs, and no adapter.
    """

    def __init__(self, model: Any):
        super().__init__()
        convolutional = isinstance(model.encoder, PaperConvEncoder)
        self.encoder = (PlainConvEncoder if convolutional else PlainSetEncoder)(model.encoder)
        pairs = zip(model.hypernet.trunks, model.hypernet.heads, strict=True)
        self.mlps = nn.ModuleList(nn.Sequential(*copy.deepcopy([*trunk, head])) for trunk, head in pairs)
        self.shapes = list(model.hypernet.shapes.values())
        self.first_omega, self.hidden_omega = model.siren.first_omega, model.siren.hidden_omega

    def forward(self, known: Any, x: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "B N C"], Tensor, list[Tensor]]:
        """Values at x of each image's field, the latents, and all predicted weights.

        Args:
            known: What the encoder takes: (coordinates, values, mask), or (images,).
            x: Coordinates.
        """
        z = self.encoder(known)
        params = [mlp(z).view(-1, *shape) for mlp, shape in zip(self.mlps, self.shapes, strict=True)]
        h, last = x.expand(len(z), -1, -1), len(params) // 2 - 1
        for i in range(last + 1):
            weight, bias = params[2 * i], params[2 * i + 1]
            h = torch.matmul(h, weight.transpose(-1, -2)) + bias.unsqueeze(-2)
            if i < last:
                h = torch.sin((self.hidden_omega if i else self.first_omega) * h)
        return h, z, params


def plain_loss(model: PlainHyperSiren, known: Any, x: Tensor, y: Tensor, loss: Any) -> Tensor:
    """The paper's loss: the mean squared error over all pixels, and the priors of latents and weights.

    Args:
        model: What is trained.
        known, x: See `PlainHyperSiren.forward`.
        y: (B, N, C) values of all pixels.
        loss: The settings' section of this name, with the factors of both priors.
    """
    values, z, params = model(known, x)
    weights = sum(p.square().sum() for p in params) / sum(p.numel() for p in params)
    return (values - y).square().mean() + loss.latent * z.square().mean() + loss.weights * weights


class PlainImages(Dataset[Any]):
    """Images one by one, each with a random context, as the paper's authors draw it.

    Args:
        pixels: (M, H, W, C) in 0..255, in memory.
        context: The settings' section of this name.
    """

    def __init__(self, pixels: UInt8[Tensor, "M H W C"], context: Any):
        self.pixels, self.context = pixels, context
        self.x = grid((pixels.shape[1], pixels.shape[2]))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """What the encoder takes, and the values of all pixels."""
        image = self.pixels[index].float() / 127.5 - 1
        y, n = image.flatten(0, 1), len(self.x)
        most = min(self.context.most, n)
        count = int(torch.randint(min(self.context.fewest, n), most + 1, ()))
        if self.context.sampling == "bernoulli":
            mask = torch.rand(image.shape[:2]) < count / n
            return ((image * mask.unsqueeze(-1)).permute(2, 0, 1),), y
        chosen = torch.randperm(n)[:most]
        return (self.x[chosen], y[chosen], torch.arange(most) < count), y


def plain_step(model: PlainHyperSiren, images: PlainImages, settings: Any, device: torch.device | str = "cpu") -> Step:
    """A training step as everybody writes it.

    Args:
        model: What is trained, in place.
        images: What the DataLoader reads.
        settings: `CompletionSettings`: batch size, learning rate, clipping, factors of the loss.
        device: Where.
    """
    training = settings.training
    optimizer = torch.optim.Adam(model.parameters(), lr=training.lr)
    loader = DataLoader(images, training.batch_size, shuffle=True, drop_last=True)
    batches: Iterator[Any] = itertools.chain.from_iterable(itertools.repeat(loader))
    x = images.x.to(device)

    def step() -> None:
        known, y = next(batches)
        optimizer.zero_grad()
        loss = plain_loss(model, tuple(part.to(device) for part in known), x, y.to(device), settings.loss)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        optimizer.step()

    return step


def open_task(settings: Any, images: int, device: torch.device | str = "cpu") -> Completion:
    """The task that settings describe, on synthetic pictures instead of their set of images."""
    size = settings.data.size
    size = (size, size) if isinstance(size, int) else size
    pixels = synthetic_pictures(images, size)
    return Completion(
        ImageSet(pixels, "synthetic").to(device),
        ImageSet(pixels[:2], "synthetic").to(device),
        settings.context,
        batch_size=settings.training.batch_size,
        target_points=settings.training.target_points,
        augmentation=settings.data.model_dump(include=set(AUGMENTATION)),
        log=settings.loss.log,
    )


def hypernet_report(
    models: Mapping[str, Any], *, images: int = 64, rounds: int = 3, device: torch.device | str = "cpu"
) -> Report:
    """Measure training steps.

    Args:
        models: By name, `CompletionSettings` of one batch size and one size of images; those without an adapter are the
            paper's and get a plain twin.
        images: Synthetic colour pictures of the set, at least a batch.
        rounds: Turns of each.
        device: Where.
    """
    device = torch.device(device)
    machine = describe_machine(device)
    variants: dict[str, Variant] = {}
    against: dict[str, str] = {}
    for name, settings in models.items():
        LOG.info("building %s", name)
        batch = settings.training.batch_size
        task = open_task(settings, max(images, batch), device)
        objective = make_objective(task, settings, device)
        twin = None
        if settings.adapter.kind == "none":
            plain = PlainHyperSiren(objective.model)
            twin = plain_step(plain, PlainImages(task.train.pixels[:].cpu(), settings.context), settings, device)
        ours = loop_step(objective, settings.training)
        flops = count_flops(twin or ours)
        variants[f"{name}: hypersiren"] = Variant(ours, batch, flops)
        if twin is not None:
            variants[f"{name}: plain"] = Variant(twin, batch, flops)
            against |= dict.fromkeys((f"{name}: hypersiren", f"{name}: plain"), f"{name}: plain")
    LOG.info("timing steps")
    h, w = task.size
    title = f"Training steps at batch {batch}, {h} x {w} x {task.train.channels}, fp32"
    table = speed_table(title, "images", variants, against, rounds=rounds, device=device)
    notes = ["Operations of the closed-form solve (a Cholesky factor and its solutions) are not counted."]
    return Report("hypernet", machine, {"images": images, "rounds": rounds}, [table], notes)
