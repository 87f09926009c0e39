"""Pictures of any number of channels (multispectral, hyperspectral), shown in false colours.

Symbols: H x W pixels, C channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

SHARE = 0.02
"""Share of a band's values that is shown black, and as many white."""


@dataclass(frozen=True)
class FalseColour:
    """Three bands as red, green and blue.

    Attributes:
        bands: Which, from 0.
        stretch: For each what is black and what is white, of values on [0, 1].
    """

    bands: tuple[int, int, int]
    stretch: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, pixels: Float[Tensor, "H W C"], bands: Sequence[int] | None = None) -> "FalseColour":
        """For a picture on [0, 1]: the bands in the middle of the last, the second and the first third, if not given.

        Files have bands from short to long waves, so that long ones are red.

        Example:
            >>> FalseColour.of(torch.rand(8, 8, 9)).bands, FalseColour.of(torch.rand(8, 8, 2)).bands
            ((7, 4, 1), (1, 1, 0))
        """
        channels = pixels.shape[2]
        red, green, blue = bands or [(2 * i + 1) * channels // 6 for i in (2, 1, 0)]
        ends = []
        for band in (red, green, blue):
            values = pixels[..., band].flatten().float()
            values = values[:: max(1, len(values) // 100_000)]
            low, high = (torch.quantile(values, share).item() for share in (SHARE, 1 - SHARE))
            ends.append((low, high) if high > low else (low, low + 1.0))
        return cls((red, green, blue), tuple(ends))

    @classmethod
    def from_playback(cls, about: Mapping[str, Any]) -> "FalseColour | None":
        """What a run says of it; None if its picture has one channel or three."""
        if "bands" not in about:
            return None
        red, green, blue = about["bands"]
        return cls((red, green, blue), tuple((low, high) for low, high in about["stretch"]))

    @property
    def playback(self) -> dict[str, Any]:
        """Plain values, for a run."""
        return {"bands": list(self.bands), "stretch": [list(ends) for ends in self.stretch]}

    @property
    def words(self) -> str:
        """Which bands, counted from 1."""
        return "bands {}, {}, {} as red, green, blue".format(*(band + 1 for band in self.bands))

    def __call__(self, pixels: Float[Tensor, "*s C"]) -> Float[Tensor, "*s 3"]:
        """Colours on [0, 1] of values on [0, 1]."""
        low, high = (torch.tensor(end, device=pixels.device) for end in zip(*self.stretch, strict=True))
        return ((pixels[..., list(self.bands)] - low) / (high - low)).clamp(0, 1)


def in_units(values: Float[Tensor, "*s"], about: Mapping[str, Any]) -> Float[Tensor, "*s"]:
    """Values on [0, 1] as those of the file that a run was fitted to.

    Example:
        >>> in_units(torch.tensor([0.0, 0.5]), {"units": [100, 300]}).tolist()
        [100.0, 200.0]
    """
    low, high = about["units"]
    return low + (high - low) * values
