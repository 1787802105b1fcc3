"""BEiT-3 as files: the numbers of the model, for rows and lengths that were never traced.

Recording a graph takes seconds of a processor, so each kind is exported once and all is asked of its files.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from imglish.cli.main import main
from imglish.decoding.beam_search import greedy_search
from imglish.errors import CheckpointError
from imglish.hub.pretrained import save_pretrained
from imglish.hub.run import LoadedRun
from imglish.inference import export_beit3
from imglish.inference.export_beit3 import export_parts
from imglish.inference.export_files import in_float32
from imglish.inference.predictor import Predictor
from imglish.models.beit3.classification_heads import Beit3ForImageClassification
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval, Beit3ForVqa
from imglish.models.joint import JointModel
from imglish.text.tokenizer import BOS, EOS, PAD, TextTokenizer
from imglish.text.training import train_tokenizer
from tests.inference.tiny_weights import TEXTS, pixels

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# Warnings of the exporter about its own parts.
pytestmark = pytest.mark.filterwarnings("ignore")
SIDE = 16
CONFIG = Beit3Config(
    image_size=(SIDE, SIDE), patch_size=8, vocab_size=48, max_text_tokens=12, width=16, depth=1, num_heads=2,
    feed_forward_width=16, num_fusion_layers=1, init="scaled",
)  # fmt: skip
TOLERANCE = 1e-4  # of the largest number, as promised; float32 with other orders of sums
ANSWERS = ("red", "blue", "yes")
DOCUMENT = Path(__file__).parents[2] / "docs" / "export.md"


def tiny(kind: str, folder: Path, **settings: Any) -> LoadedRun:
    """A model of that kind, of weights that make every part count."""
    torch.manual_seed(0)
    model: nn.Module
    alone = bool(settings.get("picture_alone"))
    labels: tuple[str, ...] = ()
    match kind:
        case "vqa":
            model = Beit3ForVqa(replace(CONFIG, output_norm=False), num_answers=3, picture_alone=alone)
            labels = ANSWERS
        case "captioning":
            model = Beit3ForCaptioning(CONFIG, picture_alone=alone)
        case "image_classification":
            model = Beit3ForImageClassification(replace(CONFIG, output_norm=False), num_classes=3)
            labels = ANSWERS
        case _:
            model = Beit3ForRetrieval(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    train_tokenizer(TEXTS * 5, folder / "text.spm", vocab_size=45)
    return LoadedRun(
        kind=kind, model=model.eval(), config=CONFIG, text=TextTokenizer(folder / "text.spm"), labels=labels,
        settings={"max_text_tokens": 12, "num_beams": 1, "length_penalty": 0.0} | settings,
    )  # fmt: skip


def run_onnx(path: Path, **inputs: torch.Tensor | NDArray[Any]) -> list[torch.Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    fed = {name: np.asarray(value) for name, value in inputs.items()}
    return [torch.from_numpy(array) for array in session.run(None, fed)]


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


def texts(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids, and padding of which every row but the first has some."""
    draw = torch.Generator().manual_seed(length)
    ids = torch.randint(4, 45, (rows, length), generator=draw)
    ids[:, 0] = BOS
    for row in range(1, rows):
        ids[row, max(1, length - row) :] = PAD
    return ids, ids == PAD


@torch.no_grad()
def test_both_towers_of_a_dual_encoder(tmp_path: Path) -> None:
    run = tiny("retrieval", tmp_path)
    done = export_parts(run, tmp_path / "out" / "dual.onnx", source="a tiny one")
    model: Any = run.model
    for rows in (1, 4):
        images = torch.randn(rows, 3, SIDE, SIDE)
        assert_same(
            run_onnx(tmp_path / "out" / "dual.image.onnx", images=images)[0], model.encode_images(images)
        )
    for rows, length in ((1, 2), (4, 7), (2, 12)):
        ids, padding = texts(rows, length)
        found = run_onnx(tmp_path / "out" / "dual.text.onnx", token_ids=ids, padding=padding)[0]
        assert_same(found, model.encode_texts(ids, padding))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "dual.image.onnx", "dual.text.onnx", "dual.json", "dual.spm",
    }  # fmt: skip
    told = json.loads((tmp_path / "out" / "dual.json").read_text())
    assert told == json.loads(json.dumps(asdict(done)))
    assert told["files"] == {"image": "dual.image.onnx", "text": "dual.text.onnx"}
    assert told["scale"] == pytest.approx(float(model.logit_scale.exp()))
    assert told["mean"] == [0.5] * 3 and (told["height"], told["width"]) == (SIDE, SIDE)
    assert told["error"] <= TOLERANCE and told["source"] == "a tiny one" and not told["labels"]


@torch.no_grad()
@pytest.mark.parametrize("alone", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_model_that_answers(alone: bool, tmp_path: Path) -> None:
    run = tiny("vqa", tmp_path, picture_alone=alone)
    done = export_parts(run, tmp_path / "vqa.onnx")
    for rows, length in ((1, 2), (4, 7), (2, 12)):
        ids, padding = texts(rows, length)
        images = torch.randn(rows, 3, SIDE, SIDE)
        found = run_onnx(tmp_path / "vqa.onnx", images=images, token_ids=ids, padding=padding)[0]
        assert_same(found, run.model(images, ids, padding))
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tmp_path / "vqa.onnx")
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"} and not model.functions
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["labels"]) == list(ANSWERS) == list(done.labels)
    assert told["probabilities"] == "sigmoid" and told["kind"] == "vqa"


@torch.no_grad()
def test_a_classifier_in_torchs_own_format(tmp_path: Path) -> None:
    run = tiny("image_classification", tmp_path, pictures="imagenet")
    done = export_parts(run, tmp_path / "classes.pt2", format="torch_export")
    program = torch.export.load(tmp_path / "classes.pt2").module()
    for rows in (1, 4):
        images = torch.randn(rows, 3, SIDE, SIDE)
        assert_same(program(images), run.model(images))
    assert done.mean == (0.485, 0.456, 0.406) and done.crop_share == 1.0
    assert done.probabilities == "softmax" and done.files == {"": "classes.pt2"}


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedRun, Path]:
    """A captioner that ends some captions and is cut short in others, and its two files."""
    folder = tmp_path_factory.mktemp("captioner")
    run = tiny("captioning", folder)
    with torch.no_grad():
        model: Any = run.model
        model.text_head.bias[: EOS + 2] = -9.0  # no special words
        model.text_head.bias[EOS] = 1.5  # captions of none to nine words, the most there are
        model.text_head.bias[run.text.mask_id :] = -9.0  # type: ignore[union-attr]
    export_parts(run, folder / "captioner.onnx")
    return run, folder


@torch.no_grad()
def test_a_captioner_goes_word_by_word(captioner: tuple[LoadedRun, Path]) -> None:
    run, folder = captioner
    model: Any = run.model
    assert run.text is not None
    for num_pictures, beams in ((1, 1), (2, 3)):
        images = torch.randn(num_pictures, 3, SIDE, SIDE)
        keys, values = run_onnx(folder / "captioner.start.onnx", images=images)
        memory = model.start(images)
        assert_same(keys, torch.stack([block.keys for block in memory.pictures]))
        owners = torch.arange(num_pictures).repeat_interleave(beams)
        memory = memory.select(owners)
        rows = num_pictures * beams
        word_keys = word_values = torch.zeros(CONFIG.depth, rows, CONFIG.num_heads, 0, 8)
        words = torch.full((rows,), BOS)
        for number in range(CONFIG.max_text_tokens - 1):  # as many as the model has places for
            found, word_keys, word_values = run_onnx(
                folder / "captioner.step.onnx", words=words, owners=owners, picture_keys=keys,
                picture_values=values, word_keys=word_keys, word_values=word_values,
            )  # fmt: skip
            expected, memory = model.step(memory, words, run.text.mask_id)
            assert_same(found, expected)
            assert word_keys.shape[3] == number + 1
            words = torch.randint(4, 40, (rows,))


def example() -> str:
    """The Python of docs/export.md that writes a caption."""
    blocks = re.findall(
        r"^```py\w*\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    (code,) = (block for block in blocks if "captioner.json" in block)
    return str(code)


def test_the_example_of_the_docs_writes_the_words_of_the_predictor(
    captioner: tuple[LoadedRun, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = captioner
    code = example()
    assert set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)) == {
        "json", "re", "numpy", "onnxruntime", "PIL",
    }  # fmt: skip
    monkeypatch.chdir(folder)
    predictor, model = Predictor(run), run.model
    assert isinstance(model, Beit3ForCaptioning) and run.text is not None
    mask_id, lengths = run.text.mask_id, set()
    for seed in range(8):
        picture = pixels(SIDE, SIDE, seed)
        Image.fromarray(picture).save("picture.png")
        names: dict[str, Any] = {}
        exec(compile(code, str(DOCUMENT), "exec"), names)
        assert capsys.readouterr().out.strip() == predictor.caption(picture)
        image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
        (greedy,) = greedy_search(
            lambda memory, words: model.step(memory, words, mask_id), model.start(image), batch_size=1,
            bos=BOS, eos=EOS, max_words=run.settings["max_text_tokens"] - 3,
        )  # fmt: skip
        assert tuple(names["written"]) == greedy.words
        lengths.add(len(greedy.words))
    assert len(lengths) > 2 and max(lengths) == run.settings["max_text_tokens"] - 3


@pytest.mark.slow
@torch.no_grad()
def test_a_captioner_that_sees_pictures_alone_in_torchs_own_format(tmp_path: Path) -> None:
    run = tiny("captioning", tmp_path, picture_alone=True)
    done = export_parts(run, tmp_path / "captioner.pt2", format="torch_export")
    assert done.error <= TOLERANCE
    model: Any = run.model
    images = torch.randn(2, 3, SIDE, SIDE)
    keys, _ = torch.export.load(tmp_path / "captioner.start.pt2").module()(images)
    assert_same(keys, torch.stack([block.keys for block in model.start(images).pictures]))


def test_the_command_writes_what_follows_from_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_pretrained(tiny("image_classification", tmp_path), tmp_path / "run")
    command = ["export", "run", "classes.pt2", "--format", "torch_export"]
    assert main([*command, "--size", "24", "16"]) == 0
    told = json.loads((tmp_path / "classes.json").read_text())
    assert (told["height"], told["width"], told["source"]) == (24, 16, "run")
    assert "classes.pt2: image_classification, pictures of 24 x 16" in capsys.readouterr().out
    assert torch.export.load("classes.pt2").module()(torch.zeros(1, 3, 24, 16)).shape == (1, 3)
    assert main(command) == 1
    assert "classes.pt2: is there already; add --overwrite" in capsys.readouterr().err
    save_pretrained(tiny("retrieval", tmp_path), tmp_path / "dual")
    (tmp_path / "dual.text.onnx").touch()
    assert main(["export", "dual", "dual.onnx"]) == 1
    assert "dual.text.onnx: is there already" in capsys.readouterr().err


def test_a_file_with_other_numbers_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_beit3, "TOLERANCE", -1.0)  # not even equal numbers will do
    target = tmp_path / "out" / "classes.pt2"
    with pytest.raises(CheckpointError, match=r"classes.pt2: its answers differ .*: nothing was written"):
        export_parts(tiny("image_classification", tmp_path), target, format="torch_export")
    assert not list(target.parent.iterdir())


def test_other_models_are_refused(tmp_path: Path) -> None:
    run = tiny("retrieval", tmp_path)
    with pytest.raises(CheckpointError, match="a masked_data_modeling model; expected one of retrieval"):
        export_parts(replace(run, kind="masked_data_modeling"), tmp_path / "new" / "x.onnx")
    with pytest.raises(CheckpointError, match="came without a text tokenizer"):
        export_parts(replace(run, kind="captioning", text=None), tmp_path / "new" / "x.onnx")
    assert not (tmp_path / "new").exists()


def test_a_model_in_half_precision_or_with_a_lent_encoder_is_made_whole(tmp_path: Path) -> None:
    run = tiny("retrieval", tmp_path)
    images = torch.randn(2, 3, SIDE, SIDE)
    assert in_float32(run.model) is run.model
    joint = JointModel(Beit3ForRetrieval(CONFIG).encoder, {"dual": run.model})
    part: Any = joint.parts["dual"]
    assert not any(name.startswith("encoder.") for name in part.state_dict())
    whole: Any = in_float32(part)
    assert any(name.startswith("encoder.") for name in whole.state_dict())
    assert torch.equal(whole.encode_images(images), part.encode_images(images))
    assert not any(name.startswith("encoder.") for name in part.state_dict())  # it stays as it is
    joint.half()
    assert next(in_float32(part).parameters()).dtype == torch.float32
    assert next(part.parameters()).dtype == torch.float16
