from .errors import UserError as UserError
from .fields import operators as operators
from .fields.coords import evaluate as evaluate
from .fields.coords import grid as grid
from .fields.jets import Jet as Jet
from .fields.mlp import CoordinateMLP as CoordinateMLP
from .fields.siren import Params as Params
from .fields.siren import Siren as Siren
from .hypernets.context import Context as Context
from .hypernets.conv_encoder import ConvEncoder as ConvEncoder
from .hypernets.full import FullHypernet as FullHypernet
from .hypernets.model import HyperSiren as HyperSiren
from .hypernets.paper_encoder import PaperConvEncoder as PaperConvEncoder
from .hypernets.set_encoder import SetEncoder as SetEncoder
from .signals.image.opening import open_picture as open_picture
from .signals.sets.images import load_images as load_images
from .training.checkpoints import load as load
from .training.fit import fit as fit

__version__: str
