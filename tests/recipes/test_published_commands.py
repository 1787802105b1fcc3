"""The commands of docs/tasks on small data in the published layouts, with shrunk official weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from imglish.cli.main import main
from imglish.metrics.captioning.caption_metrics import CaptionMetrics
from imglish.recipes.data_config import NocapsData
from imglish.recipes.records import captioned
from tests.recipes.published_files import (
    ANSWERS,
    DOMAINS,
    ON_CPU,
    SHORT,
    SIZES,
    SYNSETS,
    picture,
    write_imagenet,
    write_karpathy,
    write_nocaps,
    write_visual_genome,
    write_vqa_v2,
    write_weights,
)

Runs = Callable[..., str]
TEXT_LENGTH = ["--task.max-text-tokens", "20"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and weights; nothing in it is changed but by those who put it back."""
    root = tmp_path_factory.mktemp("published")
    write_weights(root / "weights")
    splits = ["train"] * 4 + ["restval"] + ["val"] * 3 + ["test"] * 2
    write_karpathy(root / "coco", "dataset_coco.json", splits, folders=True)
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 3
    write_karpathy(root / "flickr30k", "dataset_flickr30k.json", splits, folders=False)
    write_vqa_v2(root / "coco")
    write_visual_genome(root / "genome")
    write_nocaps(root / "nocaps")
    write_imagenet(root / "imagenet")
    return root


@pytest.fixture
def runs(capsys: pytest.CaptureFixture[str]) -> Runs:
    """Runs a command and returns what it prints, or what it says where it ends with ``code``."""

    def run(*arguments: str | Path, code: int = 0) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == code, capsys.readouterr().err
        shown = capsys.readouterr()
        return shown.out if code == 0 else shown.err.splitlines()[-1]

    return run


def evaluated(root: Path, recipe: str, kind: str, data: str, *more: str) -> list[str]:
    """The command that scores official weights."""
    words = [] if kind == "image_classification" else TEXT_LENGTH
    text = ["--text-tokenizer", str(root / "weights" / "text.spm")] if words else []
    weights = ["--weights", str(root / "weights" / f"{kind}.pth")]
    where = ["--data.root", str(root / data)]
    return ["evaluate", recipe, *weights, *text, *SIZES, *words, *ON_CPU, *where, *more]


def trained(root: Path, recipe: str, data: str, out: Path, *more: str) -> list[str]:
    """The command that trains for two steps."""
    words = [] if recipe == "imagenet_base" else TEXT_LENGTH
    text = ["--text-tokenizer", str(root / "weights" / "text.spm")] if words else []
    where = ["--data.root", str(root / data), "--out", str(out)]
    return ["train", recipe, *text, *SIZES, *words, *ON_CPU, *SHORT, *where, *more]


def scores_of(shown: str) -> dict[str, float]:
    """Names and values of printed scores."""
    rows = (line.rsplit(maxsplit=1) for line in shown.splitlines()[1:])
    return {name.strip(): float(value) for name, value in rows}


class Away:
    """A folder that is not there for a while."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths

    def __enter__(self) -> None:
        for path in self.paths:
            path.rename(path.with_name(path.name + ".away"))

    def __exit__(self, *_: object) -> None:
        for path in self.paths:
            path.with_name(path.name + ".away").rename(path)


def caption_scores(records: Sequence[object], captions: dict[int, str]) -> dict[str, float]:
    metrics = CaptionMetrics()
    for record in records:
        references = [sentence.text for sentence in record.sentences]  # type: ignore[attr-defined]
        image_id = record.image_id  # type: ignore[attr-defined]
        metrics.update([captions[image_id]], [references], torch.tensor([image_id]))
    return metrics.compute()


def test_nocaps_is_scored_whole_and_by_domain_without_coco(root: Path, runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "captions.json"
    nocaps = NocapsData(root=root / "nocaps", coco=root / "nowhere")
    with Away(root / "coco"):
        command = evaluated(root, "nocaps_captioning_base", "captioning", "nocaps")
        scores = scores_of(runs(*command))
        runs(*command, "--predictions", out, "--split", "validation")
    written = {entry["image_id"]: entry["caption"] for entry in json.loads(out.read_text())}
    records = captioned(nocaps, "validation")
    assert set(written) == {record.image_id for record in records}
    expected = caption_scores(records, written)
    for domain in DOMAINS:
        own = caption_scores([record for record in records if record.domain == domain], written)
        expected |= {f"{name}/{domain}": value for name, value in own.items()}
    assert expected["caption/bleu_1"] > 0  # or every score would be nought anyway
    # Four digits are printed.
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-3, abs=1e-12)


def test_nocaps_test_captions_are_written_but_not_scored(root: Path, runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "captions.json"
    command = evaluated(root, "nocaps_captioning_large", "captioning", "nocaps")
    assert runs(*command, "--predictions", out) == f"{out}: 6 predictions\n"
    written = json.loads(out.read_text())
    assert [entry["image_id"] for entry in written] == list(range(6))
    assert all(set(entry) == {"image_id", "caption"} for entry in written)
    assert runs(*command, "--split", "test", code=1) == (
        "imglish: error: the test split has 6 pictures without captions: there is nothing to score; "
        "--predictions FILE writes predictions"
    )


def test_nocaps_is_trained_on_coco_and_a_run_does_the_same(root: Path, runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = trained(root, "nocaps_captioning_base", "nocaps", out, "--data.coco", str(root / "coco"))
    final = scores_of(runs(*command))
    assert {f"caption/cider/{domain}" for domain in DOMAINS} < set(final)
    with Away(root / "coco"):
        assert scores_of(runs("evaluate", out)) == final
        assert "without captions" in runs("evaluate", out, "--split", "test", code=1)
        assert runs("evaluate", out, "--predictions", tmp_path / "p.json").endswith(": 6 predictions\n")
    without = tmp_path / "without"
    shown = runs(*trained(root, "nocaps_captioning_base", "nocaps", without, "--data.coco", "no"), code=1)
    assert "no/dataset_coco.json: no such file" in shown and not (without / "config.yaml").exists()


def test_coco_captions_are_scored_and_written(root: Path, runs: Runs, tmp_path: Path) -> None:
    command = evaluated(root, "coco_captioning_base", "captioning", "coco")
    with Away(root / "coco" / "train2014"):
        assert "caption/cider" in scores_of(runs(*command, "--split", "test"))
        assert runs(*command, "--predictions", tmp_path / "p.json").endswith(": 2 predictions\n")
    runs(*trained(root, "coco_captioning_base", "coco", tmp_path / "run"))
    path = root / "coco" / "val2014" / "7.png"
    assert runs("predict", path, "--run", tmp_path / "run", "--caption").startswith(f"{path}: ")


@pytest.mark.parametrize(("name", "validated", "tested"), [("coco", 3, 2), ("flickr30k", 2, 3)])
def test_retrieval_is_scored_zero_shot_on_both_splits(
    root: Path, runs: Runs, name: str, validated: int, tested: int
) -> None:
    """R@1 to texts is a multiple of one over the pictures: so the split can be told from the score."""
    away = [root / "coco" / "train2014"] if name == "coco" else []
    for split, count in (("validation", validated), ("test", tested)):
        command = evaluated(root, f"{name}_retrieval_base", "retrieval", name, "--split", split)
        with Away(*away):
            scores = scores_of(runs(*command))
        share = scores["retrieval/text_recall_at_1"] * count
        assert share == pytest.approx(round(share), abs=1e-3)
        assert scores["retrieval/image_recall_at_10"] == 1.0


def test_retrieval_goes_on_from_the_intermediate_stage(root: Path, runs: Runs, tmp_path: Path) -> None:
    first, then = tmp_path / "contrastive", tmp_path / "retrieval"
    command = trained(root, "contrastive_base", "coco", first, "--data.kind", "karpathy")
    runs(*command)
    weights = first / "model.safetensors"
    zero_shot = evaluated(root, "coco_retrieval_base", "retrieval", "coco", "--weights", str(weights))
    assert "retrieval/average" in scores_of(runs(*zero_shot))
    runs(*trained(root, "coco_retrieval_base", "coco", then, "--init", str(first)))
    pictures = sorted((root / "coco" / "val2014").glob("?.png"))
    found = runs("predict", *pictures, "--run", then, "--search", "a red star")
    assert len(found.splitlines()) == 3


def test_chunks_change_nothing_of_the_intermediate_stage(root: Path, runs: Runs, tmp_path: Path) -> None:
    """All pairs of the batch compete, however many are encoded at once."""
    losses = []
    for chunk in ("0", "2"):
        out = tmp_path / chunk
        command = trained(root, "contrastive_base", "coco", out, "--data.kind", "karpathy")
        runs(*command, "--task.chunk-size", chunk, "--train.log-every", "1", "--task.model.drop-path", "0")
        lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert losses[0] and losses[0] == pytest.approx(losses[1], rel=1e-4)  # float32, summed in another order
    refused = runs(*command, "--task.chunk-size", "2", "--train.grad-accumulation", "2", "--out",
                   str(tmp_path / "both"), code=1)  # fmt: skip
    assert "both save memory" in refused


def test_questions_need_neither_a_list_of_answers_nor_training_pictures(
    root: Path, runs: Runs, tmp_path: Path
) -> None:
    rare = ["--task.min-answer-count", "8"]  # each answer occurs so often: four times in each split
    command = evaluated(root, "vqav2_base", "vqa", "coco", *rare)
    out = tmp_path / "answers.json"
    with Away(root / "coco" / "train2014"):
        assert "vqa/accuracy" in scores_of(runs(*command))
        runs(*command, "--predictions", out)
        assert [entry["question_id"] for entry in json.loads(out.read_text())] == [0]
        runs(*command, "--predictions", out, "--data.test", "test2015")
        answers = json.loads(out.read_text())
    assert [entry["question_id"] for entry in answers] == [0, 1]
    assert {entry["answer"] for entry in answers} <= {*ANSWERS, "2"}  # numbers are normalised
    assert "the test split has 1 questions without answers" in runs(*command, "--split", "test", code=1)


def test_visual_genome_adds_questions_but_no_answers(root: Path, runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "run"
    genome = ["--data.visual-genome", str(root / "genome" / "question_answers.json")]
    rare = ["--task.min-answer-count", "2"]  # so often occurs "zebra"
    runs(*trained(root, "vqav2_large_768", "coco", out, *genome, *rare))
    known = [json.loads(line)["answer"] for line in (out / "answers.txt").read_text().splitlines()]
    # In the order of the published files, though training sees the questions in another one.
    assert known == ["2" if answer == "two" else answer for answer in ANSWERS]
    assert runs("evaluate", out, "--predictions", tmp_path / "p.json").endswith(": 1 predictions\n")
    shown = runs("predict", root / "genome" / "images" / "3.jpg", "--run", out, "--question", "what is it?")
    assert shown.count("%") == 3


def test_imagenet_is_scored_with_and_without_its_training_pictures(root: Path, runs: Runs) -> None:
    command = evaluated(root, "imagenet_base", "image_classification", "imagenet")
    scores = scores_of(runs(*command))
    assert scores["classification/top_5_accuracy"] == 1.0  # there are five classes
    with Away(root / "imagenet" / "train"):
        assert scores_of(runs(*command)) == scores
    assert "no test split" not in runs(*command, "--split", "test", code=1)  # ImageNet's has no labels


def test_imagenets_classes_get_their_words(root: Path, runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "run"
    runs(*trained(root, "imagenet_base", "imagenet", out))
    before = (out / "classes.txt").read_text()
    names = before.splitlines()
    assert len(names) == len(SYNSETS) and {"tench", "goldfish", "tabby"} < set(names)
    assert len([name for name in names if name.startswith("crane: ")]) == 2
    told = runs("predict", root / "imagenet" / "val" / SYNSETS[0] / "0.png", "--run", out, "--classify")
    assert any(name in told for name in names)
    # Scoring a run on other folders must not rename its classes.
    for split in ("train", "val"):
        picture(tmp_path / "others" / split / "n02123045" / "0.png", 0)
    shown = runs("evaluate", out, "--data.root", tmp_path / "others", code=1)
    assert "another architecture" in shown and (out / "classes.txt").read_text() == before


def test_imagenet_21k_comes_before_imagenet_1k_by_names(root: Path, runs: Runs, tmp_path: Path) -> None:
    write_imagenet(tmp_path / "in21k", ("train",))
    listed = tmp_path / "classes.txt"
    listed.write_text("".join(f"{synset} class {number}\n" for number, synset in enumerate(SYNSETS)))
    first, then = tmp_path / "first", tmp_path / "then"
    flat = ["--task.model.num-fusion-layers", "0"]
    more = ["--data.root", str(tmp_path / "in21k"), "--data.class-names", str(listed), *flat]
    runs(*trained(root, "imagenet21k_giant", "imagenet", first, *more))
    assert (first / "classes.txt").read_text().split("\n")[1] == "class 1"
    runs(*trained(root, "imagenet_giant", "imagenet", then, "--init", str(first), *flat))
    assert (then / "classes.txt").read_text().split("\n")[0] == "tench"
    assert "classification/top_1_accuracy" in scores_of(runs("evaluate", then))


def test_weights_are_named_rightly_or_refused_before_data_is_read(root: Path, runs: Runs) -> None:
    shown = runs("evaluate", "coco_retrieval_base", "--weights", "beit3_base_itc_patch16_22", code=1)
    assert "did you mean 'beit3_base_itc_patch16_224'?" in shown
    shown = runs("evaluate", "coco_retrieval_base", "--weights", str(root), code=1)
    assert "neither the name of official weights nor a file" in shown


def test_texts_longer_than_the_table_of_positions_are_refused(root: Path, runs: Runs, tmp_path: Path) -> None:
    command = trained(root, "coco_captioning_base", "coco", tmp_path / "run")
    shown = runs(*command, "--task.max-text-tokens", "21", code=1)
    assert "task.max_text_tokens is 21, but the model has positions for 20" in shown


def test_tasks_without_a_test_split_say_so(root: Path, runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "run"
    runs(*trained(root, "contrastive_base", "coco", out, "--data.kind", "karpathy"))
    assert "a run of contrastive has no test split" in runs("evaluate", out, "--split", "test", code=1)
    assert "has no submission format" in runs("evaluate", out, "--predictions", tmp_path / "p", code=1)
