"""The gallery: what is written is read, what is torn or foreign is refused, and the search is exact."""

import itertools
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from resnet_tasks.errors import DataError, ResnetTasksError, UsageError
from resnet_tasks.faces import gallery as module
from resnet_tasks.faces.gallery import Gallery
from resnet_tasks.weights import bounds


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def gallery(faces: int = 50, width: int = 16, people: int = 10) -> Gallery:
    rows = unit(np.random.default_rng(0).standard_normal((faces, width)))
    names = tuple(f"name {n % people}" for n in range(faces))
    return Gallery(rows, names, tuple(f"{name}/{n}.jpg" for n, name in enumerate(names)), "0123abcd", 0.25)


@pytest.fixture
def saved(tmp_path):
    """A file without a suffix, as a user may call it."""
    path = tmp_path / "known"
    gallery().save(path)
    return path


def test_what_was_saved_is_read(tmp_path):
    path = tmp_path / "known faces"
    names, files = ("Анна", 'Bo"ris\n', "\udcff"), ("a/1.jpg", "", "b\\2.jpg")
    Gallery(unit(np.eye(3, 5)), names, files, "f00", np.float32(0.5)).save(path)
    assert [each.name for each in tmp_path.iterdir()] == ["known faces"]
    found = Gallery.load(path)
    assert found.embeddings.dtype == np.float32 and found.embeddings.tolist() == np.eye(3, 5).tolist()
    assert (found.names[:], found.files[:], found.fingerprint, found.threshold) == (names, files, "f00", 0.5)
    assert len(found) == 3 and found.names[2] == found.names[-1] == "\udcff"
    found.save(path)
    assert Gallery.load(path).names[:] == names


def test_the_file_is_open_to_all(saved):
    with np.load(saved, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["about", "embeddings", "files", "files_ends", "names", "names_ends"]
        np.testing.assert_array_equal(arrays["embeddings"], gallery().embeddings)
        about = json.loads(arrays["about"].tobytes())
        for name, texts in (("names", gallery().names), ("files", gallery().files)):
            assert arrays[name].tobytes().decode() == "".join(texts)
            assert arrays[f"{name}_ends"].tolist() == list(itertools.accumulate(map(len, texts)))
    said = {"format": "resnet-tasks gallery", "version": 1, "fingerprint": "0123abcd", "threshold": 0.25}
    assert about == said
    with zipfile.ZipFile(saved) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_of_another_order_in_memory_the_file_is_the_same(tmp_path):
    one = gallery()
    Gallery(np.asfortranarray(one.embeddings), one.names, one.files, "f", 0.5).save(tmp_path / "g")
    np.testing.assert_array_equal(Gallery.load(tmp_path / "g").embeddings, one.embeddings)


def test_a_gallery_of_another_model_is_refused():
    gallery().check("0123abcd")
    with pytest.raises(DataError, match="another model") as caught:
        gallery().check("dcba3210")
    assert "0123abcd" in str(caught.value) and "dcba3210" in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_a_torn_file(saved, share):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    refused(saved)


def test_one_wrong_byte_anywhere_is_seen(saved):
    whole = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        starts = [entry.header_offset for entry in archive.infolist()]
    lasts = [start - 1 for start in (*starts[1:], archive.start_dir)]
    for place in (starts[0] + 1000, *lasts):  # amid the embeddings, and the last byte of each array
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(saved)


def test_a_wrong_checksum_of_a_compressed_file_is_seen(saved):
    with np.load(saved) as held:
        arrays = dict(held)
    with saved.open("wb") as file:
        np.savez_compressed(file, **arrays)
    np.testing.assert_array_equal(Gallery.load(saved).embeddings, gallery().embeddings)
    with zipfile.ZipFile(saved) as archive:
        sums = [entry.CRC.to_bytes(4, "little") for entry in archive.infolist()]
    whole = saved.read_bytes()
    for checksum in sums:
        assert whole.count(checksum) == 2  # before the member and in the directory
        saved.write_bytes(whole.replace(checksum, b"\1\2\3\4"))
        refused(saved)


def refused(path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        Gallery.load(path)
    said = str(caught.value)
    assert all(word in said for word in (str(path), "gallery", *words)), said
    assert caught.value.exit_code == 3


ROWS = np.eye(2, 3, dtype=np.float32)
ENDS = np.array([1, 2])


def about(**changed) -> np.ndarray:
    whole = {"format": "resnet-tasks gallery", "version": 1, "fingerprint": "f", "threshold": 0.5, **changed}
    kept = {name: value for name, value in whole.items() if value is not None}
    return np.frombuffer(json.dumps(kept).encode(), np.uint8)


def arrays(**changed) -> dict[str, np.ndarray]:
    """Of a gallery of two faces."""
    letters = np.frombuffer(b"ab", np.uint8)
    texts = {"names": letters, "names_ends": ENDS, "files": letters, "files_ends": ENDS}
    return {"embeddings": ROWS, **texts, "about": about(), **changed}


NOT_C = np.asfortranarray(np.eye(2, 3, dtype=np.float32))
OBJECTS = np.array([{}, {}], object)
FOREIGN = {
    "other arrays": ({"weights": ROWS}, "weights.npy"),
    "one more": (arrays(more=ROWS), "zip archive"),
    "one less": ({name: array for name, array in arrays().items() if name != "files"}, "zip archive"),
    "pickled embeddings": (arrays(embeddings=OBJECTS), "Python objects"),
    "pickled names": (arrays(names=OBJECTS), "Python objects"),
    "pickled about": (arrays(about=np.array({"format": "resnet-tasks gallery"})), "Python objects"),
    "float64": (arrays(embeddings=ROWS.astype(np.float64)), "float64"),
    "one axis": (arrays(embeddings=ROWS[0]), "2 axes"),
    "three axes": (arrays(embeddings=ROWS[None]), "2 axes"),
    "columns first": (arrays(embeddings=NOT_C), "expected float32 of 2 axes"),
    "no face": (arrays(embeddings=ROWS[:0], names_ends=ENDS[:0], files_ends=ENDS[:0]), "do not end"),
    "nothing at all": (
        arrays(embeddings=ROWS[:0], **dict.fromkeys(("names_ends", "files_ends"), ENDS[:0]))
        | dict.fromkeys(("names", "files"), np.zeros(0, np.uint8)),
        "without a face",
    ),
    "numbers of no axis": (arrays(embeddings=ROWS[:, :0]), "without a face"),
    "a name too few": (arrays(names_ends=np.array([2])), "2 embeddings, 1 names"),
    "a file too many": (arrays(files_ends=np.array([1, 1, 2])), "3 files"),
    "names that go on": (arrays(names_ends=np.array([1, 3])), "do not end"),
    "names that go back": (arrays(names_ends=np.array([3, 2])), "do not end"),
    "a gallery's words as its names": (arrays(names=np.array(["a", "b"])), "expected uint8"),
    "no fingerprint": (arrays(about=about(fingerprint=None)), "not a gallery's"),
    "a fingerprint that is none": (arrays(about=about(fingerprint=7)), "not a gallery's"),
    "no threshold": (arrays(about=about(threshold=None)), "not a gallery's"),
    "a threshold beyond": (arrays(about=about(threshold=1.5)), "1.5"),
    "a threshold that is no number": (arrays(about=about(threshold=float("nan"))), "nan"),
    "another format": (arrays(about=about(format="else")), "not a gallery's"),
    "a later version": (arrays(about=about(version=2)), "version 2"),
    "no JSON": (arrays(about=np.zeros(4, np.uint8)), "damaged"),
    "a list": (arrays(about=np.frombuffer(b"[1]", np.uint8)), "not a gallery's"),
    "too long": (arrays(embeddings=2 * ROWS), "of a has the length 2"),
    "not a number": (arrays(embeddings=ROWS * np.array([[1], [np.nan]], np.float32)), "of b has the length nan"),
    "infinite": (arrays(embeddings=ROWS + np.float32(3e38)), "length inf"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file(tmp_path, name):
    held, word = FOREIGN[name]
    with (tmp_path / "g").open("wb") as file:
        np.savez(file, **held)
    refused(tmp_path / "g", word)


def test_what_is_no_zip_or_claims_too_much(tmp_path, monkeypatch):
    path = tmp_path / "g"
    for content in (b"words", b"\x80\x04}q\x00.", b"\x93NUMPY" + bytes(200)):
        path.write_bytes(content)
        refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "words")
    refused(path, "a.txt")
    # A header of a million faces before the numbers of two: refused before there is memory for a million.
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("embeddings.npy", "w") as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 512)}
            np.lib.format.write_array_header_1_0(member, header)
            member.write(ROWS.tobytes())
        for name, array in list(arrays().items())[1:]:
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    refused(path, "does not fill")
    monkeypatch.setattr(bounds, "_ALWAYS_FINE", 2**19)  # in place of 2^30
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in arrays():
            archive.writestr(f"{name}.npy", bytes(2**20))
    refused(path, "made to harm")


def test_a_pickle_in_the_file_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "g"
    for name in arrays():
        with path.open("wb") as file:
            np.savez(file, **arrays(**{name: np.array([Trap()], object)}))
        refused(path, "nothing was run")
    assert not (tmp_path / "sprung").exists()


def test_paths_that_cannot_be(tmp_path):
    with pytest.raises(UsageError, match="no such gallery"):
        Gallery.load(tmp_path / "absent")
    with pytest.raises(UsageError, match="folder"):
        Gallery.load(tmp_path)
    with pytest.raises(UsageError, match="folder"):
        gallery().save(tmp_path)
    with pytest.raises(UsageError, match="no folder"):
        gallery().save(tmp_path / "absent" / "g")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_save_that_breaks_off_leaves_what_was_there(saved, monkeypatch, error):
    before = saved.read_bytes()

    def torn(member, array, **_):
        member.write(b"half")
        raise error

    monkeypatch.setattr(np.lib.format, "write_array", torn)
    for path in (saved, saved.with_name("new")):
        with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else ResnetTasksError, match=None) as caught:
            gallery(3).save(path)
    if error is not KeyboardInterrupt:
        assert "No space left" in str(caught.value) and "gallery" in str(caught.value)
    assert [each.name for each in saved.parent.iterdir()] == ["known"]
    assert saved.read_bytes() == before


# The modules alone: the package of faces brings Keras with it.
ALONE = f"""
import os, resource, sys, types
import numpy as np
sys.modules["resnet_tasks.faces"] = types.ModuleType("resnet_tasks.faces")
sys.modules["resnet_tasks.faces"].__path__ = [{os.path.dirname(module.__file__)!r}]
from resnet_tasks.faces.gallery import Gallery
"""
KILLED = """
os.fsync = lambda _: os._exit(9)  # all is written, nothing is renamed
Gallery(np.eye(2, dtype=np.float32), ("a", "b"), ("1", "2"), "f", 0.5).save(sys.argv[1])
"""


def test_a_process_that_is_killed_leaves_what_was_there(saved):
    before = saved.read_bytes()
    for path in (saved, saved.with_name("new")):
        assert subprocess.run([sys.executable, "-c", ALONE + KILLED, str(path)]).returncode == 9
    assert saved.read_bytes() == before and not saved.with_name("new").exists()


def test_the_parts_must_fit():
    with pytest.raises(ValueError, match="1 names"):
        Gallery(ROWS, ("a",), ("1", "2"), "f", 0.5)
    with pytest.raises(ValueError, match="float64"):
        Gallery(ROWS.astype(np.float64), ("a", "b"), ("1", "2"), "f", 0.5)
    with pytest.raises(DataError, match="without a face"):
        Gallery(ROWS[:0], (), (), "f", 0.5)
    with pytest.raises(DataError, match="of 2 has the length 0;"):
        Gallery(np.array([[1, 0], [0, 0]], np.float32), ("a", "b"), ("1", "2"), "f", 0.5)


@pytest.mark.parametrize(("at_once", "large"), [(1 << 24, 1 << 22), (500, 1 << 22), (300, 0)])
def test_the_search_is_that_of_a_plain_sort(monkeypatch, at_once, large):
    """All queries together, two at a time, and one by one; the last in a thread for each core."""
    monkeypatch.setattr(module, "MOST_SCORES", at_once)
    monkeypatch.setattr(module, "LARGE", large)
    known = gallery(200, 24)
    queries = unit(np.random.default_rng(1).standard_normal((17, 24)))
    exact = queries.astype(np.float64) @ known.embeddings.T.astype(np.float64)
    order = np.argsort(-exact, axis=1)
    for k in (1, 5, 200, 999):
        places, similarities = known.search(queries, k)
        np.testing.assert_array_equal(places, order[:, :k])
        np.testing.assert_array_equal(similarities, np.take_along_axis(exact, order, axis=1)[:, :k].astype(np.float32))
    assert places.dtype == np.int64 and similarities.dtype == np.float32 and places.shape == (17, 200)


def test_what_float32_cannot_tell_apart_is_told():
    """Many faces whose similarities to the query differ by less than a float32 product is rounded."""
    draw = np.random.default_rng(2)
    query = unit(draw.standard_normal((1, 512)))
    aside = draw.standard_normal((3000, 512))
    aside -= (aside @ query[0])[:, None] * query[0].astype(np.float64)
    rows = unit(0.8 * query + 0.6 * aside / np.linalg.norm(aside, axis=1, keepdims=True))
    known = Gallery(rows, ("a",) * 3000, ("1",) * 3000, "f", 0.5)
    exact = rows.astype(np.float64) @ query[0].astype(np.float64)
    assert np.ptp(exact) < 1e-6
    best = np.argsort(-exact)[:10]
    rounded = np.argsort(-(rows @ query[0]), kind="stable")[:10]
    assert rounded.tolist() != best.tolist()  # or this proves nothing
    assert known.search(query, 10)[0][0].tolist() == best.tolist()
    assert known.search(np.repeat(query, 40, axis=0), 10)[0][39].tolist() == best.tolist()


def test_an_answer_does_not_depend_on_the_other_queries():
    known = gallery(300, 64)
    queries = unit(np.random.default_rng(3).standard_normal((9, 64)))
    together = known.search(queries, 4)
    for row in range(9):
        alone = known.search(queries[row : row + 1], 4)
        np.testing.assert_array_equal(alone[0][0], together[0][row])
        np.testing.assert_array_equal(alone[1][0], together[1][row])


def test_of_equal_faces_the_first_comes_first():
    rows = unit(np.tile(np.random.default_rng(4).standard_normal((3, 512)), (40, 1)))
    known = Gallery(rows, ("a",) * 120, ("1",) * 120, "f", 0.5)
    places, similarities = known.search(rows[1:2], 5)
    assert places[0].tolist() == [1, 4, 7, 10, 13]
    everyone = known.search(rows[1:2], 120)[0][0].reshape(3, 40)
    assert (np.diff(everyone, axis=1) == 3).all()
    np.testing.assert_allclose(similarities, 1, atol=1e-6)
    assert similarities.max() <= 1
    places, similarities = known.search(np.zeros((1, 512), np.float32), 3)  # no direction: all are as near
    assert places[0].tolist() == [0, 1, 2] and similarities.tolist() == [[0, 0, 0]]


def test_the_best_of_each_name():
    known = gallery(60, 8, people=4)
    queries = unit(np.random.default_rng(5).standard_normal((6, 8)))
    everything = known.search(queries, 60)
    for k, wanted in ((1, 1), (3, 3), (9, 4)):
        places, similarities = known.search(queries, k, by_name=True)
        assert places.shape == (6, wanted)
        for row in range(6):
            order = everything[0][row].tolist()
            first = {}
            for place in order:
                first.setdefault(known.names[place], place)
            assert places[row].tolist() == list(first.values())[:wanted]
            np.testing.assert_array_equal(similarities[row], [everything[1][row][order.index(p)] for p in places[row]])
    rare = Gallery(known.embeddings, ("b", *("a",) * 59), known.files, "f", 0.5)  # almost all are of one name
    assert {rare.names[place] for place in rare.search(queries, 2, by_name=True)[0][0]} == {"a", "b"}


def test_queries_of_another_model():
    with pytest.raises(DataError, match=r"16 numbers a face, and \(2, 8\) came"):
        gallery().search(np.ones((2, 8), np.float32))
    with pytest.raises(DataError, match="expected"):
        gallery().search(np.ones(16, np.float32))
    for broken in (np.nan, np.inf):
        with pytest.raises(DataError, match="not finite"):
            gallery().search(np.full((1, 16), broken, np.float32))
    places, similarities = gallery().search(np.ones((0, 16), np.float32), 3)
    assert places.shape == similarities.shape == (0, 3)


@pytest.mark.parametrize("resident", [None, 0])
def test_loading_takes_the_memory_once_or_not_at_all(tmp_path, resident):
    """The peak of a fresh process over its gallery of 96 MB, all of it resident or nothing of it."""
    rows = np.zeros((48_000, 512), np.float32)
    rows[np.arange(48_000), np.arange(48_000) % 512] = 1
    names = tuple(map(str, itertools.islice(itertools.cycle(range(100)), 48_000)))
    Gallery(rows, names, names, "f", 0.5).save(tmp_path / "g")
    few = "from resnet_tasks.faces import gallery as module; module.RESIDENT, module.AT_ONCE = 0, 1 << 20\n"
    script = (
        ALONE
        + (few if resident == 0 else "")
        + (
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
            "before = peak(); known = Gallery.load(sys.argv[1]); loaded = peak(); known.search(known.embeddings[:1])\n"
            "print(known.embeddings.nbytes, loaded - before, peak() - loaded)"
        )
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "g")], capture_output=True, text=True, check=True
    )
    held, loading, searching = map(int, answer.stdout.split())
    assert loading < (1.7 if resident is None else 0.5) * held and searching < 0.3 * held


def test_embeddings_are_mapped_where_they_lie_and_read_where_they_cannot_be(saved):
    found = Gallery.load(saved)
    assert found.forget is not None and not found.embeddings.flags.writeable
    with zipfile.ZipFile(saved) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
    whole = saved.read_bytes()
    assert whole.index(gallery().embeddings.tobytes()) % 64 == 0
    with np.load(saved) as held, saved.with_name("askew").open("wb") as file:
        np.savez(file, **{entry.filename.removesuffix(".npy"): held[entry.filename] for entry in entries})
    plain = Gallery.load(saved.with_name("askew"))
    np.testing.assert_array_equal(plain.embeddings, found.embeddings)
    assert (plain.names[:], plain.files[:], plain.threshold) == (found.names[:], found.files[:], found.threshold)


def test_forgotten_embeddings_are_found_again(saved, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 5 * 16)
    monkeypatch.setattr(module, "RESIDENT", 700)  # bytes: the eleventh face is cut through
    found, asked = Gallery.load(saved), gallery().embeddings[[3, 44]]
    forgotten = []
    object.__setattr__(found, "forget", lambda *part: forgotten.append(part))
    np.testing.assert_array_equal(found.search(asked)[0][:, 0], [3, 44])
    assert forgotten[0] == (700, 960) and forgotten[-1] == (2880, 3200) and len(forgotten) == 8
    again = Gallery.load(saved)
    np.testing.assert_array_equal(again.search(asked)[0][:, 0], [3, 44])
    np.testing.assert_array_equal(again.embeddings, gallery().embeddings)


def test_others_come_to_a_gallery_and_take_the_place_of_equal_files():
    known = gallery(4, people=3)
    rows = unit(np.eye(2, 16))
    more = known.extended(Gallery(rows, ("name 1", "new"), ("name 1/1.jpg", "new/0.jpg"), "0123abcd", 0.5))
    assert more.names == ("name 0", "name 2", "name 0", "name 1", "new")
    assert more.files == ("name 0/0.jpg", "name 2/2.jpg", "name 0/3.jpg", "name 1/1.jpg", "new/0.jpg")
    np.testing.assert_array_equal(more.embeddings, [*known.embeddings[[0, 2, 3]], *rows])
    assert (more.threshold, more.identities, known.identities) == (0.5, 4, 3)
