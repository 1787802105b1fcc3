"""An index follows its folder: what is new is encoded, what is gone is forgotten, what is broken is told."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imglish.errors import ConfigError, DataFormatError
from imglish.hub.run import load_run
from imglish.inference.index import SearchIndex, default_path
from imglish.inference.index_identity import model_identity
from imglish.inference.index_scan import UNCERTAIN_NS, Skipped
from tests.inference.index_folders import (
    CountingPredictor,
    as_nobody,
    assert_same,
    expected_rows,
    indexed,
    make_older,
    rows,
    write_picture,
    write_pictures,
)
from tests.inference.tiny_weights import pixels, write_run

COUNT = 10


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("weights") / "run", "retrieval")


@pytest.fixture
def predictor(weights: Path) -> CountingPredictor:
    return CountingPredictor(load_run(weights), batch_size=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures", COUNT)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that nobody can get at, who cannot at those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def test_the_file_has_everything_of_every_picture(folder: Path, predictor: CountingPredictor) -> None:
    write_picture(folder / "turned.png", 77)
    shutil.move(folder / "turned.png", folder / "TURNED.PNG")
    Image.fromarray(pixels(30, 12, 5)).save(folder / "photo.jpeg")
    make_older(folder / "photo.jpeg", 1)
    (folder / "notes.txt").write_text("no picture")
    write_picture(folder / ".hidden.png", 50)
    write_picture(folder / ".thumbnails" / "00.png", 51)
    shown: list[tuple[int, int]] = []
    index = SearchIndex.create(default_path(folder), folder, model_identity(predictor))
    updated = index.update(
        predictor, batch_size=5, workers=3, progress=lambda done, total: shown.append((done, total))
    )
    expected = [*(name for name in names(folder) if "/." not in f"/{name}"), "TURNED.PNG", "photo.jpeg"]
    assert (updated.added, updated.encoded, len(index)) == (COUNT + 2,) * 3
    assert (updated.changed, updated.forgotten, updated.skipped) == (0, 0, ())
    assert predictor.num_encoded == COUNT + 2
    assert shown == [(done, COUNT + 2) for done in range(COUNT + 3)]
    assert list(index.paths) == sorted(expected)
    assert_same(rows(index.path), expected_rows(folder, expected, predictor))
    assert [path.name for path in folder.iterdir() if "sqlite" in path.name] == [".imglish-index.sqlite"]


def test_only_what_changed_is_encoded(folder: Path, predictor: CountingPredictor) -> None:
    indexed(folder, predictor)
    predictor.num_encoded = 0
    assert indexed(folder, predictor).update(predictor).unchanged == COUNT and predictor.num_encoded == 0
    write_picture(folder / "new.png", 40)
    write_picture(folder / "below" / "deep" / "new.png", 41)
    write_picture(folder / "01.png", 42)
    make_older(folder / "02.png", 3)  # touched only
    shutil.move(folder / "04.png", folder / "below" / "moved.png")
    shutil.copy2(folder / "05.png", folder / "copy.png")
    (folder / "07.png").unlink()
    index = SearchIndex.open(default_path(folder))
    updated = index.update(predictor, batch_size=2)
    assert (updated.added, updated.changed, updated.forgotten, updated.encoded) == (4, 1, 2, 3)
    assert updated.unchanged == COUNT - 3 and predictor.num_encoded == 3
    assert_same(rows(index.path), expected_rows(folder, names(folder), predictor))
    assert list(index.paths) == names(folder)
    predictor.num_encoded = 0
    again = index.update(predictor)
    assert (again.unchanged, predictor.num_encoded, len(index)) == (COUNT + 2, 0, COUNT + 2)


def test_pictures_that_change_places_keep_their_own_vectors(
    folder: Path, predictor: CountingPredictor
) -> None:
    indexed(folder, predictor)
    predictor.num_encoded = 0
    for source, target in (("01.png", "x"), ("02.png", "01.png"), ("x", "02.png")):
        shutil.move(folder / source, folder / target)
    updated = indexed(folder, predictor).update(predictor)
    assert updated.unchanged == COUNT and predictor.num_encoded == 0
    assert_same(rows(default_path(folder)), expected_rows(folder, names(folder), predictor))


def test_equal_pictures_are_encoded_once(folder: Path, predictor: CountingPredictor) -> None:
    for name in ("a", "b", "c"):
        shutil.copy2(folder / "01.png", folder / f"{name}.png")
    index = indexed(folder, predictor)
    assert predictor.num_encoded == COUNT and len(index) == COUNT + 3
    for name in ("01", "a"):  # the others keep the vector
        (folder / f"{name}.png").unlink()
    index.update(predictor)
    assert predictor.num_encoded == COUNT
    assert_same(rows(index.path), expected_rows(folder, names(folder), predictor))


def test_a_change_that_the_clock_does_not_tell_is_seen(folder: Path, predictor: CountingPredictor) -> None:
    """A file written twice within a step of the file system's clock, with as many bytes."""
    image = Image.fromarray(pixels(16, 16, 1))
    image.save(folder / "fresh.bmp")
    index = indexed(folder, predictor)
    before = (folder / "fresh.bmp").stat()
    assert rows(index.path)["fresh.bmp"].mtime_ns == UNCERTAIN_NS
    Image.fromarray(pixels(16, 16, 2)).save(folder / "fresh.bmp")
    os.utime(folder / "fresh.bmp", ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert (folder / "fresh.bmp").stat().st_size == before.st_size
    assert index.update(predictor).changed == 1
    make_older(folder / "fresh.bmp", 1)
    assert index.update(predictor).unchanged == COUNT + 1
    assert_same(rows(index.path), expected_rows(folder, [*names(folder), "fresh.bmp"], predictor))


def test_what_cannot_be_used_is_skipped_and_told(folder: Path, predictor: CountingPredictor) -> None:
    whole = (folder / "01.png").read_bytes()
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no picture")
    write_picture(folder / "large.png", 3, height=40, width=40)
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    write_picture(folder / "folder.png" / "inside.png", 60)
    index = SearchIndex.create(default_path(folder), folder, model_identity(predictor))
    updated = index.update(predictor, max_pixels=1000)
    assert [one.path for one in updated.skipped] == ["cut.png", "empty.png", "large.png", "text.jpg"]
    assert [one.reason.partition(" (")[0] for one in updated.skipped] == [
        "does not decode",
        "is empty",
        "is 40 high and 40 wide",
        "is no picture that can be decoded",
    ]
    assert len(index) == COUNT + 1 and "folder.png/inside.png" in index
    limited = CountingPredictor(write_run(folder.parent / "same", "retrieval"), max_pixels=1000)
    assert index.update(limited).skipped[2].reason == "is 40 high and 40 wide"  # its own limit, told as well
    (folder / "cut.png").write_bytes(whole + b"more")  # PNG readers stop at the end of the picture
    assert index.update(predictor).added == 2 and "cut.png" in index and "large.png" in index


def test_what_becomes_damaged_is_forgotten(folder: Path, predictor: CountingPredictor) -> None:
    index = indexed(folder, predictor)
    (folder / "01.png").write_bytes(b"no more")
    updated = index.update(predictor)
    assert updated.forgotten == 1 and [one.path for one in updated.skipped] == ["01.png"]
    assert "01.png" not in index and len(index) == COUNT - 1


def test_pictures_may_vanish_while_they_are_read(folder: Path, predictor: CountingPredictor) -> None:
    index = indexed(folder, predictor)
    for name in ("01.png", "08.png"):
        write_picture(folder / name, 70)
    for name in ("y.png", "z.png"):
        write_picture(folder / name, 71)

    def remove(done: int, total: int) -> None:
        for name in ("08.png", "z.png") if done == 0 else ():
            (folder / name).unlink()

    updated = index.update(predictor, progress=remove)
    assert (updated.added, updated.changed, updated.forgotten) == (1, 1, 1)
    assert updated.skipped == (
        Skipped("08.png", "has vanished meanwhile"),
        Skipped("z.png", "has vanished meanwhile"),
    )
    assert list(index.paths) == names(folder)


def test_links_show_nothing_from_outside_and_nothing_twice(
    folder: Path, predictor: CountingPredictor
) -> None:
    outside = write_pictures(folder.parent / "outside", 3)
    kept = write_picture(folder / ".annex" / "7a" / "object", 80)
    links = {
        "out.png": outside / "01.png",
        "outfolder": outside,
        "loop": folder,
        "same.png": folder / "01.png",
        "annexed.png": kept,
        "nowhere.png": folder / "nothing",
        "up.png": Path("..") / "outside" / "02.png",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    index = SearchIndex.create(default_path(folder), folder, model_identity(predictor))
    updated = index.update(predictor)
    assert sorted(set(index.paths) - set(names(folder))) == []
    assert [path for path in index.paths if path in links] == ["annexed.png"]
    assert len(index) == COUNT + 1 and updated.num_links == len(links) - 1 and not updated.skipped
    assert index.file("annexed.png") == kept.resolve()
    (folder / "annexed.png").unlink()
    (folder / "annexed.png").symlink_to(outside / "01.png")
    (folder / "secret.txt").write_text("not to be shown")
    outside_paths = ("annexed.png", "out.png", "../outside/01.png", str(outside / "01.png"), "", ".")
    for path in (*outside_paths, "secret.txt", ".annex/7a/object", "below/../01.png"):
        with pytest.raises(DataFormatError, match="expected a picture of"):
            index.file(path)
    assert index.update(predictor).forgotten == 1


def test_a_folder_swapped_for_a_link_gives_no_file(folder: Path, predictor: CountingPredictor) -> None:
    index = indexed(folder, predictor)
    shutil.move(folder / "below", folder.parent / "elsewhere")
    (folder / "below").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(DataFormatError, match="not there any more"):
        index.file("below/00.png")
    (folder / "01.png").unlink()
    (folder / "01.png").mkdir()
    with pytest.raises(DataFormatError, match="not there any more"):
        index.file("01.png")


def test_names_of_every_kind_are_kept(tmp_path: Path, predictor: CountingPredictor) -> None:
    folder = tmp_path / "a ?b=c%20#d é"
    odd = ["two\nlines.png", "quote'\".png", "<b>.png", "日本.PNG", "a\\b.png", os.fsdecode(b"\xff\xfe.png")]
    for seed, name in enumerate(odd):
        write_picture(folder / name, seed)
    index = indexed(folder, predictor)
    assert list(index.paths) == sorted(odd)
    assert_same(rows(index.path), expected_rows(folder, odd, predictor))
    assert index.update(predictor).unchanged == len(odd)
    for name in odd:
        assert index.search_picture(predictor, folder / name, 1)[0].path == name
        (folder / name).unlink() if name != "<b>.png" else None
    assert index.update(predictor).forgotten == len(odd) - 1


def test_a_folder_may_move_with_its_index(folder: Path, predictor: CountingPredictor) -> None:
    indexed(folder, predictor)
    elsewhere = folder.parent / "new place" / "pictures"
    elsewhere.parent.mkdir()
    shutil.move(folder, elsewhere)
    predictor.num_encoded = 0
    index = indexed(elsewhere, predictor)
    assert predictor.num_encoded == 0 and index.folder == elsewhere and index.file("01.png").is_file()
    other = elsewhere.parent / "index.sqlite"
    apart = SearchIndex.create(other, elsewhere, model_identity(predictor))
    apart.update(predictor)
    shutil.move(other, folder.parent / "index.sqlite")
    assert SearchIndex.open(folder.parent / "index.sqlite").folder == elsewhere


# Folders that cannot be read


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_what_is_no_folder_is_refused(kind: str, tmp_path: Path, predictor: CountingPredictor) -> None:
    folder = tmp_path / kind
    if kind == "file":
        folder.write_text("")
    with pytest.raises(DataFormatError, match=f"{kind}: cannot be listed .*: check the path"):
        SearchIndex.create(tmp_path / "index.sqlite", folder, model_identity(predictor))
    assert not (tmp_path / "index.sqlite").exists()


def test_the_index_of_another_folder_is_refused(folder: Path, predictor: CountingPredictor) -> None:
    other, path = write_pictures(folder.parent / "other", 2), folder.parent / "index.sqlite"
    SearchIndex.create(path, folder, model_identity(predictor)).update(predictor)
    with pytest.raises(DataFormatError, match=r"is the index of .*pictures, not of .*other; give another"):
        SearchIndex.create(path, other, model_identity(predictor))
    (folder.parent / "alias").symlink_to(folder)
    assert len(SearchIndex.create(path, folder.parent / "alias", model_identity(predictor))) == COUNT
    assert len(SearchIndex.create(path, other, model_identity(predictor), rebuild=True)) == 0


def test_an_unreadable_folder_is_refused_and_its_index_kept(
    open_folder: Path, predictor: CountingPredictor
) -> None:
    folder, path = write_pictures(open_folder / "pictures", 3), open_folder / "index.sqlite"
    identity = model_identity(predictor)
    index = SearchIndex.create(path, folder, identity)
    index.update(predictor)
    path.chmod(0o666)
    before = path.read_bytes()
    os.chmod(folder, 0o000)
    try:
        with as_nobody():
            for refused in (
                lambda: index.update(predictor),
                lambda: SearchIndex.create(path, folder, identity, rebuild=True),
            ):
                with pytest.raises(DataFormatError, match="Permission denied.*check its permissions"):
                    refused()
    finally:
        os.chmod(folder, 0o755)
    assert path.read_bytes() == before


def test_what_cannot_be_read_for_a_while_is_not_forgotten(
    open_folder: Path, predictor: CountingPredictor
) -> None:
    folder = write_pictures(open_folder / "pictures", COUNT)
    index = SearchIndex.create(open_folder / "index.sqlite", folder, model_identity(predictor))
    index.update(predictor)
    predictor.num_encoded = 0
    for path in (open_folder, folder, index.path):
        path.chmod(0o777)
    make_older(folder / "01.png", 1)  # so that it must be read
    os.chmod(folder / "01.png", 0o000)
    for mode in (0o000, 0o444):  # a folder that cannot be listed, and one whose files cannot be looked at
        os.chmod(folder / "below", mode)
        with as_nobody():
            updated = index.update(predictor)
        assert [one.path for one in updated.skipped][:1] == ["01.png"]
        assert all("below" in one.path for one in updated.skipped[1:]) and len(updated.skipped) > 1
        assert all("Permission denied" in one.reason for one in updated.skipped)
        assert updated.forgotten == 0 and list(index.paths) == names(folder)
    os.chmod(folder / "below", 0o755)
    os.chmod(folder / "01.png", 0o644)
    assert index.update(predictor).unchanged == COUNT and predictor.num_encoded == 0


def test_a_folder_that_lost_everything_is_refused(folder: Path, predictor: CountingPredictor) -> None:
    """As where a disk is not mounted."""
    index = SearchIndex.create(folder.parent / "index.sqlite", folder, model_identity(predictor))
    index.update(predictor)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(DataFormatError, match="holds no picture, but its index .* knows 10"):
        index.update(predictor)
    assert len(SearchIndex.open(index.path)) == COUNT


def test_a_folder_without_pictures_has_an_empty_index(tmp_path: Path, predictor: CountingPredictor) -> None:
    index = indexed(tmp_path, predictor)
    assert len(index) == 0 and index.search_text(predictor, "a red star") == []
    assert index.duplicates() == [] and index.near_duplicates() == []


# Several at once


def test_two_updates_at_once_lose_nothing_and_store_nothing_twice(
    folder: Path, predictor: CountingPredictor, weights: Path
) -> None:
    SearchIndex.create(default_path(folder), folder, model_identity(predictor))
    problems: list[BaseException] = []

    def update() -> None:
        try:
            SearchIndex.open(default_path(folder)).update(CountingPredictor(weights), batch_size=1)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=update) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert_same(rows(default_path(folder)), expected_rows(folder, names(folder), predictor))


def test_numbers_that_make_no_sense_are_refused(folder: Path, predictor: CountingPredictor) -> None:
    index = indexed(folder, predictor)
    for arguments in ({"workers": 0}, {"batch_size": 0}, {"max_pixels": -1}):
        with pytest.raises(ConfigError, match="must be a whole number of at least 1"):
            index.update(predictor, **arguments)  # type: ignore[arg-type]


def test_vectors_do_not_depend_on_threads_and_batches(folder: Path, predictor: CountingPredictor) -> None:
    found = []
    for number, (workers, batch_size) in enumerate(((1, 1), (8, 3), (2, 100))):
        index = SearchIndex.create(folder.parent / f"{number}.sqlite", folder, model_identity(predictor))
        index.update(predictor, workers=workers, batch_size=batch_size)
        found.append(rows(index.path))
    for other in found[1:]:
        assert_same(other, found[0])
        assert np.array_equal([other[path].hash for path in other], [found[0][path].hash for path in other])
