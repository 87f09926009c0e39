"""Measure speed as ratios within one run.

    python eval/benchmark.py loop --config configs/completion/faces.yaml

The same as `hypersiren benchmark`.
"""

import sys

from hypersiren.cli.main import main

if __name__ == "__main__":
    main(["benchmark", *sys.argv[1:]])
