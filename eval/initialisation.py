"""Distributions of activations and gradients by depth at initialisation (paper, section 3.2 and its supplement).

    python eval/initialisation.py --fields siren,tanh,relu

The same as `hypersiren initialisation`.
"""

import sys

from hypersiren.cli.main import main

if __name__ == "__main__":
    main(["initialisation", *sys.argv[1:]])
