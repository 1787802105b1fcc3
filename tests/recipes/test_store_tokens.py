"""``imglish tokenize`` and a run that reads what it wrote: the same as tokenizing on the fly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imglish.cli.main import main
from imglish.data.shards import ShardSet, Tar, write_shard
from imglish.data.stored_tokens import ShardTokens, StoredTokens, write_tokens
from imglish.data.world.language import captions
from imglish.data.world.scene import WorldConfig, draw_scene
from imglish.data.world.writer import write_world
from imglish.errors import ConfigError, DataFormatError
from imglish.models.beit3.config import Beit3Config
from imglish.recipes import store_tokens as writing
from imglish.recipes.assemble import assemble
from imglish.recipes.assembly.base import Assembly, Shares
from imglish.recipes.assembly.pretraining import load_visual_tokenizer
from imglish.recipes.config import MaskedDataModelingTask, RunConfig
from imglish.recipes.data_config import FolderData, ShardsData
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.store_tokens import StoreOptions, store_tokens
from imglish.structures.batches import MaskedBatch
from imglish.tasks.masked_data_modeling import MaskedDataModelingTask as MaskedTask
from imglish.text.training import train_tokenizer

# Patches of 14 pixels: the tokenizer of the World, which has 16, must see the pictures resized.
MODEL = Beit3Config(
    image_size=(56, 56), patch_size=14, vocab_size=128, max_text_tokens=64, width=16, depth=1, num_heads=2,
    feed_forward_width=16, init="scaled",
)  # fmt: skip
OPTIONS = StoreOptions(tokenizer="world", image_size=(56, 56), patch_size=14, batch_size=5, device="cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tokens")
    write_world(WorldConfig(), root / "world", num_train=12, num_validation=4, workers=1)
    scenes = [draw_scene(WorldConfig(), "train", index) for index in range(60)]
    train_tokenizer([text for scene in scenes for text in captions(scene)], root / "text.spm", vocab_size=100)
    return root


def tars(root: Path, split: str = "train") -> list[Path]:
    return sorted((root / "world" / "shards").glob(f"pairs-{split}-*.tar"))


def assembled(
    root: Path, out: Path, stored: str = "", data: ShardsData | None = None, **changes: object
) -> Assembly[MaskedBatch]:
    settings = MaskedDataModelingTask(
        model=MODEL, visual_tokenizer="world", stored_tokens=stored, num_images=4, num_texts=4, num_pairs=4,
        min_block=2, flip=0.0,
    )  # fmt: skip
    settings = replace(settings, **changes)  # type: ignore[arg-type]
    config = RunConfig(
        name="test",
        task=settings,
        data=data or FolderData(root=root / "world"),
        text_tokenizer=str(root / "text.spm"),
    )
    torch.manual_seed(0)
    return assemble(config, RunFolder(out), Shares())


def test_a_run_on_stored_tokens_equals_one_that_tokenizes_on_the_fly(root: Path, tmp_path: Path) -> None:
    stored = store_tokens(tars(root), tmp_path / "tokens", OPTIONS)
    assert (stored.num_pictures, stored.num_damaged) == (12, 0)
    reading, running = assembled(root, tmp_path, str(tmp_path / "tokens")), assembled(root, tmp_path)
    for step in range(3):
        ours, theirs = reading.plan.batch(step).batch, running.plan.batch(step).batch  # type: ignore[union-attr]
        assert ours.images.tokens is not None and ours.pairs.tokens is not None
        assert theirs.images.tokens is None and torch.equal(ours.images.images, theirs.images.images)
        task, other = reading.task, running.task
        assert isinstance(task, MaskedTask) and isinstance(other, MaskedTask)
        targets = other.targets(theirs)
        assert len(targets.image.unique()) > 1
        for name, mine, found in zip(targets._fields, task.targets(ours), targets, strict=True):
            assert torch.equal(mine, found), name
        assert torch.equal(task.training_step(ours).loss, other.training_step(theirs).loss)
    (scored, *_) = reading.evaluation(Shares())
    assert scored.batch.images.tokens is None  # validation was not stored: the tokenizer runs


def test_data_sets_whose_tars_have_one_name_share_a_folder_of_tokens(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_world(replace(WorldConfig(), seed=7), other, num_train=9, num_validation=2, workers=1)
    folders = [root / "world" / "shards", other / "shards"]
    assert [path.name for path in folders[1].glob("pairs-train*.tar")] == [path.name for path in tars(root)]
    pairs = tuple(f"{folder}/pairs-train-*.tar" for folder in folders)
    data = ShardsData(
        texts=(f"{folders[0]}/texts-train-*.tar",), pairs=pairs, pair_weights=(1, 3),
        validation_texts=(f"{folders[0]}/texts-validation-*.tar",),
        validation_pairs=tuple(f"{folder}/pairs-validation-*.tar" for folder in folders),
    )  # fmt: skip
    store_tokens(tars(root), tmp_path / "tokens", OPTIONS)
    with pytest.raises(DataFormatError, match=r"other/shards/pairs-train-.* \(1 of 2 tars are missing\)"):
        assembled(root, tmp_path, str(tmp_path / "tokens"), data)
    store_tokens(sorted(folders[1].glob("pairs-train-*.tar")), tmp_path / "tokens", OPTIONS)
    reading = assembled(root, tmp_path, str(tmp_path / "tokens"), data)
    running = assembled(root, tmp_path, data=data)
    for step in range(2):
        ours, theirs = reading.plan.batch(step).batch, running.plan.batch(step).batch  # type: ignore[union-attr]
        task, on_the_fly = reading.task, running.task
        assert isinstance(task, MaskedTask) and isinstance(on_the_fly, MaskedTask)
        assert ours.images.tokens is not None and ours.pairs.tokens is not None
        assert torch.equal(ours.pairs.images, theirs.pairs.images)
        for name, mine, found in zip(
            task.targets(ours)._fields, task.targets(ours), on_the_fly.targets(theirs), strict=True
        ):
            assert torch.equal(mine, found), name
    (scored, *_) = reading.evaluation(Shares())
    assert scored.batch.images.tokens is None  # the pictures to score were not stored


def test_an_interrupted_command_goes_on_with_the_tars_that_are_not_done(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [*tars(root), *tars(root, "validation")]
    store_tokens(shards, tmp_path / "whole", OPTIONS)
    write = write_tokens
    calls: list[Path] = []

    def stop_at_the_second(out: Path, shard: Tar, *rest: object) -> None:
        calls.append(shard.path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(out, shard, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "write_tokens", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        store_tokens(shards, tmp_path / "parts", OPTIONS)
    told: list[tuple[int, int]] = []
    stored = store_tokens(shards, tmp_path / "parts", OPTIONS, progress=lambda *now: told.append(now))
    assert calls == [shards[0], shards[1], shards[1]]
    assert (stored.num_done_before, stored.num_pictures) == (1, 4)
    assert told[0] == (12, 16) and told[-1] == (16, 16)
    written = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert written == sorted(path.name for path in (tmp_path / "parts").iterdir())
    for name in written:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_workers_and_batches_change_nothing(root: Path, tmp_path: Path) -> None:
    store_tokens(tars(root), tmp_path / "one", OPTIONS)
    store_tokens(tars(root), tmp_path / "two", replace(OPTIONS, batch_size=3, num_workers=2))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_damaged_picture_has_no_tokens_and_is_passed_over_in_training(root: Path, tmp_path: Path) -> None:
    shards = ShardSet(tars(root))
    samples = [shards[index] for index in range(6)]
    samples[2] |= {"png": b"no picture"}
    tar = tmp_path / "pairs-train-000000.tar"
    write_shard(
        tar,
        [
            (str(s["__key__"]), {e: s[e] for e in ("png", "txt") if isinstance(s[e], bytes)})  # type: ignore[misc]
            for s in samples
        ],
    )
    stored = store_tokens([tar], tmp_path / "tokens", OPTIONS)
    assert (stored.num_pictures, stored.num_damaged) == (5, 1)
    source = ShardTokens(ShardSet([tar]), StoredTokens(tmp_path / "tokens"))
    assert source.tokens(3).shape == (16,)
    with pytest.raises(DataFormatError, match="its picture did not decode"):  # so the next sample stands in
        source.tokens(2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip": 0.5}, r"crop_scale is 1, task\.flip 0\.5 and task\.color_jitter 0; set them to 1, 0 and 0"),
        ({"crop_scale": 0.2}, r"crop_scale is 0\.2"),
    ],
)
def test_pictures_whose_tokens_are_stored_are_neither_cropped_nor_flipped(
    root: Path, tmp_path: Path, changes: dict[str, float], message: str
) -> None:
    store_tokens(tars(root), tmp_path / "tokens", OPTIONS)
    with pytest.raises(ConfigError, match=message):
        assembled(root, tmp_path, str(tmp_path / "tokens"), **changes)


def test_tokens_of_another_tokenizer_are_refused_in_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tokens"
    store_tokens(tars(root), out, OPTIONS)
    model = load_visual_tokenizer("world")
    model.quantizer.codebook[0] += 0.01
    world = RunFolder(tmp_path / "other")
    world.create()
    source = Path(writing.__file__).parents[1] / "hub" / "world" / "visual_tokenizer" / "config.yaml"
    world.config_path.write_bytes(source.read_bytes())
    world.save_weights(model.state_dict())
    with pytest.raises(DataFormatError, match=r"holds tokens of the tokenizer world .*, not of ") as error:
        assembled(root, tmp_path, str(out), visual_tokenizer=str(world.path))
    assert "\n" not in str(error.value)
    assert main(["tokenize", str(tars(root)[0]), "--tokenizer", str(world.path), "--out", str(out)]) == 1
    assert capsys.readouterr().err.startswith(f"imglish: error: {out}: holds tokens of the tokenizer world")


def test_tokens_for_another_picture_size_are_refused(root: Path, tmp_path: Path) -> None:
    store_tokens(tars(root), tmp_path / "tokens", replace(OPTIONS, image_size=None, patch_size=0))
    with pytest.raises(DataFormatError, match=r"image_size \(64, 64\); expected \(56, 56\)"):
        assembled(root, tmp_path, str(tmp_path / "tokens"))


def test_tars_without_tokens_are_refused(root: Path, tmp_path: Path) -> None:
    store_tokens(tars(root, "validation"), tmp_path / "tokens", OPTIONS)
    with pytest.raises(DataFormatError, match="1 of 1 tars are missing"):
        assembled(root, tmp_path, str(tmp_path / "tokens"))


def test_the_command_says_what_it_wrote(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tokenize", str(tars(root)[0]), "--tokenizer", "world", "--out", str(tmp_path / "t")]
    assert main([*command, "--device", "cpu"]) == 0
    assert "4 x 4 tokens of each of 12 pictures" in capsys.readouterr().out
    assert main([*command, "--device", "cpu"]) == 0
    assert "1 tars had been done before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--image-size", "60", "60"], "pictures of (60, 60) pixels do not divide into patches of 16"),
        (["--tokenizer", "wrld"], "did you mean 'world'?"),
        (["--device", "nothing"], "nothing"),
    ],
)
def test_bad_options_are_one_line(
    root: Path, tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tokenize", str(tars(root)[0]), "--tokenizer", "world", "--out", str(tmp_path / "t"), *more]
    assert main(command) == 1
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown


def test_two_tars_of_one_name_are_refused(root: Path, tmp_path: Path) -> None:
    (copy,) = [tmp_path / path.name for path in tars(root)]
    copy.write_bytes(tars(root)[0].read_bytes())
    with pytest.raises(ConfigError, match="have one name"):
        store_tokens([*tars(root), copy], tmp_path / "tokens", OPTIONS)
    assert not (tmp_path / "tokens").exists()
