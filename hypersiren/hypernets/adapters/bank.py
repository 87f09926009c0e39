"""The training of a correction on signals of one raster: a bank of masks whose solves are linear maps, made once.

For one mask all that a solve does is linear in the known values: a matrix, made once and used for every signal,

    q = Q^T (first solve's change) = H r,   c = read (its change) = E r,   r = y - mean at the known points.

Q is an orthonormal basis, on the raster, of the K axes that a correction moves along, Q B = their fields. After the
second solve a change v of the mean has the coefficients B v - H (fields of v at the known points), and what they should
be is Q^T (y - mean) - q. The loss is the squared error of that, which is the error of the completed signal along the
axes, over the mean variance that the mask leaves: masks count by what share of it can be explained.

`loss` is tested against `predict`, to which it is equal but for rounding.

Symbols: M masks, B signals, N known points, P points of the raster, C channels, G features and a constant, R columns of
the prior's factor, K axes, k leading ones, J parts of [-1, 1]^D.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.fields.last_layers import last_layer
from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.correction import Correction
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.adapters.masks import draw_mask
from hypersiren.hypernets.encoders.precision import bfloat16
from hypersiren.hypernets.gaussian.linear_algebra import append_bias, solve_positive
from hypersiren.hypernets.gaussian.posterior import probes

FLOOR = 0.005
"""Added to the variance that a mask leaves, in squared units of the values."""


@dataclass(frozen=True)
class Mask:
    """What solves say that know the same points.

    Attributes:
        cells: Which points of the raster are known.
        gain: H.
        read: E.
        regions: The posterior's deviation beside the prior's in parts of [-1, 1]^D.
        variance: The mean of the posterior's variance.
    """

    cells: Int[Tensor, " N"]
    gain: Float[Tensor, "K N"]
    read: Float[Tensor, "k N"]
    regions: Float[Tensor, " J"]
    variance: float

    __repr__ = by_shape


@dataclass(frozen=True)
class BankBatch:
    """B signals and the masks that they are seen through; equal masks stand side by side.

    Attributes:
        y: Their values on the raster; of a `PairBank` which signal of its context each is, (B,).
        masks: Which mask or context of the bank each has, on the processor.
        seed: Of the dropout.
        first, total: Where these signals stand among those of the whole batch; None: they are all.
    """

    y: Float[Tensor, "B P C"] | Int[Tensor, " B"]
    masks: Int[Tensor, " B"]
    seed: int = 0
    first: int = 0
    total: int | None = None

    __repr__ = by_shape

    def share(self, index: int, count: int) -> "BankBatch":
        """One of `count` equal parts, for a process of several or to save memory.

        Raises:
            UserError: If there are no equal parts.
        """
        if len(self.y) % count:
            raise UserError(f"expected a batch size that is a multiple of {count}, got {len(self.y)}")
        part = len(self.y) // count
        rows = slice(index * part, (index + 1) * part)
        first, total = self.first + index * part, self.total or len(self.y)
        return replace(self, y=self.y[rows], masks=self.masks[rows], first=first, total=total)

    def changes(self, correction: Correction, inputs: Float[Tensor, "B I"], autocast: bool) -> Float[Tensor, "B C K"]:
        """How a correction changes the mean for what it reads of these signals, in bfloat16 if `autocast`."""
        generator = torch.Generator(inputs.device).manual_seed(self.seed)
        with bfloat16(inputs.device.type, autocast):
            return correction(inputs, generator, self.first, self.total).mT


class Bank:
    """Masks of a raster with the gains of their solves.

    Args:
        siren: The hypo-SIREN, whose last layer is the prior's mean.
        solve: Has the prior and a correction.
        size: The raster.
        fewest, most, regular: As of `draw_mask`.
        count: M.
        seed: Of the masks.

    Example:
        >>> siren = Siren(2, 1, hidden_features=(16, 32))
        >>> solve = LastLayerSolve(32, correction=Correction(32, 1, axes=8, inputs=4, width=16))
        >>> solve.set_prior(siren, [torch.rand(9, 8, 8, 1)])
        >>> bank = Bank(siren, solve, (8, 8), count=5)
        >>> batch = BankBatch(torch.rand(6, 64, 1), torch.tensor([0, 0, 3, 3, 4, 4]))
        >>> bank.loss(solve.correction, batch).shape
        torch.Size([])
    """

    @torch.no_grad()
    def __init__(
        self,
        siren: Siren,
        solve: LastLayerSolve,
        size: tuple[int, ...],
        *,
        fewest: int = 10,
        most: int | None = None,
        regular: float = 0.3,
        count: int = 1600,
        seed: int = 0,
    ):
        correction = solve.correction
        assert correction is not None
        factor = solve.factor
        self.x = grid(size, device=factor.device, dtype=factor.dtype)
        points = len(self.x)
        features = append_bias(siren.features(self.x))
        self.mean = features @ last_layer(siren, {})
        self.fields = features @ correction.axes
        self.basis, self.shape = torch.linalg.qr(self.fields)
        a = features @ factor
        there = probes(siren, factor)
        beside = append_bias(siren.features(there)) @ factor
        kernel, across = a @ a.mT, a @ beside.mT
        prior = beside.square().sum(-1)
        # What is wanted of a first solve: its coefficients on the axes, and what the network reads.
        wanted = torch.cat([self.basis.mT @ kernel, correction.read @ factor @ a.mT])
        work = torch.float64 if solve.double_precision else factor.dtype
        generator = torch.Generator().manual_seed(seed)
        most = min(points, max(1, int(0.6 * points)) if most is None else most)
        fewest = min(fewest, most)
        kept: dict[bytes, Mask] = {}
        self.masks: list[Mask] = []
        for _ in range(count):
            mask = draw_mask(size, fewest, most, regular, generator).flatten()
            key = mask.numpy().tobytes()
            if key not in kept:
                cells = mask.nonzero().flatten().to(factor.device)
                x, known = self.x[None, cells], torch.ones(1, len(cells), dtype=torch.bool, device=cells.device)
                matrix = kernel[cells[:, None], cells].to(work)
                matrix.diagonal().add_(solve.noise_at(siren, x, known).to(work))
                right = torch.cat([across[cells], wanted[:, cells].mT], 1).to(work)
                found = solve_positive(matrix, right)[0].to(factor.dtype)
                explained = (across[cells] * found[:, : len(there)]).sum(0)
                variance = (prior - explained).clamp(min=0)
                regions = correction.regions((variance / prior).sqrt()[None], there)[0]
                gain, read = found[:, len(there) :].mT.contiguous().split([len(self.fields[0]), len(correction.read)])
                kept[key] = Mask(cells, gain, read, regions, variance.mean().item())
            self.masks.append(kept[key])

    def __len__(self) -> int:
        return len(self.masks)

    def examples(
        self, correction: Correction, batch: BankBatch
    ) -> tuple[Float[Tensor, "B I"], Float[Tensor, "B CK"], Float[Tensor, " B"]]:
        """What the network reads of each signal, what the first solve leaves along the axes, and how much it counts."""
        masks, inputs, left = zip(*self.pairs(correction, batch), strict=True)
        parts = zip(masks, inputs, strict=True)
        counts = [part.new_full((len(part),), 1 / (mask.variance + FLOOR)) for mask, part in parts]
        return torch.cat(inputs), torch.cat(left).flatten(1), torch.cat(counts)

    @torch.no_grad()
    def pairs(
        self, correction: Correction, batch: BankBatch
    ) -> Iterator[tuple[Mask, Float[Tensor, "b I"], Float[Tensor, "b C K"]]]:
        """For each mask of a batch what the network reads of first solves, and what they leave along the axes."""
        residual = (batch.y - self.mean).mT.contiguous()
        left = residual @ self.basis
        masks, counts = torch.unique_consecutive(batch.masks, return_counts=True)
        parts = (values.split(counts.tolist()) for values in (residual, left))
        for number, residuals, target in zip(masks.tolist(), *parts, strict=True):
            mask = self.masks[number % len(self.masks)]
            known = residuals[..., mask.cells]
            inputs = correction.inputs((known @ mask.read.mT).mT, mask.regions[None])
            yield mask, inputs, target - known @ mask.gain.mT

    def after(self, mask: Mask, v: Float[Tensor, "B C K"]) -> Float[Tensor, "B C K"]:
        """The coefficients of a change of the mean after the second solve."""
        return v @ self.shape.mT - (v @ self.fields[mask.cells].mT) @ mask.gain.mT

    def loss(self, correction: Correction, batch: BankBatch, autocast: bool = False) -> Float[Tensor, ""]:
        """The mean over signals, points and channels of the squared error along the axes, over the variance left."""
        masks, inputs, targets = zip(*self.pairs(correction, batch), strict=True)
        found = batch.changes(correction, torch.cat(inputs), autocast)
        errors = [
            (self.after(mask, v) - target).square().sum() / (mask.variance + FLOOR)
            for mask, v, target in zip(masks, found.split([len(target) for target in targets]), targets, strict=True)
        ]
        return torch.stack(errors).sum() / batch.y.numel()
