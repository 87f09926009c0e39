"""Configuration of `hypersiren fit`: one settings model for each task, its defaults the task's `fast` preset.

Pure description, as `hypersiren.config`. The `paper` presets are YAML files in `configs/`.
"""

from hypersiren.fit_config.base import FitSettings, FitTraining, Network
from hypersiren.fit_config.images import EditSettings, ImageSettings, InpaintSettings, PoissonSettings
from hypersiren.fit_config.recordings import AudioSettings, VideoSettings
from hypersiren.fit_config.surfaces import SDFSettings
from hypersiren.fit_config.waves import HelmholtzSettings, InversionSettings, WaveSettings

__all__ = ["PATHS", "TASKS", "FitSettings", "FitTraining", "Network"]

TASKS: dict[str, type[FitSettings]] = {
    "image": ImageSettings,
    "inpaint": InpaintSettings,
    "poisson": PoissonSettings,
    "edit": EditSettings,
    "audio": AudioSettings,
    "video": VideoSettings,
    "sdf": SDFSettings,
    "helmholtz": HelmholtzSettings,
    "wave": WaveSettings,
    "inversion": InversionSettings,
}
"""The settings of each task of `hypersiren fit`."""

PATHS: dict[str, tuple[str, ...]] = {"edit": ("source", "target")}
"""The keys of `signal` that the files on the command line stand for; ("path",) where nothing else is said."""
