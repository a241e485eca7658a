"""Files of weights: what each format gives, to the bit, and what a bad file is refused for."""

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from resnet_tasks.errors import DataError, UsageError
from resnet_tasks.weights import files

ARRAYS = {
    "conv.weight": np.random.default_rng(0).standard_normal((2, 3, 1, 1)).astype("float32"),
    "norm.count": np.array(7),
    "half": np.arange(6, dtype="float16").reshape(2, 3),
    "none": np.zeros((0, 3), "float32"),
}


class Call:
    """Pickles as a call, of what is not there to be imported too."""

    def __init__(self, module: str, name: str, *arguments):
        self.function, self.arguments = _named(module, name), arguments

    def __reduce__(self):
        return self.function, self.arguments


def _named(module: str, name: str):
    return type(name, (), {"__module__": module, "__qualname__": name})


class _Pickler(pickle._Pickler):
    """Python's own, but it does not look whether the classes that it names exist; storages are persistent."""

    def save_global(self, obj, name=None):
        self.write(pickle.GLOBAL + f"{obj.__module__}\n{obj.__qualname__}\n".encode())
        self.memoize(obj)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, type: save_global}

    def persistent_id(self, obj):
        return obj.identity if isinstance(obj, Storage) else None


class Storage:
    def __init__(self, kind: str, key: str, count: int, *view):
        self.identity = ("storage", _named("torch", f"{kind}Storage"), key, "cpu", count, *view)


def tensor(storage: Storage, offset: int, shape: tuple, strides: tuple) -> Call:
    return Call("torch._utils", "_rebuild_tensor_v2", storage, offset, shape, strides, False, OrderedDict())


def pickled(value, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def torch_zip(path: Path, root, numbers: dict[str, bytes], **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(root))
        for key, value in numbers.items():
            archive.writestr(f"archive/data/{key}", value)
        for key, value in more.items():
            archive.writestr(f"archive/{key}", value)
    return path


def torch_stream(path: Path, root, numbers: dict[str, tuple[int, bytes]]) -> Path:
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, root, list(numbers)]
    body = b"".join(struct.pack("<q", count) + data for count, data in numbers.values())
    path.write_bytes(b"".join(map(pickled, head)) + body)
    return path


def safetensors(path: Path, header, body: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def refused(path: Path, saying: str | None = None) -> None:
    with pytest.raises(DataError, match=saying) as caught:
        files.read(path)
    assert str(path) in str(caught.value)


NUMBERS = np.arange(24, dtype="<f4")


def views(storage: Storage) -> dict:
    """Four tensors that look into one storage of 24 numbers, and what they are."""
    return {
        "rows": tensor(storage, 0, (4, 6), (6, 1)),
        "turned": tensor(storage, 0, (6, 4), (1, 6)),
        "part": tensor(storage, 8, (2, 3), (6, 1)),
        "again": tensor(storage, 23, (5,), (0,)),
        "one": tensor(storage, 3, (), ()),
        "void": tensor(storage, 0, (0, 3), (3, 1)),
    }


def check_views(tensors: dict[str, np.ndarray]) -> None:
    grid = NUMBERS.reshape(4, 6)
    expected = {"rows": grid, "turned": grid.T, "part": grid[1:3, 2:5], "again": np.full(5, 23), "one": np.array(3.0)}
    expected["void"] = np.zeros((0, 3))
    assert list(tensors) == list(expected)
    for name, value in expected.items():
        assert tensors[name].dtype == np.float32 and tensors[name].shape == value.shape
        np.testing.assert_array_equal(tensors[name], value)
        assert tensors[name].base is None and tensors[name].flags.c_contiguous


def test_npz_comes_back_to_the_bit(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS, turned=np.asfortranarray(ARRAYS["half"]), big=np.array([1, 2], ">f4"))
    checkpoint = files.read(tmp_path / "a.npz")
    assert (checkpoint.format, checkpoint.path) == ("npz", tmp_path / "a.npz")
    for name, value in {**ARRAYS, "turned": ARRAYS["half"], "big": np.array([1, 2], "float32")}.items():
        assert checkpoint.tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(checkpoint.tensors[name], value)


def test_what_a_file_is_its_content_decides(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    (tmp_path / "a.npz").rename(tmp_path / "a.pth")
    assert files.read(str(tmp_path / "a.pth")).format == "npz"


def test_safetensors_by_its_published_format(tmp_path):
    header = {
        "__metadata__": {"format": "pt"},
        "late": {"dtype": "BF16", "shape": [3], "data_offsets": [8, 14]},
        "early": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "scalar": {"dtype": "I64", "shape": [], "data_offsets": [14, 22]},
    }
    body = struct.pack("<2f", 0.5, -3) + struct.pack("<3H", 0x3F80, 0xC040, 0x7F80) + struct.pack("<q", 9)
    checkpoint = files.read(safetensors(tmp_path / "a.safetensors", header, body))
    assert checkpoint.format == "safetensors" and checkpoint.details == {"metadata": {"format": "pt"}}
    assert list(checkpoint.tensors) == ["late", "early", "scalar"]
    np.testing.assert_array_equal(checkpoint.tensors["early"], np.array([[0.5], [-3]], "float32"))
    np.testing.assert_array_equal(checkpoint.tensors["late"], np.array([1, -3, np.inf], "float32"))
    assert checkpoint.tensors["late"].dtype == np.float32 and checkpoint.tensors["scalar"] == 9


def test_a_header_that_begins_like_a_pickle(tmp_path):
    entry = {"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    header = json.dumps(entry).encode().ljust(640)
    assert files.read(safetensors(tmp_path / "a.safetensors", header, b"\x05")).tensors["w"] == [5]


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BAD_HEADERS = {
    "cut off": ({"w": ENTRY}, bytes(4), None, "ends at|cut off"),
    "more than described": ({"w": ENTRY}, bytes(12), None, "describes"),
    "a header without end": ({"w": ENTRY}, bytes(8), 2**62, "states a header"),
    "no JSON": (b"{not json}", b"", None, "no readable header"),
    "deep": (b"{" + b'"a":[' * 100_000, b"", None, "no readable header"),
    "a shape too large": ({"w": {**ENTRY, "shape": [3]}}, bytes(8), None, "needs 12"),
    "a shape of text": ({"w": {**ENTRY, "shape": ["2"]}}, bytes(8), None, "no array has"),
    "negative": ({"w": {**ENTRY, "shape": [-2, -1]}}, bytes(8), None, "no array has"),
    "beyond 64 bits": ({"w": {**ENTRY, "shape": [2**40, 2**40]}}, bytes(8), None, "needs"),
    "overlapping": ({"v": ENTRY, "w": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12), None, "8 is expected"),
    "backwards": ({"w": {**ENTRY, "data_offsets": [8, 0]}}, bytes(8), None, "without a type"),
    "unknown type": ({"w": {**ENTRY, "dtype": "F8_E4M3"}}, bytes(8), None, "F8_E4M3"),
    "twice": (b'{"w": 1, "w": 2}', b"", None, "twice"),
    "nothing": ({}, b"", None, "no arrays"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_a_bad_safetensors_is_refused(tmp_path, case):
    header, body, length, saying = BAD_HEADERS[case]
    refused(safetensors(tmp_path / "bad.safetensors", header, body, length), saying)


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_of_arrays(tmp_path, protocol):
    root = {
        "epoch": 3,
        "best": np.float64(0.5),
        "names": ("a", {1, 2}),
        "model": dict(ARRAYS),
        "flags": [True, None, b"x"],
    }
    (tmp_path / "a.pth").write_bytes(pickle.dumps(root, protocol))
    checkpoint = files.read(tmp_path / "a.pth")
    assert checkpoint.details["wrapper"] == "model"
    assert checkpoint.details["notes"] == {"epoch": 3, "best": 0.5}
    for name, value in ARRAYS.items():
        assert checkpoint.tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(checkpoint.tensors[name], value)


def test_views_of_a_shared_storage(tmp_path):
    root = views(Storage("Float", "0", 24))
    read = files.read(torch_zip(tmp_path / "zip.pth", root, {"0": NUMBERS.tobytes()}, byteorder=b"little"))
    check_views(read.tensors)
    assert read.details == {"container": "zip"} and read.format == "pth"
    read = files.read(torch_zip(tmp_path / "big.pth", root, {"0": NUMBERS.astype(">f4").tobytes()}, byteorder=b"big"))
    check_views(read.tensors)
    read = files.read(torch_stream(tmp_path / "old.pth.tar", root, {"0": (24, NUMBERS.tobytes())}))
    check_views(read.tensors)
    assert read.details == {"container": "stream"}


def test_an_old_view_of_a_storage_begins_inside_it(tmp_path):
    root = views(Storage("Float", "0", 26, ("1", 2, 24)))
    numbers = np.concatenate([[-1, -2], NUMBERS]).astype("<f4")
    check_views(files.read(torch_stream(tmp_path / "old.pth", root, {"0": (26, numbers.tobytes())})).tensors)


def test_bfloat16_becomes_float32(tmp_path):
    root = {"w": tensor(Storage("BFloat16", "0", 3), 1, (2,), (1,))}
    data = struct.pack("<3H", 0, 0x3F80, 0xC040)
    for path in (
        torch_zip(tmp_path / "a.pth", root, {"0": data}),
        torch_stream(tmp_path / "b.pth", root, {"0": (3, data)}),
    ):
        value = files.read(path).tensors["w"]
        assert value.dtype == np.float32 and value.tolist() == [1, -3]


def test_the_mapping_with_most_tensors_is_taken_and_named(tmp_path):
    storage = Storage("Float", "0", 24)
    inner = OrderedDict(views(storage))
    root = {"arch": "resnet50", "scale": tensor(storage, 0, (), ()), "net": {"state_dict": inner}, "ema": dict(inner)}
    checkpoint = files.read(torch_zip(tmp_path / "a.ckpt", root, {"0": NUMBERS.tobytes()}))
    check_views(checkpoint.tensors)
    assert checkpoint.details["wrapper"] == "ema"  # as many as net.state_dict, and nearer the top
    assert checkpoint.details["also there"] == {"(top)": 1, "net.state_dict": 6}
    assert checkpoint.details["notes"] == {"arch": "resnet50"}


def outside(**fields) -> dict:
    given = {"offset": 0, "shape": (2, 2), "strides": (2, 1), **fields}
    return {"w": tensor(Storage("Float", "0", 4), given["offset"], given["shape"], given["strides"])}


OUTSIDE = {
    "offset": (outside(offset=1), "beyond its 4"),
    "strides": (outside(strides=(3, 1)), "beyond its 4"),
    "negative offset": (outside(offset=-1), "no array has"),
    "negative stride": (outside(strides=(-1, 1)), "no array has"),
    "too few strides": (outside(strides=(1,)), "beyond its 4"),
    "a bomb of one number": (outside(shape=(2**20, 2**20), strides=(0, 0)), "claims to unpack"),
    "a larger second claim": (
        {**outside(), "v": tensor(Storage("Float", "0", 400), 0, (400,), (1,))},
        "beyond its|too few",
    ),
    "no such numbers": ({"w": tensor(Storage("Float", "7", 4), 0, (4,), (1,))}, "lacks the numbers|cut off"),
    "quantised": ({"w": tensor(Storage("QInt8", "0", 4), 0, (4,), (1,))}, "QInt8Storage"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_a_tensor_that_reaches_beyond_its_numbers(tmp_path, case):
    root, saying = OUTSIDE[case]
    refused(torch_zip(tmp_path / "a.pth", root, {"0": bytes(16)}), saying)
    if case not in ("no such numbers", "quantised"):
        refused(torch_stream(tmp_path / "b.pth", root, {"0": (4, bytes(16))}), saying + "|cut off|where 400")


class Evil:
    def __init__(self, place: str):
        self.place = place

    def __reduce__(self):
        return os.system, (f"touch {self.place}",)


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_and_nothing_runs(tmp_path, protocol):
    evil = pickle.dumps({"w": Evil(str(tmp_path / "pwned"))}, protocol)
    (tmp_path / "old.pth").write_bytes(evil)
    with zipfile.ZipFile(tmp_path / "new.pth", "w") as archive:
        archive.writestr("archive/data.pkl", evil)
    head = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    (tmp_path / "stream.pt").write_bytes(b"".join(head) + evil)
    for name in ("old.pth", "new.pth", "stream.pt"):
        refused(tmp_path / name, rf"carries code \({os.system.__module__}.system\): refused, nothing was run")
    assert not (tmp_path / "pwned").exists()


CODE = {
    "eval": b"\x80\x02c__builtin__\neval\nX\x05\x00\x00\x001+1+1\x85R.",
    "inst": b"(S'true'\niposix\nsystem\n.",
    "obj": b"(cposix\nsystem\nS'true'\no.",
    "getattr": b"\x80\x02cbuiltins\ngetattr\n.",
    "extension": b"\x80\x02\x82\x01.",
    "a call of a storage": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "a call of a string": b"\x80\x02X\x01\x00\x00\x00a)R.",
    "bytes without end": b"\x80\x04c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "numpy of objects": b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8K\x00K\x01\x87R.",
    "torch.load inside": b"\x80\x02ctorch.storage\n_load_from_bytes\n.",
}


@pytest.mark.parametrize("case", CODE)
def test_other_ways_to_run_something(tmp_path, case):
    (tmp_path / "a.pth").write_bytes(CODE[case])
    refused(tmp_path / "a.pth", "refused, nothing was run|bytes from what are none|numbers are expected")


def test_a_state_changes_nothing_of_ours(tmp_path):
    from resnet_tasks.weights.pickled import Record

    before = dict(vars(Record))
    (tmp_path / "a.pth").write_bytes(b"\x80\x02cargparse\nNamespace\n}X\x05\x00\x00\x00buildK\x01sb.")
    refused(tmp_path / "a.pth", "no named tensors")
    assert dict(vars(Record)) == before


def test_tuples_within_tuples_end_at_once(tmp_path):
    doubled = b"\x80\x02}K\x01K\x01\x86" + b"2\x86" * 200 + b"K\x01s."  # each twice the one before it, as a key
    (tmp_path / "a.pth").write_bytes(doubled)
    refused(tmp_path / "a.pth", "no whole pickle")


def whole_files(tmp_path) -> dict[str, Path]:
    """A good file of every format that needs no peer to write."""
    root = {f"w{n}": tensor(Storage("Float", str(n), 24), 0, (4, 6), (6, 1)) for n in range(9)}
    numbers = {str(n): NUMBERS.tobytes() for n in range(9)}
    np.savez(tmp_path / "a.npz", **{f"w{n}": NUMBERS for n in range(9)})
    entry = {"w": {"dtype": "F32", "shape": [24], "data_offsets": [0, 96]}}
    return {
        "npz": tmp_path / "a.npz",
        "zip": torch_zip(tmp_path / "zip.pth", root, numbers),
        "stream": torch_stream(tmp_path / "old.pth", root, {key: (24, data) for key, data in numbers.items()}),
        "safetensors": safetensors(tmp_path / "a.safetensors", entry, NUMBERS.tobytes()),
    }


@pytest.mark.parametrize("kind", ["npz", "zip", "stream", "safetensors"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, kind):
    path = whole_files(tmp_path)[kind]
    content = path.read_bytes()
    files.read(path)
    for length in range(0, len(content), max(1, len(content) // 97)):
        path.write_bytes(content[:length])
        refused(path)
    path.write_bytes(content[: len(content) - 1])
    refused(path)


@pytest.mark.parametrize("count", [-1, 25, 2**60])
def test_a_stream_whose_numbers_go_on_beyond_its_end(tmp_path, count):
    root = {"w": tensor(Storage("Float", "0", 24), 0, (4, 6), (6, 1))}
    path = torch_stream(tmp_path / "old.pth", root, {"0": (count, NUMBERS.tobytes())})
    refused(path, rf"ends at byte {path.stat().st_size:,}, and its numbers go on to .* it was cut off")


@pytest.mark.parametrize("kind", ["npz", "zip", "stream", "safetensors"])
def test_damage_is_an_error_of_ours_or_harmless(tmp_path, kind):
    path = whole_files(tmp_path)[kind]
    content = path.read_bytes()
    random = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(content)
        for at in random.integers(0, len(content), 3):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            files.read(path)


MISTAKEN = {
    "a.pth": (b"not a checkpoint at all", "no whole pickle"),
    "b.safetensors": (b"not a checkpoint at all", "states a header"),
    "c.npz": (b"not a checkpoint at all", "as no file of weights does"),
    "d.h5": (b"not a checkpoint at all", "as no file of weights does"),
    "e.keras": (b"not a checkpoint at all", "as no file of weights does"),
    "f.pth": (b"", "is empty"),
    "g.h5": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "h.pth": (b"\n<!doctype html><html>", "web page"),
    "i.npz": (b"PK\x05\x06" + bytes(18), "zip archive of nothing"),
    "j.pth": (b"\x1f\x8b\x08", "gzip"),
    "k.h5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "damaged or cut off"),
    "l.tar": (bytes(257) + b"ustar\x0000", "tar archive"),
    "m.pth": (pickle.dumps([1, 2], 2), "holds a list and no named tensors"),
    "n.pth": (pickle.dumps({"a": {"b": 1}}, 2), "holds a dict and no named tensors"),
}


@pytest.mark.parametrize("name", MISTAKEN)
def test_what_is_no_file_of_weights(tmp_path, name):
    content, saying = MISTAKEN[name]
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, saying)


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(UsageError, match=r"nosuch\.npz: there is no such file"):
        files.read(tmp_path / "nosuch.npz")
    with pytest.raises(UsageError, match="is a folder"):
        files.read(tmp_path)


def npy(header: dict, data: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


NPY = {
    "objects": (npy({"descr": "|O", "fortran_order": False, "shape": (1,)}, pickle.dumps([Evil("pwned")])), "code"),
    "a shape too large": (npy({"descr": "<f4", "fortran_order": False, "shape": (2**40,)}, bytes(8)), "needs"),
    "records": (
        npy({"descr": [("a", "<f4")], "fortran_order": False, "shape": (1,)}, bytes(4)),
        "numbers are expected",
    ),
    "no header": (b"\x93NUMPY\x01\x00\x10\x00{'descr': __import_", "damaged"),
}


@pytest.mark.parametrize("case", NPY)
def test_a_bad_array_of_a_npz(tmp_path, case):
    content, saying = NPY[case]
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("w.npy", content)
    refused(tmp_path / "a.npz", saying)


def test_a_zip_that_unpacks_to_gigabytes(tmp_path, monkeypatch):
    from resnet_tasks.weights import bounds

    monkeypatch.setattr(bounds, "_ALWAYS_FINE", 2**16)  # as if what is small were large, to spare the disk
    np.savez_compressed(tmp_path / "a.npz", w=np.zeros(2**20, "uint8"))
    refused(tmp_path / "a.npz", "claims to unpack to 1,048,7")
    numbers = {"0": bytes(2**20)}
    path = torch_zip(tmp_path / "a.pth", {"w": tensor(Storage("Byte", "0", 4), 0, (4,), (1,))}, numbers)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    refused(tmp_path / "b.pth", "claims to unpack to 1,048,576")


def test_a_real_file(data_root):
    tensors = files.read(data_root / "weights" / "resnet50v2_imagenet_partial.npz").tensors
    assert len(tensors) == 249 and tensors["resnetv24_batchnorm0_beta"].dtype == np.float16
