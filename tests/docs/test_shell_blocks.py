"""Commands in the documents are read by their real parsers; those that are quick run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tyro

from imglish.cli.main import COMMANDS, main
from imglish.cli.train import configure
from imglish.cli.usage import UsageError
from imglish.config.core import to_yaml
from imglish.errors import ImglishError
from imglish.hub.load import list_models
from imglish.recipes.config import RunConfig
from imglish.recipes.runs import RECIPES
from tests.docs.blocks import DOCUMENTS, Block, commands_of, inline_commands, shell_blocks

# What stands for something else in a command.
RECIPES_MEANT = ("vqa_demo", "beit3_base_pretraining", "segmentation_base", "mask_rcnn_demo")
STAND_INS = {
    "RUN": "runs/mine",
    "RUN/model.safetensors": "runs/mine/model.safetensors",
    "N": "8",
    "CKPT": "file.pth",
    "NAME": "beit3_base_patch16_224",
    "FILE": "file.pth",
    "FOLDER": "folder",
}
BY_RECIPE = ("train", "evaluate", "plan", "submit")
WEIGHTS = ("--weights", "--init", "--tokenizer", "--task.visual-tokenizer")
BLOCKS = shell_blocks()


class Parsed(Exception):  # noqa: N818
    """The options of a command are understood."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_are_understood(
    path: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of commands with the same options of like recipes one is parsed; names are checked of all."""
    assert not problems_of(path, Reader(here, monkeypatch, capsys))


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_single_command_is_understood(
    path: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not problems_of(path, Reader(here, monkeypatch, capsys, every=True))


@pytest.mark.parametrize(
    "path", sorted({b.path for b in BLOCKS if b.mark == "run"}), ids=lambda path: path.name
)
def test_quick_commands_run(path: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in BLOCKS:
        if block.path == path and block.mark == "run":
            for line, command in commands_of(block):
                code = main(shlex.split(command)[1:])
                assert code == 0, f"{path.name}:{line}: {command}: {capsys.readouterr().err}"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_marks_of_shell_blocks_are_known(block: Block) -> None:
    assert block.mark in ("", "run") or block.language == "text"


def problems_of(path: Path, reader: Reader) -> list[str]:
    """What is wrong with the commands of a document."""
    shown = [
        (line, command, False)
        for block in BLOCKS
        if block.path == path
        for line, command in commands_of(block)
    ]
    # Within running text a command may stand without its pictures and data; in tables it is one to copy.
    shown += [(line, command, not in_table) for line, command, in_table in inline_commands(path)]
    reader.trainings = trainings_of([command for _, command, _ in shown])
    return [
        f"{path.name}:{line}: {command}: {problem}"
        for line, command, is_mention in shown
        if (problem := reader.problem(command, is_mention=is_mention))
    ]


def trainings_of(commands: Sequence[str]) -> dict[str, list[list[str]]]:
    """The arguments with which a page trains into each folder."""
    found: dict[str, list[list[str]]] = {}
    for command in commands:
        folder = re.search(r"--out (\S+)", command)
        words = words_of(command)
        if command.startswith("imglish train ") and folder and words and words[1] in RECIPES:
            found.setdefault(folder[1].rstrip("/"), []).append(words[1:])
    return found


def words_of(command: str) -> list[str]:
    """The words after ``imglish``, stand-ins replaced."""
    words = shlex.split(re.sub(r"\s*…$|\s\.\.\.(\s.*)?$", "", command))[1:]
    return [STAND_INS.get(word, word) for word in words]


def is_overview(words: Sequence[str]) -> bool:
    """Whether a command only names what it takes, as in ``imglish shards SOURCE... --out DIR``."""
    return not words[1:] or "--help" in words or any(re.fullmatch(r"[A-Z]{3,}(\.\.\.)?", w) for w in words)


class Reader:
    """Has the real parsers read commands.

    Args:
        here: A folder to read in.
        monkeypatch: Stops what the parsers have understood from being done.
        capsys: Where the parsers write to.
        every: False parses one of several commands with the same options of like recipes.
    """

    _read: ClassVar[set[tuple[object, ...]]] = set()

    def __init__(
        self,
        here: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        *,
        every: bool = False,
    ) -> None:
        self.here, self.monkeypatch, self.capsys, self.every = here, monkeypatch, capsys, every
        self.trainings: dict[str, list[list[str]]] = {}

    def problem(self, command: str, *, is_mention: bool = False) -> str:
        """What is wrong with a command; empty where it is understood."""
        if " RECIPE" in command:  # any that has these settings
            meant = [command.replace(" RECIPE", f" {recipe}") for recipe in RECIPES_MEANT]
            problems = [self.problem(one, is_mention=is_mention) for one in meant]
            return "" if "" in problems else problems[0]
        words = words_of(command)
        if words and words[0] in ("--help", "--version"):
            return ""
        if words and words[0] not in COMMANDS:
            return f"there is no command {words[0]}"
        if not words or is_overview(words) or words[:2] == ["train", "world"]:
            return ""
        if unknown := unknown_weights(words):
            return f"there are no weights {unknown}"
        if words[0] in BY_RECIPE and not words[1].startswith("-"):
            return self._of_recipe(words, is_mention)
        return self._parsed(words, is_mention)

    def _of_recipe(self, words: list[str], is_mention: bool) -> str:
        """A command about a recipe, or about a run of one: of whichever the page has trained there."""
        name, given, *rest = words
        if "/" not in given and given not in RECIPES:
            return f"there is no recipe {given}"
        for option, value in pairwise(rest):
            if option == "--config":
                (self.here / value).write_text("train: {num_steps: 5}\n")
        if "--weights" in rest or (name != "evaluate" and given in RECIPES):
            options = tuple(sorted(word for word in rest if word.startswith("--")))
            key = (name, kinds_of(RECIPES[given]()), options)
            if key in self._read and not self.every:
                return ""
            self._read.add(key)
            return self._parsed([name, given, *rest], is_mention)
        folder = given.rstrip("/") if "/" in given else f"runs/{given}"
        last = Path(folder).name
        trainings = self.trainings.get(folder) or [[last if last in RECIPES else "vqa_demo"]]
        problems = []
        for training in trainings:
            settings = self.here / folder / "config.yaml"
            settings.parent.mkdir(parents=True, exist_ok=True)
            try:
                settings.write_text(to_yaml(configure(training[0], training[1:]).settings))
            except (SystemExit, ImglishError):
                continue  # told where the page trains
            problems.append(self._parsed([name, folder, *rest], is_mention))
        return "" if "" in problems else " or ".join(problems)

    def _parsed(self, words: list[str], is_mention: bool) -> str:
        with self.monkeypatch.context() as patch:
            patch.setattr(tyro, "cli", stopping(tyro.cli))
            try:
                COMMANDS[words[0]].run(words[1:])
            except Parsed:
                return ""
            except SystemExit as stop:
                told = self.capsys.readouterr().err
                if not stop.code or (is_mention and "Unrecognized" not in told):
                    return ""
                return " ".join(re.sub("[╭─╮│╰╯]", " ", told).split())[:200]
            except (ImglishError, UsageError) as error:
                return "" if is_mention else str(error)
        return ""  # it prints its usage


def stopping(parse: Callable[..., Any]) -> Callable[..., Any]:
    """The real parser, that does not let what it has understood be done."""

    def parse_and_stop(*args: Any, **options: Any) -> Any:
        parse(*args, **options)
        raise Parsed

    return parse_and_stop


def kinds_of(config: RunConfig) -> tuple[str, ...]:
    """The classes of a recipe's settings that differ most: like recipes have the same options."""
    parts = (
        config.task,
        config.data,
        *(getattr(config.task, name, None) for name in ("segmenter", "detector")),
    )
    return tuple(type(part).__name__ for part in parts)


def unknown_weights(words: Sequence[str]) -> str:
    """A name of weights that neither the manifest knows nor is a path or of another origin."""
    for option, value in pairwise(words):
        is_other = "/" in value or ":" in value or Path(value).suffix in (".pth", ".spm")
        if option in WEIGHTS and not is_other and value not in list_models():
            return value
    return ""


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("imglish trian vqa_demo", "there is no command trian"),
        ("imglish train vqa_demoo", "there is no recipe vqa_demoo"),
        ("imglish train vqa_demo --task.batch-sizee 3", "--task.batch-sizee"),
        ("imglish predict a.png --captain --run runs/demo", "--captain"),
        ("imglish evaluate vqav2_base --weights beit3_base_patch16_480_vqaa", "there are no weights"),
        ("imglish evaluate runs/mine --task.nothing 3", "--task.nothing"),
    ],
)
def test_wrong_commands_are_seen(
    command: str, told: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in Reader(here, monkeypatch, capsys, every=True).problem(command)


def test_a_mention_may_lack_its_data_but_has_no_wrong_option(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = Reader(here, monkeypatch, capsys)
    assert not reader.problem("imglish predict --caption", is_mention=True)
    assert reader.problem("imglish predict --caption")
    assert "--captain" in reader.problem("imglish predict --captain", is_mention=True)


def test_commands_of_several_lines_are_whole_and_remarks_are_none_of_them() -> None:
    code = "imglish train RECIPE --out a \\\n    --data.root b   # a remark\nimglish demo     nine minutes\n"
    block = Block(Path("a.md"), 1, "", "# no command\n" + code + "uv run imglish doctor\nls\n", "")
    assert commands_of(block) == [
        (2, "imglish train RECIPE --out a --data.root b"), (4, "imglish demo"), (5, "imglish doctor"),
    ]  # fmt: skip
