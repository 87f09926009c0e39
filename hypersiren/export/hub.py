"""Models on the Hugging Face Hub, or in a folder of its form; the extra `hub` has the library."""

from pathlib import Path
from typing import Any

from torch import nn

from hypersiren.errors import UserError
from hypersiren.fields.savable import describe
from hypersiren.fields.siren import BoundSiren
from hypersiren.training.checkpoints import load, save
from hypersiren.training.folders import to_json, write_text

try:
    from huggingface_hub import ModelHubMixin, hf_hub_download
except ImportError:
    raise UserError("Pretrained needs the extra hub: pip install huggingface_hub") from None

NAME = "model.safetensors"
"""The file of the model, as `hypersiren.save` writes it."""

CARD = """---
{{ card_data }}
---

A model of hypersiren, a library for SIRENs and for hypernetworks that predict them.

    from hypersiren import Pretrained
    model = Pretrained.from_pretrained("THIS_REPOSITORY").model
"""


class Pretrained(
    ModelHubMixin,
    library_name="hypersiren",
    tags=["siren", "implicit-neural-representation"],
    license="other",
    model_card_template=CARD,
):
    """A model that goes to the Hub and comes from there: `save_pretrained`, `push_to_hub`, `from_pretrained`.

    Args:
        model: What `hypersiren.save` takes: a HyperSiren, a Siren, windows, or a savable module of your own.

    Attributes:
        model: The same, in evaluation mode where it was loaded.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from hypersiren import Siren
        >>> siren = Siren(2, 3, 16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Pretrained(siren).save_pretrained(folder)  # .push_to_hub("me/siren") where there is a network
        ...     same = Pretrained.from_pretrained(folder).model
        >>> x = torch.rand(5, 2)
        >>> torch.equal(siren(x), same(x))
        True
    """

    def __init__(self, model: nn.Module | BoundSiren):
        self.model = model

    def _save_pretrained(self, save_directory: Path) -> None:
        model = self.model.module() if isinstance(self.model, BoundSiren) else self.model
        save(model, save_directory / NAME)
        write_text(save_directory / "config.json", to_json(describe(model)))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        device: str = "cpu",
        **others: Any,
    ) -> "Pretrained":
        """The model of a folder, or of a repository of the Hub.

        Raises:
            CheckpointError: If it holds no file that hypersiren saved.
        """
        path = Path(model_id) / NAME
        if not Path(model_id).is_dir():
            path = Path(
                hf_hub_download(
                    model_id,
                    NAME,
                    revision=revision,
                    cache_dir=cache_dir,
                    token=token,
                    force_download=force_download,
                    local_files_only=local_files_only,
                )
            )
        return cls(load(path, device))
