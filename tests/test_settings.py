"""Settings: what is accepted, what is refused and how."""

import inspect
import math
import shutil
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hypersiren.cli.console import find_config
from hypersiren.cli.fit import read_settings
from hypersiren.cli.train import read_train_settings
from hypersiren.completion.images.settings import CompletionSettings
from hypersiren.completion.registry import SETS
from hypersiren.completion.shapes.settings import ShapeSettings
from hypersiren.completion.sounds.settings import SoundSettings
from hypersiren.fields.baselines import BASELINES
from hypersiren.fields.settings import Kind
from hypersiren.settings.describe import describe_settings, differing_keys
from hypersiren.settings.flags import load_settings
from hypersiren.settings.section import ConfigError
from hypersiren.settings.yaml import from_yaml, to_yaml
from hypersiren.tasks.images.settings import ImageSettings
from hypersiren.tasks.registry import TASKS

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_config_is_valid_and_survives_a_round_trip(path, tmp_path):
    root = {**TASKS, **SETS}[path.parent.name].settings
    settings = load_settings(root, path)
    (tmp_path / "copy.yaml").write_text(to_yaml(settings.model_dump(mode="json")))
    assert load_settings(root, tmp_path / "copy.yaml") == settings


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_the_papers_preset(task):
    assert load_settings(TASKS[task].settings, find_config(Path("paper"), [task])) != TASKS[task].settings()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_configurations_go_by_their_names(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--data.root", "x"] if path.stem == "meshes" else []
    if path.parent.name in SETS:
        row, found = read_train_settings(Path(path.stem), flags)
        assert row is SETS[path.parent.name]
    else:
        found = read_settings(path.parent.name, flags, "fast", Path(path.stem))
    assert found == load_settings(type(found), path, flags)


def test_configurations_of_an_installed_package(tmp_path, monkeypatch):
    """Where a wheel has them, see `force-include` in pyproject.toml."""
    root = Path(__file__).parent.parent
    included = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert included["force-include"] == {"configs": "hypersiren/configs"}
    shutil.copytree(root / "configs", tmp_path / "hypersiren" / "configs")
    monkeypatch.setattr("hypersiren.cli.console.PACKAGE", tmp_path / "hypersiren")
    assert find_config(Path("faces"), list(SETS)) == tmp_path / "hypersiren/configs/completion/faces.yaml"


def test_a_folder_does_not_hide_a_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert find_config(Path("digits"), list(SETS)).name == "digits.yaml"
    (tmp_path / "faces").write_text("seed: 1")
    assert find_config(Path("faces"), list(SETS)) == Path("faces")


def test_a_file_comes_before_a_configuration_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("faces").write_text("seed: 7")
    assert read_train_settings(Path("faces"))[1].seed == 7


def test_faces_yaml_spells_out_the_defaults():
    path = next(p for p in CONFIGS if p.name == "faces.yaml")
    assert load_settings(CompletionSettings, path) == CompletionSettings()


def test_solids_yaml_spells_out_the_defaults_of_shapes():
    path = next(p for p in CONFIGS if p.name == "solids.yaml")
    assert load_settings(ShapeSettings, path) == ShapeSettings()
    assert set(yaml.safe_load(path.read_text())) == set(ShapeSettings.model_fields)


def test_digits_yaml_spells_out_the_defaults_of_sounds():
    path = next(p for p in CONFIGS if p.name == "digits.yaml")
    assert load_settings(SoundSettings, path) == SoundSettings()
    assert set(yaml.safe_load(path.read_text())) == set(SoundSettings.model_fields)


def test_the_papers_settings():
    """Paper, section 4.4, and the authors' code."""
    s = load_settings(CompletionSettings, next(p for p in CONFIGS if p.name == "celeba_set.yaml"))
    assert (s.training.batch_size, s.training.lr, s.training.clip) == (100, 5e-5, 1)
    assert s.training.steps == 401 * -(-162_770 // 100)
    assert (s.loss.latent, s.loss.weights) == (0.1, 100)
    assert (s.context.fewest, s.context.most, s.context.sampling) == (10, 200, "uniform")
    assert s.siren.model_dump() == {
        "hidden_features": 256, "hidden_layers": 3, "first_omega": 30, "hidden_omega": 30,
    }  # fmt: skip


def test_flags_override_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("training: {lr: 0.5, steps: 7}\nencoder: {kind: conv, widths: [8, 16]}\n")
    s = load_settings(
        CompletionSettings,
        path,
        ["--training.lr", "1e-4", "--data.flip=false", "--data.gray", "--data.size", "[8, 16]"],
    )
    assert (s.training.lr, s.training.steps, s.data.flip, s.data.gray, s.data.size) == (1e-4, 7, False, True, (8, 16))
    assert s.encoder.widths == (8, 16)
    s = load_settings(
        CompletionSettings, path, ["--encoder.kind", "set", "--encoder.activation", "relu"]
    )  # drops conv's widths
    assert (s.encoder.kind, s.encoder.activation) == ("set", "relu")
    for words in (["--encoder.activation", "relu", "--encoder.kind", "set"], ["--encoder.latent_features", "64"]):
        assert load_settings(CompletionSettings, path, words).encoder.latent_features == (64 if "64" in words else 256)
    kept = load_settings(CompletionSettings, None, ["--encoder.latent_features", "64", "--encoder.kind", "conv"])
    assert kept.encoder.latent_features == 64
    assert load_settings(CompletionSettings, path, ["--training.clip", "null"]).training.clip is None
    assert load_settings(CompletionSettings, path, ["--encoder.latent_features=64"]).encoder.widths == (8, 16)


NAMES = ["photo #1.png", "[a].png", "@x.png", "a: b.png", "%d.png", "2024-01-01", "null", "yes", "010", "!x", "{a}",
         "*x", "'q'", '"q"', "a=b", "-", "~", "a\tb", "- x", "&a", "true", "1e-3", "x\udcff"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_taken_as_typed(name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    expected = Path("/home/me" if name == "~" else name)
    signal = read_settings("inpaint", [name, "--signal.mask", name], "fast", None).signal
    assert (signal.path, signal.mask) == (expected, expected)
    edit = read_settings("edit", [name, f"{name}.png", f"--signal.mask={name}"], "fast", None).signal
    assert (edit.source, edit.target.name, edit.mask) == (expected, Path(f"{name}.png").name, expected)
    data = load_settings(CompletionSettings, flags=["--data.kind", "folder", "--data.root", name]).data
    assert data.root == expected


def test_every_path_of_every_task_is_taken_as_typed():
    """Also of sections that come later."""
    found = 0
    for row in {**TASKS, **SETS}.values():
        for section, field in row.settings.model_fields.items():
            for key, inner in getattr(type(field.default), "model_fields", {}).items():
                if "Path" in str(inner.annotation):
                    kind = ["--data.kind", "folder"] if section == "data" and row is SETS["completion"] else []
                    made = load_settings(row.settings, flags=[*kind, f"--{section}.{key}", "null"])
                    assert getattr(getattr(made, section), key) == Path("null")
                    found += 1
    assert found > 14


def test_the_home_folder_and_urls(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    assert read_settings("image", ["~/a.png"], "fast", None).signal.path == Path("/home/me/a.png")
    assert read_settings("image", ["~nobody.png"], "fast", None).signal.path == Path("~nobody.png")
    (tmp_path / "a.yaml").write_text("signal: {path: ~/b.png}")
    assert load_settings(TASKS["image"].settings, tmp_path / "a.yaml").signal.path == Path("/home/me/b.png")
    for url in ("http://a.org/b.png", "https://a.org/b.png?x=1", "s3://a/b", "file:///a.png"):
        with pytest.raises(ConfigError, match=r"signal.path: expected a file on this computer, not a URL .*://a?"):
            read_settings("image", [url], "fast", None)
        with pytest.raises(ConfigError, match="URL"):
            load_settings(CompletionSettings, flags=["--data.root", url])
    with pytest.raises(ConfigError, match="name of a file or folder, got ''"):
        read_settings("image", [""], "fast", None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trainig.lr", "1"], 'unknown key "trainig"; did you mean "training"?'),
        (["--training.lrr", "1"], 'unknown key "training.lrr"; did you mean "training.lr"?'),
        (["--lrr", "1"], 'unknown key "lrr"; did you mean "training.lr"?'),
        (["--training.gray", "1"], 'unknown key "training.gray"; did you mean "data.gray"?'),
        (["--training.lr", "fast"], "training.lr: input should be a valid number"),
        (["--training.lr", "-1"], "training.lr: input should be greater than 0, got -1"),
        (["--training.lr", ".nan"], "training.lr: input should be a finite number, got nan"),
        (["--training.steps", "1.5"], "training.steps: input should be a valid integer"),
        (["--training", "3"], "training expects keys"),
        (["--encoder.kind", "sett"], 'got "sett"; did you mean "set"?'),
        (["--encoder.kind", "[set]"], "encoder.kind: expected one of none, set, conv, tokens, paper_conv"),
        (["--encoder.kind", "set", "--encoder.widths", "[8]"], 'unknown key "encoder.widths" for encoder.kind set'),
        (
            ["--encoder.kind", "conv", "--encoder.widths", "[7]"],
            "encoder.widths.0: input should be a multiple of 8, got 7",
        ),
        (["--context.fewest", "2000"], "fewest (2000) must not exceed most (1000)"),
        (["--seed", "[1"], "--seed: cannot read the value '[1' ("),
        (["steps"], "unexpected argument 'steps'"),
        (["--training.steps", "--device", "cpu"], "--training.steps: expected a value after it"),
        (["--training.lr"], "--training.lr: expected a value after it"),
        (["--seed", "1", "--seed.x", "1"], "--seed.x: seed expects a value, got keys (x)"),
        (["--seed.x.y", "1"], "--seed.x.y: seed expects a value, got keys (x)"),
        (["--training.lr.x", "1"], "training.lr: input should be a valid number"),
        (["--training.lr.x", "1", "--training.lr", "{a: 1}"], "training.lr: input should be a valid number"),
        (["--", "1"], "unexpected argument '--'"),
        (["--.", "1"], 'unknown key ""'),
        (["--training.", "1"], 'unknown key "training."'),
        (["--training.steps", "12:30:45"], "training.steps: input should be a valid integer"),
        (["--training.lr", "1e999"], "training.lr: input should be a finite number, got inf"),
        (["--training.steps", "9" * 90], "--training.steps: cannot read the value"),
        (["--data.root"], "--data.root: expected a value after it"),
    ],
)
def test_bad_flags_get_one_clear_line(flags, message):
    with pytest.raises(ConfigError) as caught:
        load_settings(CompletionSettings, flags=flags)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {lrr: 1}", 'unknown key "training.lrr"; did you mean "training.lr"?'),
        ("training: [1, 2]", "training expects keys"),
        ("- 1", "expected keys and values, got list"),
        ("a: [", "not valid YAML"),
        ("1: 2", 'unknown key "1"'),
        ("training: {lr: 1}\ntraining: {steps: 2}", 'the key "training" is given twice, line 2'),
        ("training:\n  lr: 1\n  lr: 2", 'the key "lr" is given twice, line 3'),
        ("seed: {x: 1}", "seed expects a value, got keys (x)"),
    ],
)
def test_bad_files_get_one_clear_line(text, message, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(CompletionSettings, path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-1", -1), ("+2", 2), ("010", 10), ("0o10", 8),
        ("0x1F", 31), ("1_000", "1_000"), ("12:30:45", "12:30:45"), ("1:30", "1:30"), ("yes", "yes"), ("no", "no"),
        ("on", "on"), ("Off", "Off"), ("y", "y"), ("true", True), ("FALSE", False), ("tRue", "tRue"), ("", None),
        ("~", None), ("Null", None), ("2024-01-01", "2024-01-01"), ("2024-13-45", "2024-13-45"), (".inf", math.inf),
        ("-.Inf", -math.inf), ("0b11", "0b11"), ("1e", "1e"), ("=", "="), ("<<", "<<"), ('"010"', "010"),
        ("'true'", "true"), ("[1, [a, {b: c}]]", [1, ["a", {"b": "c"}]]), ("{on: 1, 1: 2}", {"on": 1, "1": 2}),
        ("[&a [1], *a]", [[1], [1]]), ("a # b", "a"), ("# b", None), ("%YAML 1.2\n---\na", "a"),
        ("\ufeffa: 1", {"a": 1}),
    ],
)  # fmt: skip
def test_yaml_is_read_as_version_1_2_says(text, value):
    found = from_yaml(text)
    assert (found, type(found)) == (value, type(value))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False)
        | st.text(max_size=9)
        | st.sampled_from([*NAMES, "1_000", "0o7", "0x1f", "1e5", ".5", "+.inf", "0b1", "=", "<<", "1:30", "9" * 200]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
)  # fmt: skip
def test_what_is_written_is_read_again(values):
    assert from_yaml(to_yaml({"a": values})) == {"a": values}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", 'the key "c" is given twice, line 4'),
        ("training: {lr: 1}\nseed: 1\ntraining: {steps: 2}", 'the key "training" is given twice, line 3'),
        ("{a: 1, 'a': 2}", 'the key "a" is given twice, line 1'),
        ("[" * 1000, "nested more than 20 deep, line 1"),
        ("[" * 1000 + "]" * 1000, "nested more than 20 deep"),
        ("{a: " * 1000, "nested more than 20 deep"),
        ("- " * 1000, "nested more than 20 deep"),
        ("\n".join(" " * i + "a:" for i in range(300)), "nested more than 20 deep, line 20"),
        ("9" * 100_000, "expected at most 100 digits, got 100,000"),
        ("9" * 100_001, "expected at most 100,000 characters"),
        ("0x" + "f" * 50_000, "expected at most 100 digits"),
        ("1." + "0" * 50_000, "expected at most 100 digits"),
        ("a: &a [1]\n" + "".join(f"{k}: &{k} [{', '.join(['*' + chr(ord(k) - 1)] * 9)}]\n" for k in "bcdefghij"),
         "expected at most 10,000 values"),
        ("&a [*a]", "expected at most 10,000 values, 20 deep"),
        ("&a {b: *a}", "20 deep"),
        ("*a", "found undefined alias"),
        ("!!timestamp abc", "expected no tags, got tag:yaml.org,2002:timestamp, line 1"),
        ("a: !!python/object/apply:os.system [ls]", "expected no tags"),
        ("!!str 1", "expected no tags"), ("!x 1", "expected no tags"), ("! 1", "expected no tags"),
        ("? [1]\n: 2", "expected a word as a key"), ("{{a: 1}: 2}", "expected a word as a key"),
        ("a: [", "line 1"), ("a: b: c", "mapping values are not allowed here, line 1"), ("a\n---\nb", "line 2"),
        ("\t- a", "line 1"), ('"\\UFFFFFFFF"', ""), ('"\\U00110000"', ""), ("\0", "special characters"),
        ("@a", "line 1"),
        ("%d", "line 1"), ("%YAML 9.9", "line 1"), ("`", "line 1"), ("'a", "line 1"),
    ],
)  # fmt: skip
def test_what_is_no_yaml_is_one_line(text, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is checked below
        from_yaml(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load_settings(CompletionSettings, flags=["--data", text])
    assert len(str(caught.value)) < 500


def test_missing_and_unreadable_files(tmp_path):
    (tmp_path / "faces.yaml").write_text("")
    with pytest.raises(ConfigError, match=r'no such file; did you mean "faces.yaml"\?'):
        load_settings(CompletionSettings, tmp_path / "fces.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(CompletionSettings, tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(CompletionSettings, tmp_path / "binary.yaml")
    assert load_settings(CompletionSettings, tmp_path / "faces.yaml") == CompletionSettings()


def test_the_list_of_settings_names_every_key_with_its_meaning():
    text = describe_settings(CompletionSettings)
    for name, section in CompletionSettings().model_dump().items():
        for key in section if isinstance(section, dict) else [None]:
            flag = f"--{name}.{key} [" if key and not (key == "kind" and name != "data") else f"{name}"
            assert flag in text
    assert "None" not in text


def test_differing_keys():
    a, b = (
        CompletionSettings(),
        load_settings(CompletionSettings, flags=["--training.lr", "0.5", "--encoder.kind", "set"]),
    )
    found = differing_keys(a.model_dump(mode="json"), b.model_dump(mode="json"))
    assert found["training.lr"] == (a.training.lr, 0.5)
    assert found["encoder.kind"] == ("none", "set")
    assert yaml.safe_load(to_yaml(b.model_dump(mode="json")))["training"]["lr"] == 0.5


def test_every_baseline_can_be_chosen():
    assert set(get_args(Kind)) == {*BASELINES, "windowed"}


def test_overriding_one_key_keeps_the_tasks_own_defaults_of_the_others():
    settings = load_settings(
        TASKS["inpaint"].settings, flags=["--training.lr", "0.5", "--network.hidden_features", "8"]
    )
    assert settings.training.optimizer == TASKS["inpaint"].settings().training.optimizer == "muon"
    assert settings.network.first_omega == 10


@pytest.mark.parametrize("task", TASKS)
def test_description_of_a_task_tells_its_defaults(task):
    text = describe_settings(TASKS[task].settings)
    steps = TASKS[task].settings().training.steps
    assert f"--training.steps [{'null' if steps is None else steps}]" in text
    assert f"--training.lr [{TASKS[task].settings().training.lr}]" in text
    kind = TASKS[task].settings().network.kind
    assert kind == (
        None
        if task in ("image", "audio", "video", "volume", "poisson", "edit", "sdf", "helmholtz", "wave")
        else "siren"
    )
    assert f"--network.kind [{kind or 'null'}]  siren | relu" in text


def test_sections_of_modules_have_the_names_of_their_constructors():
    """Every key of a section is an argument of the module; what modules have beside, `build` gives them."""
    from hypersiren.fields.siren import Siren
    from hypersiren.hypernets import settings as sections
    from hypersiren.hypernets.encoders.conv_encoder import ConvEncoder
    from hypersiren.hypernets.encoders.paper_encoder import PaperConvEncoder
    from hypersiren.hypernets.encoders.set_encoder import SetEncoder
    from hypersiren.hypernets.full import FullHypernet

    given = {"in_features", "out_features", "channels", "shapes", "latent_features", "generator", "self"}
    pairs = [
        (sections.HypoSiren, Siren), (sections.SetEncoder, SetEncoder), (sections.ConvEncoder, ConvEncoder),
        (sections.PaperConvEncoder, PaperConvEncoder), (sections.FullHypernet, FullHypernet),
    ]  # fmt: skip
    for section, module in pairs:
        keys = set(section.model_fields) - {"kind", "layers"} - given
        assert keys == set(inspect.signature(module).parameters) - given, module


def test_encoders_have_the_defaults_of_their_sections():
    from hypersiren.hypernets import settings as sections
    from hypersiren.hypernets.encoders.conv_encoder import ConvEncoder
    from hypersiren.hypernets.encoders.paper_encoder import PaperConvEncoder
    from hypersiren.hypernets.encoders.set_encoder import SetEncoder

    for section, module in [
        (sections.SetEncoder, SetEncoder), (sections.ConvEncoder, ConvEncoder),
        (sections.PaperConvEncoder, PaperConvEncoder),
    ]:  # fmt: skip
        arguments = inspect.signature(module).parameters
        for key, field in section.model_fields.items():
            if key != "kind":
                assert arguments[key].default == field.default, (module, key)


def test_the_last_word_of_a_setting_will_do_where_it_is_the_only_one():
    settings = load_settings(CompletionSettings, flags=["--steps", "7", "--lr=2e-3", "--size", "16x8", "--flip"])
    assert (settings.training.steps, settings.training.lr) == (7, 2e-3)
    assert (settings.data.size, settings.data.flip) == ((16, 8), True)
    with pytest.raises(ConfigError, match=r"--kind: expected one of --data.kind and --encoder.kind"):
        load_settings(CompletionSettings, flags=["--kind", "set"])
    # Which settings there are depends on the kinds chosen, whatever the order.
    found = load_settings(CompletionSettings, flags=["--latent_features", "8", "--encoder.kind", "set"])
    assert found.encoder.latent_features == 8
    with pytest.raises(ConfigError, match=r'--step: unknown key "step"; did you mean "training.steps"'):
        load_settings(CompletionSettings, flags=["--step", "7"])


@pytest.mark.parametrize("text", ["48x64", "48,64", "[48, 64]", "48 x 64"])
def test_sizes_as_people_write_them(text):
    assert load_settings(ImageSettings, flags=["--signal.size", text]).signal.size == (48, 64)
    assert ImageSettings().signal.replace(size=text if "[" not in text else [48, 64]).size == (48, 64)


def test_what_is_no_size_is_refused():
    for text in ("48x", "x", "48x-3", "a,b", "1,2,3"):
        with pytest.raises(ConfigError, match=r"signal.size"):
            load_settings(ImageSettings, flags=["--signal.size", text])
