"""``imglish index`` and ``imglish search`` from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from imglish.cli.main import main
from imglish.inference.index import SearchIndex, default_path
from imglish.inference.predictor import Predictor
from tests.inference.index_folders import write_picture, write_pictures
from tests.inference.tiny_weights import write_run
from tests.recipes.tiny_runs import error_line


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("weights") / "run", "retrieval")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six pictures, one of them twice, and one that is none; commands run beside the folder."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pictures", 6)
    shutil.copy2(tmp_path / "pictures" / "01.png", tmp_path / "pictures" / "copy.png")
    (tmp_path / "pictures" / "bad.jpg").write_bytes(b"no picture")
    return Path("pictures")


def lines(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_folder_is_indexed_and_searched(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = lines(capsys, "index", folder, "--run", run)
    assert told[0].startswith(
        "pictures/.imglish-index.sqlite: 7 pictures, 7 added, 0 changed, 0 forgotten; 6 encoded in "
    )
    assert told[1:] == ["could not be used: 1", "  bad.jpg: is no picture that can be decoded"]
    (folder / "02.png").unlink()
    told = lines(capsys, "index", folder, "--run", run)
    assert ": 6 pictures, 0 added, 0 changed, 1 forgotten; 0 encoded" in told[0]

    index, predictor = SearchIndex.open(default_path(folder)), Predictor(run)
    found = index.search_text(predictor, "a red star", 3)
    asked = ["search", "a red star", "--folder", folder, "--run", run, "--num-best", 3]
    assert lines(capsys, *asked) == [f"{one.similarity:.3f}  pictures/{one.path}" for one in found]
    answer = json.loads("\n".join(lines(capsys, *asked, "--engine", "faiss", "--json")))
    assert answer["found"] == [one._asdict() for one in found]
    assert (answer["text"], answer["model"]) == ("a red star", str(run))

    like = ["search", "--like", folder / "03.png", "--index", default_path(folder), "--run", run]
    assert not (folder / "03.png").exists()  # it is in the folder below
    assert "03.png: no such file" in refused(capsys, 1, *like)
    like[2] = folder / "below" / "03.png"
    assert lines(capsys, *like)[0] == "1.000  pictures/below/03.png"


def test_duplicates_need_no_weights(folder: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(capsys, "index", folder, "--run", run, "--out", "other.sqlite")
    assert not default_path(folder).exists()
    asked = ["search", "--duplicates", "--index", "other.sqlite", "--threshold", 0.3, "--html", "sheet.html"]
    told = lines(capsys, *asked)
    assert told[:4] == [
        "groups that are equal byte by byte: 1", "  pictures/01.png", "  pictures/copy.png", "",
    ]  # fmt: skip
    near = SearchIndex.open(Path("other.sqlite")).near_duplicates(0.3)
    assert told[4] == f"groups that are very like each other (cosine at least 0.3): {len(near)}" and near
    assert told[5] == f"  1.000  pictures/{near[0][0].path}"
    assert Path("sheet.html").read_text(encoding="utf-8").count("<figure>") == 2 + sum(map(len, near))
    answer = json.loads("\n".join(lines(capsys, *asked, "--json")))
    assert answer["duplicates"] == [["01.png", "copy.png"]]
    assert answer["near_duplicates"] == [[one._asdict() for one in group] for group in near]


def test_a_search_writes_a_contact_sheet(folder: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(capsys, "index", folder, "--run", run)
    page = Path("found.html")
    asked = ["--folder", folder, "--run", run, "--num-best", 4, "--html", page]
    lines(capsys, "search", "two <b>red</b> fish", *asked)
    text = page.read_text(encoding="utf-8")
    assert "<h1>two &lt;b&gt;red&lt;/b&gt; fish</h1>" in text and text.count("<figure>") == 4
    lines(capsys, "search", "--like", folder / "01.png", *asked)
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 5 and "<h1>like pictures/01.png</h1>" in text


def test_without_a_run_the_model_of_the_package_answers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", str(folder)]) == 0
    assert "drawn scenes of shapes and colours and knows nothing else" in capsys.readouterr().err
    answer = json.loads("\n".join(lines(capsys, "search", "a red star", "--folder", folder, "--json")))
    assert answer["model"] == "world" and len(answer["found"]) == 7


def test_many_skipped_pictures_are_counted_and_some_named(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(8):
        (folder / f"bad\n{number}.png").write_bytes(b"")
    (folder / "link.png").symlink_to(write_picture(folder.parent / "outside.png", 9).absolute())
    told = lines(capsys, "index", folder, "--run", run, "--workers", 1, "--batch-size", 2)
    assert told[1] == "could not be used: 9" and told[2] == "  bad\\n0.png: is empty"
    assert told[7:] == ["  and 4 more (--json names all)", "symbolic links that were not followed: 1"]
    answer = json.loads("\n".join(lines(capsys, "index", folder, "--run", run, "--json")))
    assert len(answer["skipped"]) == 9 and answer["skipped"][0] == {
        "path": "bad\n0.png",
        "reason": "is empty",
    }
    assert (answer["pictures"], answer["unchanged"], answer["num_links"]) == (7, 7, 1)


def test_an_index_of_other_weights_is_refused_until_it_is_rebuilt(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(capsys, "index", folder, "--run", run)
    other = write_run(tmp_path / "other", "retrieval", seed=1)
    for asked in (["index", folder], ["search", "a fish", "--folder", folder]):
        told = refused(capsys, 1, *asked, "--run", other)
        assert f"holds vectors of {run}" in told and "--rebuild" in told
    assert ": 7 pictures, 7 added" in lines(capsys, "index", folder, "--run", other, "--rebuild")[0]
    assert len(lines(capsys, "search", "a fish", "--folder", folder, "--run", other)) == 7


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["index", "nowhere", "--run", "RUN"], 1, "nowhere: cannot be listed (No such file or directory)"),
        (["index", "pictures", "--run", "nowhere"], 1, "nowhere: no such folder"),
        (["index", "pictures", "--run", "RUN", "--out", "no/index.sqlite"], 1, "no: no such folder"),
        (["index", "pictures", "--run", "RUN", "--out", "pictures/01.png"], 1, "is no search index"),
        (["index", "pictures", "--run", "RUN", "--out", "pictures/01.png", "--rebuild"], 1, "not replaced"),
        (["index", "pictures", "--run", "RUN", "--weights", "x"], 2, "give --run or --weights, not both"),
        (["index", "pictures", "--batch-size", "0"], 2, "batch_size must be at least 1; got 0"),
        (["search", "a fish", "--run", "RUN"], 1, "no such index; make one with imglish index FOLDER"),
        (["search", "a fish", "--index", "pictures/01.png"], 1, "is no search index"),
        (["search"], 2, "say what to look for"),
        (["search", "a fish", "--duplicates"], 2, "one of them"),
        (["search", "a fish", "--html", "pictures/01.png"], 2, "expected a name that ends in .html"),
        (["search", "a fish", "--num-best", "0"], 2, "num_best must be at least 1; got 0"),
        (["search", "--duplicates", "--threshold", "2"], 2, "threshold must lie in (0, 1]; got 2.0"),
    ],
)
def test_what_cannot_be_done_is_told(
    arguments: list[str], code: int, message: str, folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert message in refused(capsys, code, *(str(run) if word == "RUN" else word for word in arguments))
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """The error of a command, its lines joined; it must be one line unless the command line was mistaken."""
    assert main([str(argument) for argument in arguments]) == code
    if code == 1:
        return error_line(capsys.readouterr().err)
    return " ".join(word.strip("│") for word in capsys.readouterr().err.split()).replace("  ", " ")
