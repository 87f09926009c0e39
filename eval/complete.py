"""Complete images with a trained hypernetwork: the completion table, figures and a person's own pictures (section 4.4).

    python eval/complete.py runs/faces
    python eval/complete.py runs/faces photo.jpg --context 100 --size 512

The same as `hypersiren complete`.
"""

import sys

from hypersiren.cli.main import main

if __name__ == "__main__":
    main(["complete", *sys.argv[1:]])
