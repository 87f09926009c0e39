"""What newcomers mistype and mix up: exit code 2 and one line that names what is wrong, and no other flag."""

import re
import shlex
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from hypersiren.cli.main import main
from hypersiren.completion.images.settings import CompletionSettings
from hypersiren.fields.savable import describe
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.encoders.set_encoder import SetEncoder
from hypersiren.hypernets.full import FullHypernet
from hypersiren.hypernets.model import HyperSiren
from hypersiren.shapes.surface import Placement
from hypersiren.training import folders
from hypersiren.training.checkpoints import write
from tests.lines import refusal


def checkpoint(folder: Path, model: torch.nn.Module, **record) -> None:
    """A run folder as the training of a model leaves it."""
    folder.mkdir(parents=True)
    (folder / folders.MARK).touch()
    (folder / "config.yaml").write_text("training: {lr: 7}")
    content = {"record": {"settings": {}, "model": describe(model), **record}, "ema": model.state_dict()}
    write(folder / "best.pt", {**content, "step": 1, "metrics": {}, "seconds": 0.0})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with files and runs, good and bad."""
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(home / "a.png")
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(home / "b.jpg")
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15] = 255
    for name, values in {"mask": mask, "small": mask[:10], "black": 0 * mask}.items():
        Image.fromarray(values).save(home / f"{name}.png")
    soundfile.write(home / "a.wav", 0.5 * np.sin(np.arange(2000) / 5), 8000)
    np.savetxt(home / "five.xyz", rng.normal(size=(5, 3)))
    np.savetxt(home / "two.xyz", rng.normal(size=(50, 2)))
    np.save(home / "cube.npy", rng.normal(size=(4, 4, 4)))
    for name in ("text.png", "text.wav", "text.ply", "text.mp4", "text.mat", "photos/notes.txt"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text("only words")
    for name in ("empty.png", "empty.wav", "empty.ply", "empty.pt"):
        (home / name).touch()
    (home / "open.yaml").write_text("training: {lr: 1")
    (home / "list.yaml").write_text("- 1")
    (home / "twice.yaml").write_text("seed: 1\nseed: 2")
    (home / "typo.yaml").write_text("training: {step: 3}")
    (home / "folder").mkdir()
    image = {"task": "image", "samples": [20, 30]}
    checkpoint(home / "runs/image", Siren(2, 3, hidden_features=8), playback=image)
    sound = {"task": "audio", "samples": [2000], "rate": 8000, "scale": 1.0}
    checkpoint(home / "runs/audio", Siren(1, 1, hidden_features=8), playback=sound)
    shape = {"task": "sdf", "samples": [], "shape": asdict(Placement(1.0, [0.0] * 3, [-1.0] * 3, [1.0] * 3))}
    checkpoint(home / "runs/sdf", Siren(3, 1, hidden_features=8), playback=shape)
    siren = Siren(2, 1, hidden_features=8)
    model = HyperSiren(SetEncoder(3, 8), FullHypernet(siren.shapes, 8, 8), siren)
    settings = CompletionSettings().model_dump(mode="json")
    checkpoint(home / "runs/faces", model, settings={**settings, "data": {**settings["data"], "size": 8}})
    return home


MISTAKES = r"""
fit  ->  Command "fit" parameter --task requires an argument.
fti image a.png  ->  Unknown command "fti". Did you mean "fit"? Available commands:
fit imag a.png  ->  unknown task "imag"; did you mean "image"?
fit photo.png  ->  unknown task "photo.png"; expected one of image, inpaint, poisson, edit,
fit image missing.png  ->  missing.png: no such file
fit image folder  ->  folder: a folder, not an image
fit image text.png  ->  text.png: not an image that Pillow can read
fit image empty.png  ->  empty.png: empty file
fit image a.wav  ->  a.wav: not an image that Pillow can read
fit image camra  ->  camra: no such file; did you mean "camera"?
fit image https://example.org/a.png  ->  signal.path: expected a file on this computer, not a URL (download it
fit image a.png c.jpg  ->  c.jpg: no such file
fit image a.png b.jpg --out x  ->  several signals have a run folder each, and one process: expected no --out
fit image a.png -x  ->  unknown flag -x; settings are given as --key value
fit image a.png --signal.sise 32  ->  --signal.sise: unknown key "signal.sise"; did you mean "signal.size"?
fit image a.png --signal.size abc  ->  signal.size: expected a number, or numbers with commas between them
fit image a.png --signal.size -3  ->  signal.size: input should be greater than 0, got -3
fit image a.png --signal.size [1,2,3]  ->  signal.size: expected at most 2 numbers, got [1, 2, 3]
fit image a.png --siz 32  ->  --siz: unknown key "siz"; did you mean "signal.size"?
fit image a.png --epochs 10  ->  --epochs: unknown key "epochs"; did you mean "training.steps"?
fit image a.png --gpu  ->  --gpu: unknown key "gpu"; did you mean "device cuda"?
fit image a.png --learning-rate 1  ->  --learning_rate: unknown key "learning_rate"; did you mean "training.lr"?
fit image a.png --batch-size 9  ->  --batch_size: unknown key "batch_size"; did you mean "training.points"?
fit image a.png --network.w0 9  ->  --network.w0: unknown key "network.w0"; did you mean "network.first_omega"?
train --epochs 10  ->  --epochs: unknown key "epochs"; did you mean "training.steps"?
fit image a.pgn  ->  a.pgn: no such file; did you mean "a.png"?
fit image photos/notes.tx  ->  photos/notes.tx: no such file; did you mean "photos/notes.txt"?
complete runs/face a.png  ->  runs/face: no such run folder or checkpoint; did you mean "runs/faces"?
render runs/imge  ->  runs/imge: no such run folder or checkpoint; did you mean "runs/image"?
fit image a.png --step 10  ->  --step: unknown key "step"; did you mean "training.steps"?
fit image a.png --training.steps -5  ->  training.steps: input should be greater than or equal to 0, got -5
fit image a.png --steps 0 --kind siren  ->  training.steps: expected at least 1 where nothing is solved, got 0
fit image a.png --numbers 0.5 --kind siren  ->  network.numbers: expected none with kind siren, got 0.5
fit image a.png --numbers 0  ->  network.numbers: input should be greater than 0, got 0
fit image a.png --window 99  ->  network.window: expected at most 30 samples, as the signal has, got 99
fit image a.png --overlap 0.6  ->  network.overlap: input should be less than or equal to 0.5, got 0.6
fit image a.png --kind windowed --hidden_layers 1  ->  network.hidden_layers: expected none with kind windowed, got 1
fit inpaint a.png --network.kind windowed  ->  network.kind: inpaint has no closed form for windows here; expected
fit image a.png --training.steps 1.5  ->  training.steps: input should be a valid integer, got a number with a
fit image a.png --training.steps many  ->  training.steps: input should be a valid integer, unable to parse string as
fit image a.png --training.steps  ->  --training.steps: expected a value after it
fit image a.png --training.lr nan  ->  training.lr: input should be a finite number, got 'nan'
fit image a.png --training.optimizer sgd  ->  training.optimizer: input should be 'adam', 'muon' or 'lbfgs', got 'sgd'
fit image a.png --network.kind sirne  ->  network.kind: input should be 'siren', 'relu', 'tanh', 'softplus',
fit image a.png --preset papr  ->  Invalid value "papr" for --preset. Choose from: "fast", "paper". Did you
fit image a.png --preset  ->  Command "fit" parameter --preset requires an argument.
fit image a.png --config nowhere.yaml  ->  nowhere.yaml: no such file; did you mean "open.yaml"?
fit image a.png --config open.yaml  ->  open.yaml: not valid YAML (expected ',' or '}', but got '<stream end>',
fit image a.png --config list.yaml  ->  list.yaml: expected keys and values, got list
fit image a.png --config twice.yaml  ->  twice.yaml: not valid YAML (the key "seed" is given twice, line 2)
fit image a.png --config typo.yaml  ->  typo.yaml: unknown key "training.step"; did you mean "training.steps"?
fit image a.png --config faces  ->  --config: no such file or configuration "faces"; expected a file, or one
fit image a.png --config a.png  ->  a.png: cannot be read ('utf-8' codec can't decode byte 0x89 in position 0:
fit image a.png --config folder  ->  folder: cannot be read ([Errno 21] Is a directory: 'folder')
fit image a.png --device gpu  ->  --device: expected auto or one of cpu, cuda, mps, xpu, got "gpu"; did you mean "cuda"?
fit audio a.wav --start 3  ->  3: no such run folder or checkpoint, nor a released model (faces,
fit helmholtz triangle  ->  triangle: no such file; expected a file, or one of uniform, square, circle
train --config faces.yaml --steps x  ->  training.steps: input should be a valid integer, unable to parse string as
complete natural a.png  ->  natural: it is no longer released: photographs completes pictures at their own size, and
fit image a.png --device  ->  --device: expected a value after it
fit image a.png --signal.share 2  ->  signal.share: input should be less than or equal to 1, got 2
fit image a.png --signal.range 5  ->  signal.range: expected numbers with commas between them, such as 1,2, got 5
fit image a.png --signal.range 5,1  ->  signal.range: expected black and white, the first the lower, got [5, 1]
fit image a.png --out a.png  ->  a.png: expected a folder for the run, got a file
fit image a.png --out .  ->  .: expected an empty folder or that of a run, got one with other files;
fit image a.png --out photos  ->  photos: expected an empty folder or that of a run, got one with other
fit image a.png --out runs/image  ->  runs/image holds a run with other settings (training.lr: 7 there, 0.004
fit image a.png --run-dir x  ->  unknown flag --run-dir; did you mean --out?
fit image a.png --run_dir=x  ->  unknown flag --run_dir; did you mean --out?
train --run-dir x  ->  unknown flag --run-dir; did you mean --out?
fit image a.png --ouut x  ->  --ouut: unknown key "ouut"; did you mean "out"?
fit image a.png --queit  ->  --queit: unknown key "queit"; did you mean "quiet"?
fit image a.png --restart yes  ->  yes: no such file
fit image a.png --training.steps 5 10  ->  unexpected argument '10'; settings are given as --key value
fit image --training.steps 5 a.png  ->  unexpected argument 'a.png'; settings are given as --key value
fit image a.png --signal.gray maybe  ->  signal.gray: input should be a valid boolean, unable to interpret input,
fit inpaint a.png --signal.mask missing.png  ->  missing.png: no such file
fit inpaint a.png --signal.mask small.png  ->  small.png: expected a mask of the picture's 30x20 pixels (width
fit inpaint a.png --signal.mask black.png  ->  black.png: no pixel is known: the mask has nothing transparent, values
fit inpaint a.png --signal.mask text.png  ->  text.png: not an image that Pillow can read
fit inpaint a.png --maks mask.png  ->  --maks: unknown key "maks"; did you mean "signal.mask"?
fit edit a.png b.jpg mask.png  ->  edit takes 2 files, got a.png b.jpg mask.png
fit edit a.png missing.png  ->  missing.png: no such file
fit edit a.png b.jpg --signal.mask mask.png --signal.offset 5  ->  signal.offset: expected numbers with commas
fit edit a.png b.jpg --signal.mask mask.png --signal.offset [50,50]  ->  mask.png: nothing of the mask lies in the
fit poisson a.png --loss.target laplacien  ->  loss.target: input should be 'gradient' or 'laplacian', got 'laplacien'
fit audio missing.mp3  ->  missing.mp3: no such file
fit audio a.png  ->  a.png: not a sound that libsndfile can read, or one cut off within its
fit audio text.wav  ->  text.wav: not a sound that libsndfile can read, or one cut off within its
fit audio empty.wav  ->  empty.wav: empty file
fit audio a.wav --signal.start 99  ->  a.wav: expected a start before the end, 0.25 s, got 99 s
fit audio a.wav --signal.start 0.2 --signal.stop 0.1  ->  a.wav: expected a part within 0 to 0.25 s, got 0.2 to 0.1 s
fit video text.mp4  ->  text.mp4: not a video that FFmpeg can read (Invalid data found when
fit video folder  ->  folder: expected a folder of pictures, found none in it
fit sdf missing.ply  ->  missing.ply: no such file
fit sdf a.png  ->  a.png: expected points as .xyz, .txt, .csv, .asc, .pts, .ply, .pcd, .npy,
fit sdf text.ply  ->  text.ply: expected a PLY file, from a line ply to a line end_header
fit sdf empty.ply  ->  empty.ply: empty file
fit sdf five.xyz  ->  five.xyz: expected at least 10 points, got 5
fit sdf two.xyz  ->  two.xyz: expected rows of 3 numbers, or 6 with normals, got 2 columns;
fit sdf knot --signal.up q  ->  signal.up: input should be 'x', 'y' or 'z', got 'q'
fit helmholtz missing.npy  ->  missing.npy: no such file
fit helmholtz cube.npy  ->  cube.npy: expected velocities (H, W), got float64 of shape (4, 4, 4)
fit helmholtz triangle  ->  triangle: no such file
fit helmholtz --signal.wavenumber -1  ->  signal.wavenumber: input should be greater than 0, got -1
fit inversion text.mat  ->  text.mat: not a .mat file that SciPy can read (up to version 7)
fit wave a.wav  ->  a.wav: not an image that Pillow can read
train faces  ->  unexpected argument 'faces'; settings are given as --key value
train --config missing.yaml  ->  missing.yaml: no such file; did you mean "list.yaml"?
train --config fases  ->  --config: no such file or configuration "fases"; did you mean "faces"?
train --config open.yaml  ->  open.yaml: not valid YAML (expected ',' or '}', but got '<stream end>',
train --data.kind face  ->  data.kind: expected one of faces, photos, folder, celeba, solids, meshes, sounds
train --data.kind soldis  ->  data.kind: expected one of faces, photos, folder, celeba, solids, meshes, sounds
train --data.kind folder  ->  images of kind 'folder' need a root, the folder that holds them
train --data.kind folder --data.root missing  ->  missing: no such folder
train --data.kind folder --data.root a.png  ->  expected a folder, got a file: a.png
train --data.kind folder --data.root folder  ->  expected image files below folder, found none
train --data.kind folder --data.root photos  ->  expected at least 3 images in photos (1 files left out, the first
train --data.kind celeba --data.root photos  ->  CelebA: photos/celeba/img_align_celeba is missing; expected
train --data.kind CelebA --data.root photos  ->  CelebA: photos/celeba/img_align_celeba is missing; expected
train --data.kind meshes --data.root photos  ->  photos: expected at least 3 closed meshes (.obj, .ply, .stl, .off,
train --data.kind CIFAR10 --data.root photos  ->  CIFAR10 in photos: Dataset not found or corrupted. You can use
train --data.root photos  ->  root has no meaning for images of kind 'faces'
train --data.size big  ->  data.size: expected a number, or numbers with commas between them
train --training.batch_size 0  ->  training.batch_size: input should be greater than 0, got 0
train --encoder.kind transformer  ->  encoder.kind: expected one of none, set, conv, tokens, paper_conv, got
train --hypernet.hidden_feature 3  ->  --hypernet.hidden_feature: unknown key "hypernet.hidden_feature"; did you
train --signal.size 3  ->  --signal.size: unknown key "signal"
train --out photos  ->  photos: expected an empty folder or that of a run, got one with other
train --out runs/image  ->  runs/image holds a run with other settings (training.lr: 7 there, 0.001
complete  ->  Command "complete" parameter --run requires an argument.
complete missing  ->  missing: no such run folder or checkpoint
complete photos  ->  photos: holds no checkpoint (best.pt or last.pt); expected a run folder of
complete a.png  ->  a.png: expected a run folder of `hypersiren
complete empty.pt  ->  empty.pt: not a readable checkpoint (an empty file)
complete runs/image  ->  runs/image/best.pt: expected a run of `hypersiren train`, got a fitted
complete runs/sdf a.png  ->  runs/sdf/best.pt: expected a run of `hypersiren train`, got a fitted
complete runs/faces missing.png  ->  missing.png: no such file
complete runs/faces a.wav  ->  a.wav: not an image that Pillow can read
complete runs/faces folder  ->  folder: a folder, not an image
complete runs/faces text.png  ->  text.png: not an image that Pillow can read
complete runs/faces a.png --mask small.png  ->  small.png: expected a mask of the picture's 30x20 pixels (width
complete runs/faces a.png --mask missing.png  ->  missing.png: no such file
complete runs/faces a.png --context -1  ->  expected --context of at least 1, got -1
complete runs/faces a.png --context 100000  ->  expected --context of at most 64
complete runs/faces a.png --context all  ->  expected --context such as 100 or 10%, got "all"
complete runs/faces a.png --size 0  ->  expected --size of at least 1, got 0
complete runs/faces a.png --extent 0  ->  expected --extent above 0, got 0
complete runs/faces a.png --extent nan  ->  expected --extent above 0, got nan
complete runs/faces a.png --out a.png  ->  a.png: cannot make this folder (File exists)
complete runs/faces a.png --signal.size 3  ->  Unknown option: --signal.size. Did you mean --size?
complete runs/faces --size 0  ->  expected --size of at least 1, got 0
complete runs/faces --context 5  ->  --context needs a picture, points or a recording to complete
complete runs/faces --out photos  ->  photos: expected an empty folder or that of a run, got one with other
render  ->  Command "render" parameter --run requires an argument.
render missing  ->  missing: no such run folder or checkpoint
render photos  ->  photos: holds no checkpoint (best.pt or last.pt); expected a run folder of
render a.png  ->  a.png: expected a run folder of `hypersiren
render runs/sdf  ->  runs/sdf/best.pt: expected a fitted image, sound, video or volume (hypersiren fit
render runs/faces  ->  runs/faces/best.pt: expected a fitted image, sound, video or volume (hypersiren
render runs/image --size 0  ->  expected --size above 0, got 0
render runs/image --size big  ->  Invalid value for --size: unable to convert "big" into int.
render runs/image --rate 8000  ->  --rate: not for the image that runs/image holds; it has --size, --region
render runs/image --region 0 0 1  ->  Command "render" parameter --region requires 4 positional arguments. Only
render runs/image --region 1 1 0 0  ->  expected --region TOP LEFT BOTTOM RIGHT with top < bottom, left < right,
render runs/image --out a.xyz  ->  a.xyz: expected the ending of an image format, such as .png, got '.xyz'
render runs/image --out missing/a.png  ->  missing/a.png: expected a name in a folder that exists
render runs/audio --size 3  ->  --size: not for the sound that runs/audio holds; it has --rate
render runs/audio --rate 0  ->  expected --rate above 0, got 0
render runs/audio --out a.png  ->  a.png: expected the ending .wav, got '.png'
mesh  ->  Command "mesh" parameter --run requires an argument.
mesh runs/image  ->  runs/image/best.pt: expected a fitted shape (hypersiren fit sdf)
mesh runs/faces  ->  runs/faces/best.pt: expected a fitted shape (hypersiren fit sdf)
mesh bunny.ply  ->  bunny.ply: no such run folder or checkpoint
mesh text.ply  ->  text.ply: not a readable checkpoint (expected a run folder of `hypersiren
mesh runs/sdf --size 0  ->  expected --size of at least 1, got 0
mesh runs/sdf --out a.stl  ->  a.stl: expected the ending .ply, .obj or .glb, in a folder that exists
mesh runs/sdf --out missing/a.ply  ->  missing/a.ply: expected the ending .ply, .obj or .glb, in a folder that
mesh runs/sdf --truth missing.ply  ->  missing.ply: no such file
mesh runs/sdf --resolution 128  ->  unknown flag --resolution; did you mean --size?
compare image a.png --fields siren,rellu  ->  --fields: expected some of siren, relu, tanh, softplus, relu_pe,
compare image missing.png  ->  missing.png: no such file
compare image a.png --out photos  ->  photos: expected an empty folder or that of a run, got one with other
compare imag a.png  ->  unknown task "imag"; did you mean "image"?
initialisation --fields sirn  ->  expected a baseline of siren, relu, tanh, softplus, relu_pe, relu_fourier,
initialisation --hidden_layers -1  ->  expected --hidden-layers of at least 0, got -1
initialisation --out table --hidden-features 4  ->  table: expected the ending of an image format, such as .png
initialisation --out missing/a.png --hidden-features 4  ->  missing/a.png: expected a name in a folder that exists
settings imag  ->  unknown task "imag"; expected one of image, inpaint, poisson, edit, audio,
settings faces  ->  unknown task "faces"; expected one of image, inpaint, poisson, edit,
benchmark loops  ->  Unknown command "loops". Did you mean "loop"? Available commands: jets,
nonsense  ->  Unknown command "nonsense". Available commands:
fit sdf knot --signal.columns x,y  ->  knot: expected no columns of a shape that is made here
fit image a.png --training.optimizer lbfgs --training.accumulate 2  ->  training: expected accumulate of 1 with
"""
"""A command, and how its one line begins."""


def pairs() -> list[tuple[str, str]]:
    lines = [line.partition("  ->  ") for line in MISTAKES.strip().splitlines()]
    return [(words, expected) for words, _, expected in lines]


@pytest.mark.parametrize(("words", "expected"), pairs())
def test_a_mistake_is_one_line_that_names_it(home, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(home)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    line = refusal(err)
    assert line.startswith(expected)
    right = [flag for flag in re.findall(r"--[a-z_.-]+", words) if flag not in expected][:-1]
    assert not set(right) & set(re.findall(r"--[a-z_.-]+", line))
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("words", ["image --out a.xyz --size 10", "audio --out a.png"])
def test_what_cannot_be_written_is_refused_before_it_is_rendered(home, monkeypatch, words):
    monkeypatch.chdir(home)
    for name in ("image", "sound"):
        monkeypatch.setattr(f"hypersiren.fields.render.render_{name}", lambda *words, **more: pytest.fail("rendered"))
    with pytest.raises(SystemExit) as stop:
        main(["render", *f"runs/{words}".split()])
    assert stop.value.code == 2
