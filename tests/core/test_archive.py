"""Archives: what they hold comes back exactly, and what no file should hold is refused."""

import io
import zipfile

import numpy as np
import pytest

from metarl.evaluation import archive
from metarl.evaluation.archive import read_archive, smallest, write_archive

ARRAYS = {"returns": np.array([[0.5], [2.0]]), "tasks/p": np.array(["left", "é"])}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.0, 255.0], "u1"),
        ([-1.0, 200.0], "i2"),
        ([-1.0, 2.0**40], "i8"),
        ([0.5, -2.25], "f4"),
        ([0.1, 2.0], "f8"),
        ([0.5, 1e99], "f8"),
        ([7, 200], "u1"),
    ],
)
def test_numbers_are_stored_in_the_smallest_type_that_has_them(values, kind):
    values = np.array(values)
    assert smallest(values).dtype == kind
    assert np.array_equal(smallest(values), values)


@pytest.mark.parametrize("compact", [False, True])
def test_an_archive_comes_back_and_is_the_same_bytes_each_time(tmp_path, compact):
    written = []
    for folder in ("one", "two"):
        path = tmp_path / folder / "x.npz"
        write_archive(path, {"seed": 3}, ARRAYS, compact=compact)
        header, arrays = read_archive(path)
        assert header == {"seed": 3}
        assert arrays.keys() == ARRAYS.keys()
        assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)
        written.append([each.read_bytes() for each in archive.archive_files(path)])
    assert written[0] == written[1]
    assert len(written[0]) == (2 if compact else 1)


def test_tasks_that_are_not_those_of_the_record_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    write_archive(path, {}, ARRAYS, compact=True)
    shared, _ = archive.archive_files(path)
    write_archive(shared, {}, {"tasks/p": np.array(["left", "right"])})
    with pytest.raises(ValueError, match=f"{shared.name}' is damaged: it does not match its name"):
        read_archive(path)
    shared.unlink()
    with pytest.raises(ValueError, match=r"x.npz' is damaged: 'tasks_file' must name a file in"):
        read_archive(path)
    write_archive(path, {"tasks_file": "../../secret"}, {})
    with pytest.raises(ValueError, match=r"got '../../secret'"):
        read_archive(path)


def test_no_archive_runs_code_or_fills_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    np.savez(path, **{"header.json": np.array([print], dtype=object)})
    with zipfile.ZipFile(path, "a") as damaged:
        damaged.writestr("header.json", "{}")
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        read_archive(path)
    monkeypatch.setattr(archive, "_MOST_BYTES", 1000)
    stream = io.BytesIO()
    np.save(stream, np.zeros(1000))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("header.json", "{}")
        bomb.writestr("returns.npy", stream.getvalue())
    with pytest.raises(ValueError, match="it holds more than a gigabyte"):
        read_archive(path)
