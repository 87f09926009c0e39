"""hypersiren: hypernetworks that predict SIRENs, and SIRENs for every task of the SIREN paper.

Public names stand in `__init__.pyi` and are imported when first used: `import hypersiren` costs next to nothing.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("hypersiren")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
