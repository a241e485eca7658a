"""Named weights: the table against its publishers' own, and what `--weights` may name."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_tasks.backbones import catalog
from resnet_tasks.cli.main import main
from resnet_tasks.errors import UsageError
from resnet_tasks.weights import sources
from resnet_tasks.weights.published import NAMED


@pytest.fixture
def house(monkeypatch, tmp_path):
    """An empty home for weights; its folder of files."""
    monkeypatch.setenv("RESNET_TASKS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


def test_every_row_is_one_that_can_be_fetched():
    assert {row.backbone for row in NAMED.values()} <= set(catalog.names())
    files = [row.file_name for row in NAMED.values()]
    assert len(set(files)) == len(files)
    for key, row in NAMED.items():
        assert key == f"{row.backbone}.{row.publisher}"
        assert row.url.startswith("https://") and row.licence and 50 < row.top1 < 100
        assert row.file_name.rpartition(".")[2] in {"pth", "h5", "safetensors"}
        assert re.fullmatch("[0-9a-f]{8,64}", row.sha256 or "0" * 8)
        assert re.fullmatch("[0-9a-f]{32}", row.md5 or "0" * 32)
        if row.sha256:  # torch's custom: the file's name ends in the beginning of its hash
            assert f"-{row.sha256}." in row.url


@pytest.mark.parametrize(
    ("backbone", "key"),
    [
        ("resnet_18", "resnet_18.torchvision_v1"),
        ("resnet_50", "resnet_50.torchvision_v2"),
        ("resnet_50_v1", "resnet_50_v1.keras"),
        ("resnet_50_v2", "resnet_50_v2.timm_a1h"),
        ("se_resnet_50", "se_resnet_50.timm_ra2"),
        ("efficientnet_b7", "efficientnet_b7.keras"),
        ("resnet_20_cifar", None),  # its weights are of CIFAR-10
        ("plain_18", None),
        ("iresnet_50", None),
        ("my.module:backbone", None),
    ],
)
def test_what_imagenet_means(backbone, key):
    assert sources.default_for(backbone) == key


@pytest.mark.peers
def test_torchvisions_rows_are_torchvisions():
    from torchvision import models

    theirs = {}
    for name in models.list_models(module=models):
        if "resne" in name and "quantized" not in name:
            for weights in models.get_model_weights(name):
                theirs[weights.url] = weights
    ours = [row for row in NAMED.values() if row.publisher.startswith("torchvision")]
    assert len(ours) == 14
    for row in ours:
        meta = theirs[row.url].meta
        assert row.top1 == meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert row.megabytes == pytest.approx(meta["_file_size"] * 1.048576, abs=0.06)
    for backbone, name in {"resnet_50": "resnet50", "resnext_101_32x8d": "resnext101_32x8d"}.items():
        assert NAMED[sources.default_for(backbone)].url == models.get_model_weights(name).DEFAULT.url


@pytest.mark.peers
def test_timms_rows_are_timms():
    import timm

    files = {}
    for name in timm.list_pretrained("*resne*"):
        cfg = timm.models.get_pretrained_cfg(name)
        files[f"{cfg.hf_hub_id}/" if not cfg.url else cfg.url.rpartition("/")[2]] = cfg
    for row in NAMED.values():
        if row.publisher.startswith("timm"):
            found = next(
                cfg
                for file, cfg in files.items()
                if (file in row.url if file[-1] == "/" else row.url.endswith(f"/{file}"))
            )
            assert found.license == row.licence.lower() and found.num_classes == 1000
            mean, deviation = row.standardise or ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
            assert [255 * value for value in (*found.mean, *found.std)] == pytest.approx([*mean, *deviation])


def test_keras_rows_are_kerass():
    folder = Path(importlib.util.find_spec("keras").submodule_search_locations[0]) / "src" / "applications"
    read = {name: (folder / f"{name}.py").read_text() for name in ("vgg19", "densenet", "efficientnet", "resnet")}
    pair = r'"{}": \(\s+"\w+",\s+"(\w+)",\s+\)'
    hashes = {
        f"efficientnetb{size}_notop.h5": re.search(pair.format(f"b{size}"), read["efficientnet"])[1]
        for size in range(8)
    }
    resnet_50 = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    hashes[resnet_50] = re.search(pair.format("resnet50"), read["resnet"])[1]
    for name in ("vgg19", "densenet"):
        hashes |= re.findall(r'"(\w+_notop\.h5)",\s+\w+,\s+cache_subdir="models",\s+file_hash="(\w+)"', read[name])
    rows = [row for row in NAMED.values() if row.publisher == "keras"]
    assert len(rows) == 13
    assert {row.url.rpartition("/")[2]: row.md5 for row in rows} == hashes
    for row in rows:
        theirs = re.sub(r'"\s+f?"', "", read[re.match("vgg19|[a-z]+", row.backbone.replace("_1", "1"))[0]])
        base = row.url if row.backbone == "vgg_19" else row.url.rpartition("/")[0] + "/"
        assert f'"{base}"' in theirs


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RESNET_TASKS_HOME", raising=False)
    assert sources.home() == tmp_path / ".cache" / "resnet_tasks"
    monkeypatch.setenv("RESNET_TASKS_HOME", "~/elsewhere")
    assert sources.home() == tmp_path / "elsewhere"


def test_what_weights_may_name(house, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sources.resolve("none", "resnet_18") is None
    for name in ("imagenet", "resnet_18.torchvision_v1"):
        with pytest.raises(UsageError, match=r"resnet-tasks weights fetch resnet_18\.torchvision_v1$"):
            sources.resolve(name, "resnet_18")
    fetched = house / "resnet_18.torchvision_v1.pth"
    house.mkdir(parents=True)
    fetched.touch()
    assert sources.resolve("imagenet", "resnet_18") == sources.resolve("resnet_18.torchvision_v1") == fetched
    assert sources.resolve("resnet_18.torchvision_v1", "mine:net") == fetched
    with pytest.raises(UsageError, match=r"of resnet_18, and the backbone is resnet_34; .*resnet_34\.torchvision_v1"):
        sources.resolve("resnet_18.torchvision_v1", "resnet_34")
    with pytest.raises(UsageError, match="no weights of plain_18 are published"):
        sources.resolve("imagenet", "plain_18")
    (tmp_path / "mine.npz").touch()
    assert sources.resolve("mine.npz", "plain_18").samefile(tmp_path / "mine.npz")
    assert sources.published_as(tmp_path / "mine.npz") is None


def test_a_run_is_its_model(house, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(UsageError, match=r"run: expected a model\.keras .*no run folder"):
        sources.resolve(run, "resnet_18")
    (run / "recipe.yaml").touch()
    with pytest.raises(UsageError, match="not written one yet"):
        sources.resolve(run, "resnet_18")
    (run / "model.keras").touch()
    assert sources.resolve(str(run), "resnet_18") == run / "model.keras"


def test_a_name_mistyped_gets_the_nearest(house):
    for call in (lambda name: sources.resolve(name, "resnet_50"), sources.named, sources.fetch):
        with pytest.raises(UsageError, match=r"'resnet_50\.torchvision_v2'"):
            call("resnet_50.torchvison_v2")
    with pytest.raises(UsageError, match=r"nosuch\.npz: there is no such file"):
        sources.resolve("nosuch.npz", "resnet_50")


def test_inspect_and_convert_are_handed_files(house, tmp_path, capsys, monkeypatch):
    import types

    import resnet_tasks.weights as package

    calls = []
    stand_in = types.SimpleNamespace(
        inspect=lambda path: f"inside {path.name}",
        convert_file=lambda path, output, name: calls.append((path, str(output), name)) or "written",
    )
    monkeypatch.setitem(sys.modules, "resnet_tasks.weights.inspecting", stand_in)
    monkeypatch.setattr(package, "inspecting", stand_in, raising=False)
    theirs, run = tmp_path / "theirs.pth", tmp_path / "run"
    theirs.touch()
    run.mkdir()
    (run / "model.keras").touch()
    assert main(["weights", "inspect", str(theirs)]) == 0
    assert capsys.readouterr().out == "inside theirs.pth\n"
    assert main(["weights", "convert", str(theirs)]) == 0
    assert main(["weights", "convert", str(run), "--backbone", "resnet_18"]) == 0
    assert main(["weights", "convert", str(theirs), "--output", "x.npz"]) == 0
    assert calls == [
        (theirs, "theirs.resnet_tasks.npz", None),
        (run / "model.keras", "run.resnet_tasks.npz", "resnet_18"),
        (theirs, "x.npz", None),
    ]
    assert main(["weights", "inspect", "nosuch.pth"]) == main(["weights", "inspect", "none"]) == 2


def test_help_and_list_import_nothing_heavy():
    script = """
import sys
from resnet_tasks.cli.main import main
for words in ("weights --help", "weights fetch --help", "weights list"):
    assert main(words.split()) == 0
assert not {"tensorflow", "keras", "numpy", "urllib.request"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
