"""Train a hypernetwork that completes images (paper, section 4.4).

    python train/hypernet.py --config configs/completion/faces.yaml
    python train/hypernet.py --config configs/completion/celeba_set.yaml --data.root /data

The same as `hypersiren train`.
"""

import sys

from hypersiren.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
