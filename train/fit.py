"""Fit one field to one signal: an image, part of one, its gradient or its Laplacian (paper, sections 3.1 and 4.1).

    python train/fit.py image camera --signal.size 256
    python train/fit.py poisson camera --signal.size 128 --preset paper

The same as `hypersiren fit`.
"""

import sys

from hypersiren.cli.main import main

if __name__ == "__main__":
    main(["fit", *sys.argv[1:]])
