"""hypersiren: hypernetworks that predict SIRENs, and SIRENs for every task of the SIREN paper.

Public names are imported when first used, so that `import hypersiren` costs next to nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypersiren import operators as operators
    from hypersiren.baselines import CoordinateMLP as CoordinateMLP
    from hypersiren.checkpoints import load as load
    from hypersiren.conv_encoder import ConvEncoder as ConvEncoder
    from hypersiren.coords import evaluate as evaluate
    from hypersiren.coords import grid as grid
    from hypersiren.datasets import load_images as load_images
    from hypersiren.encoders import Context as Context
    from hypersiren.encoders import PaperConvEncoder as PaperConvEncoder
    from hypersiren.encoders import SetEncoder as SetEncoder
    from hypersiren.errors import UserError as UserError
    from hypersiren.fitting import fit as fit
    from hypersiren.hypernets import FullHypernet as FullHypernet
    from hypersiren.jets import Jet as Jet
    from hypersiren.models import HyperSiren as HyperSiren
    from hypersiren.pictures import open_picture as open_picture
    from hypersiren.siren import Params as Params
    from hypersiren.siren import Siren as Siren

__version__ = version("hypersiren")

_HOMES = {
    "Context": "encoders",
    "ConvEncoder": "conv_encoder",
    "CoordinateMLP": "baselines",
    "FullHypernet": "hypernets",
    "HyperSiren": "models",
    "PaperConvEncoder": "encoders",
    "Jet": "jets",
    "Params": "siren",
    "SetEncoder": "encoders",
    "Siren": "siren",
    "UserError": "errors",
    "evaluate": "coords",
    "fit": "fitting",
    "grid": "coords",
    "load": "checkpoints",
    "load_images": "datasets",
    "open_picture": "pictures",
    "operators": "operators",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hypersiren' has no attribute {name!r}")
    home = import_module(f"hypersiren.{_HOMES[name]}")
    value = home if name == _HOMES[name] else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
