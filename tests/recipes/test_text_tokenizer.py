"""``imglish tokenizer train``: the id layout of BEiT-3, and what is reported of texts left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from imglish.cli.main import main
from imglish.data.shards import write_shard
from imglish.data.world.language import captions
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.errors import DataFormatError
from imglish.recipes.text_tokenizer import TextTokenizerOptions, train_text_tokenizer
from imglish.text.tokenizer import UNK, TextTokenizer
from imglish.text.training import measure_tokenizer, train_tokenizer

OPTIONS = TextTokenizerOptions(num_pieces=80, held_out=0.1)


def documents(start: int, stop: int) -> list[str]:
    return [" ".join(captions(draw_scene(WorldConfig(), "train", index))) for index in range(start, stop)]


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("texts")
    paths = [folder / f"texts-{number}.tar" for number in range(2)]
    for number, path in enumerate(paths):
        texts = documents(20 * number, 20 * number + 20)
        write_shard(path, [(f"{i:04}", {"txt": text.encode()}) for i, text in enumerate(texts)])
    return paths


def test_ids_have_the_layout_of_the_official_tokenizer(tars: list[Path], tmp_path: Path) -> None:
    trained = train_text_tokenizer(tars, tmp_path / "text.spm", OPTIONS)
    tokenizer = TextTokenizer(tmp_path / "text.spm")
    # Pieces plus two: 64000 pieces of beit3.spm make 64002 ids, the last of which is <mask>.
    assert trained.vocab_size == tokenizer.vocab_size == 82
    assert tokenizer.mask_id == 81
    ids = tokenizer.encode_for_model(documents(50, 51)[0], 1000)
    assert ids[0] == 0 and ids[-1] == 2 and min(ids[1:-1]) > UNK and max(ids) < tokenizer.mask_id
    assert (trained.num_texts, trained.report.num_texts, trained.num_damaged) == (36, 4, 0)


def test_texts_left_out_are_not_trained_on(tmp_path: Path) -> None:
    """One word in each text is its own; what was left out falls into more pieces, and has new characters."""
    lines = [f"a red star {chr(0x4E00 + number)}" for number in range(40)]
    (tmp_path / "corpus.txt").write_text("\n".join(lines), encoding="utf-8")
    options = TextTokenizerOptions(num_pieces=120, held_out=0.25, character_coverage=1.0)
    trained = train_text_tokenizer([tmp_path / "corpus.txt"], tmp_path / "text.spm", options)
    tokenizer = TextTokenizer(tmp_path / "text.spm")
    unknown = [number for number, line in enumerate(lines) if UNK in tokenizer.encode(line)]
    assert unknown == list(range(0, 40, 4))
    assert trained.report.num_unknown == len(unknown) == trained.report.num_texts


def test_fertility_and_unknown_rate_are_counted(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(documents(0, 20), tmp_path / "t.spm", vocab_size=80)
    report = measure_tokenizer(tokenizer, ["red star", "red Ω"])
    ids = [*tokenizer.encode("red star"), *tokenizer.encode("red Ω")]
    assert (report.num_texts, report.num_words, report.num_pieces) == (2, 4, len(ids))
    assert report.fertility == pytest.approx(len(ids) / 4)
    assert report.num_unknown == ids.count(UNK) == 1
    assert report.unknown_rate == pytest.approx(1 / len(ids))
    assert measure_tokenizer(tokenizer, []).fertility == 0


def test_rare_characters_are_unknown_where_not_all_are_covered(tmp_path: Path) -> None:
    lines = ["red star on blue sea"] * 200 + ["Ω"]
    for coverage, unknown in ((1.0, False), (0.999, True)):
        tokenizer = train_tokenizer(
            lines, tmp_path / f"{coverage}.spm", vocab_size=30, character_coverage=coverage
        )
        assert (UNK in tokenizer.encode("Ω")) == unknown


def test_only_so_many_texts_are_read_evenly_spread(tars: list[Path], tmp_path: Path) -> None:
    options = TextTokenizerOptions(num_pieces=60, most_texts=10, held_out=0.2)
    trained = train_text_tokenizer(tars, tmp_path / "text.spm", options)
    assert (trained.num_texts, trained.report.num_texts) == (8, 2)


def test_tars_and_text_files_go_together(tars: list[Path], tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("\n".join(documents(40, 50)), encoding="utf-8")
    trained = train_text_tokenizer([*tars, tmp_path / "more.txt"], tmp_path / "text.spm", OPTIONS)
    assert trained.num_texts + trained.report.num_texts == 50


def test_samples_without_a_text_are_counted(tmp_path: Path) -> None:
    samples = [(f"{i}", {"txt": text.encode()}) for i, text in enumerate(documents(0, 8))]
    write_shard(tmp_path / "texts.tar", [*samples, ("8", {"png": b"x"}), ("9", {"txt": b"\xff"})])
    trained = train_text_tokenizer([tmp_path / "texts.tar"], tmp_path / "text.spm", OPTIONS)
    assert trained.num_damaged == 2 and trained.num_texts == 7


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a red star\n")
    with pytest.raises(DataFormatError, match="1 texts to train a tokenizer on; expected at least 2"):
        train_text_tokenizer([tmp_path / "one.txt"], tmp_path / "text.spm", OPTIONS)


def test_the_command_reports_and_does_not_overwrite(
    tars: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "text.spm"
    command = ["tokenizer", "train", str(tars[0].parent), "--out", str(out), "--num-pieces", "80"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert f"{out}: 82 ids, trained on 39 texts" in shown
    assert "on 1 texts left out: fertility 1." in shown and "unknown 0.0000% of" in shown
    assert main(command) == 1
    assert capsys.readouterr().err == f"imglish: error: {out} exists; --overwrite replaces it\n"
    assert main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tran"], 2, "there is no action 'tran'; did you mean 'train'?"),
        (["train", "nowhere.tar"], 1, "nowhere.tar: no such file"),
        (["train", "nowhere.txt"], 1, "nowhere.txt: cannot be read"),
        (["train", "."], 1, "has no texts*.tar"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tokenizer", *arguments]) == code
    shown = capsys.readouterr().err
    assert message in shown and len(shown.splitlines()) == 1
