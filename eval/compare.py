"""SIREN beside its baselines on one signal, with equally many weights and steps (paper, figures 1 and 3).

    python eval/compare.py image camera --signal.size 128
    python eval/compare.py poisson camera --signal.size 128 --fields siren,relu,tanh,relu_pe

The same as `hypersiren compare`.
"""

import sys

from hypersiren.cli.main import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
