"""Run by smoke in an empty folder: every kind of signal is fitted, and a hypernetwork trained, for two steps each."""

import numpy as np
from PIL import Image

from hypersiren.cli.main import main
from hypersiren.signals.sound.files import write_sound
from hypersiren.signals.video.files import write_video

STEPS = ["--training.steps", "2", "--training.validate_every", "2", "--device", "cpu"]
FIT = [*STEPS, "--training.points", "64", "--network.hidden_features", "8", "--network.hidden_layers", "1"]
TRAIN = [*STEPS, "--data.size", "8", "--siren.hidden_features", "8", "--siren.hidden_layers", "1", "--encoder.kind",
         "set", "--encoder.hidden_features", "16", "--encoder.latent_features", "16", "--hypernet.hidden_features",
         "16", "--training.batch_size", "4"]  # fmt: skip

rng = np.random.default_rng(0)
Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).save("a.png")
write_sound("a.wav", rng.uniform(-1, 1, (400, 1)), 4000)
write_video("a.mp4", rng.integers(0, 256, (4, 16, 24, 3), np.uint8), 10)
ball = rng.normal(size=(300, 3))
np.save("a.npy", ball / np.linalg.norm(ball, axis=1, keepdims=True))  # points alone: their normals are estimated
for words in (["image", "a.png"], ["audio", "a.wav"], ["video", "a.mp4"], ["sdf", "a.npy"], ["helmholtz"]):
    main(["fit", *words, *FIT])
main(["train", *TRAIN])
