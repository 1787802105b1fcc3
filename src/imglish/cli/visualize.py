"""``imglish visualize``: pictures of what a model sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from imglish.cli.usage import UsageError, did_you_mean

_KINDS = {
    "attention": "where the class token looks, by block and head, and through all blocks",
    "words": "which patches each word of a question or caption looks at",
    "codebook": "patches that share a visual token, and how much each token is used",
    "features": "the maps of a ViT and of its adapter side by side, in colours",
}
_DRAWN = {"codebook": 200}  # scenes of the World where no picture is given; else
_FEW = 2
Pictures = tyro.conf.Positional[tuple[Path, ...]]


class _Shown(NamedTuple):
    """A picture to look at: its name, a file or pixels uint8 (H, W, 3), and what may be said of it."""

    name: str
    picture: Path | NDArray[np.uint8]
    caption: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Draw where the class token looks in pictures: each block's mean over heads, and the rollout.

    Args:
        pictures: Picture files; two drawn ones of the World where none is given.
        weights: world_encoder or world (in the package), an official name, a run folder, a file, or a Hugging
            Face Hub id.
        query: What looks: class for the class token, mean for all patches, or a patch as ROW,COLUMN. The
            class token where there is one if not given.
        heads: Draw a line of all heads for each block, too.
        image_size: Side in pixels at which the model is shown pictures, where that can change; 0: its own.
        arrays: Write the numbers beside each picture as .npz, too.
        out: Folder to write to.
    """

    pictures: Pictures = ()
    weights: str = "world_encoder"
    query: str = ""
    heads: bool = False
    image_size: int = 0
    arrays: bool = False
    out: Path = Path("visualized")

    def __post_init__(self) -> None:
        _check(self.pictures, self.out, self.image_size)
        self.asked()

    def asked(self) -> Literal["class", "mean"] | tuple[int, int] | None:
        """The query as `attention_maps` takes it."""
        if self.query == "class":
            return "class"
        if self.query == "mean":
            return "mean"
        numbers = self.query.split(",")
        if len(numbers) == 2 and all(number.strip().isdecimal() for number in numbers):
            return int(numbers[0]), int(numbers[1])
        if self.query:
            raise ValueError(f"query is {self.query!r}; expected class, mean, or a patch such as 3,5")
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """Draw which patches each word looks at, the mean over blocks and heads.

    Args:
        pictures: Picture files; two drawn ones of the World, with captions, where none is given.
        text: A question, statement or caption. A captioner says its own where none is given.
        weights: world_encoder or world (in the package), an official name, a run folder, a file, or a Hugging
            Face Hub id: of a BEiT-3 that fuses pictures and texts.
        image_size: Side in pixels at which the model is shown pictures, where that can change; 0: its own.
        arrays: Write the numbers beside each picture as .npz, too.
        out: Folder to write to.
    """

    pictures: Pictures = ()
    text: str = ""
    weights: str = "world_encoder"
    image_size: int = 0
    arrays: bool = False
    out: Path = Path("visualized")

    def __post_init__(self) -> None:
        _check(self.pictures, self.out, self.image_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Codebook:
    """Draw patches that share a visual token, and how much each token is used.

    Args:
        pictures: Picture files, the more the better; 200 drawn ones of the World where none is given.
        tokenizer: A visual tokenizer: world (in the package), an official name, a run folder or a file.
        num_tokens: How many tokens to show, from the most used one to the least.
        num_patches: How many patches of each.
        surroundings: How much of the picture around each patch, in sides of a patch.
        arrays: Write the numbers as .npz, too.
        out: Folder to write to.
    """

    pictures: Pictures = ()
    tokenizer: str = "world"
    num_tokens: int = 16
    num_patches: int = 10
    surroundings: float = 0.5
    arrays: bool = False
    out: Path = Path("visualized")

    def __post_init__(self) -> None:
        _check(self.pictures, self.out, 0)
        if min(self.num_tokens, self.num_patches) < 1 or not 0 <= self.surroundings <= 16:
            raise ValueError(
                "num_tokens and num_patches must be at least 1 and surroundings lie in [0, 16]; got "
                f"{self.num_tokens}, {self.num_patches} and {self.surroundings}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Draw a ViT's map, and those of its adapter where there is one, their principal components as colours.

    Args:
        pictures: Picture files; two drawn ones of the World where none is given.
        weights: A segmenter or detector for ViT and adapter side by side: a run folder, an official name, a
            file, a Hugging Face Hub id, or world (in the package).
        arrays: Write the maps beside each picture as .npz, too.
        out: Folder to write to.
    """

    pictures: Pictures = ()
    weights: str = "world"
    arrays: bool = False
    out: Path = Path("visualized")

    def __post_init__(self) -> None:
        _check(self.pictures, self.out, 0)


def run(arguments: Sequence[str]) -> None:
    """Draw one of the kinds."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {kind:9}  {summary}" for kind, summary in _KINDS.items())
        print(f"usage: imglish visualize KIND [--help] [PICTURES] [OPTIONS]\n\n{lines}")
        return
    kind, *rest = arguments
    prog = f"imglish visualize {kind}"
    match kind:
        case "attention":
            _attention(tyro.cli(Attention, args=rest, prog=prog))
        case "words":
            _words(tyro.cli(Words, args=rest, prog=prog))
        case "codebook":
            _codebook(tyro.cli(Codebook, args=rest, prog=prog))
        case "features":
            _features(tyro.cli(Features, args=rest, prog=prog))
        case _:
            raise UsageError(f"there is nothing called {kind!r} to visualize{did_you_mean(kind, _KINDS)}")


def _attention(options: Attention) -> None:
    from imglish.hub.load import load_model
    from imglish.inference.visualize_attention import attention_maps

    loaded = load_model(options.weights, options.image_size or None, _device())
    for one in _shown("attention", options.pictures):
        found = attention_maps(loaded, one.picture, query=options.asked())
        _save(found.draw(heads=options.heads), options.out, f"{one.name}_attention")
        if options.arrays:
            _save_arrays(
                {"weights": found.weights, "rollout": found.rollout}, options.out, f"{one.name}_attention"
            )


def _words(options: Words) -> None:
    from imglish.hub.load import load_model
    from imglish.inference.predictor import Predictor
    from imglish.inference.visualize_attention import word_attention

    loaded = load_model(options.weights, options.image_size or None, _device())
    for one in _shown("words", options.pictures):
        text = options.text or one.caption
        if not text:
            predictor = Predictor(loaded)
            if "caption" not in predictor.abilities():
                raise UsageError("say what the words are: --text TEXT (only a captioner finds its own)")
            text = predictor.caption(one.picture)
        found = word_attention(loaded, one.picture, text)
        _save(found.draw(), options.out, f"{one.name}_words")
        if options.arrays:
            words = np.array(found.words)
            arrays: dict[str, NDArray[Any]] = {
                "words": words,
                "weights": found.weights,
                "rollout": found.rollout,
            }
            _save_arrays(arrays, options.out, f"{one.name}_words")


def _codebook(options: Codebook) -> None:
    from imglish.inference.visualize_codebook import codebook_gallery
    from imglish.recipes.assembly.pretraining import load_visual_tokenizer

    tokenizer = load_visual_tokenizer(options.tokenizer).to(_device())
    found = codebook_gallery(
        tokenizer,
        [one.picture for one in _shown("codebook", options.pictures)],
        num_tokens=options.num_tokens,
        num_patches=options.num_patches,
        surroundings=options.surroundings,
    )
    print(f"{found.num_used} of {len(found.usage)} tokens in use, perplexity {found.perplexity:.1f}")
    _save(found.draw(), options.out, "codebook")
    if options.arrays:
        arrays: dict[str, NDArray[Any]] = {
            "tokens": found.tokens,
            "patches": found.patches,
            "found": found.found,
            "usage": found.usage,
        }
        _save_arrays(arrays, options.out, "codebook")


def _features(options: Features) -> None:
    from imglish.hub.load import load_model
    from imglish.inference.visualize_features import feature_maps

    loaded = load_model(options.weights, device=_device())
    for one in _shown("features", options.pictures):
        found = feature_maps(loaded, one.picture)
        _save(found.draw(), options.out, f"{one.name}_features")
        if options.arrays:
            _save_arrays(found.maps, options.out, f"{one.name}_features")


def _check(pictures: Sequence[Path], out: Path, image_size: int) -> None:
    if len({picture.stem for picture in pictures}) < len(pictures):
        raise ValueError("two pictures have the same name; visualize them one by one to different folders")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; --out expects a folder")
    if image_size < 0:
        raise ValueError(f"image_size must be at least 0; got {image_size}")


def _shown(kind: str, pictures: Sequence[Path]) -> Iterator[_Shown]:
    """The pictures that were given, or drawn ones."""
    if pictures:
        yield from (_Shown(path.stem, path, "") for path in pictures)
        return

    from imglish.data.world.language import captions
    from imglish.data.world.render import render
    from imglish.data.world.scene import WorldConfig, draw_scene

    for number in range(_DRAWN.get(kind, _FEW)):
        scene = draw_scene(WorldConfig(), "validation", number)
        yield _Shown(f"world_{number}", render(scene), captions(scene)[0])


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _save(image: Image.Image, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / f"{name}.png")
    print(folder / f"{name}.png")


def _save_arrays(arrays: Mapping[str, NDArray[Any]], folder: Path, name: str) -> None:
    """Write arrays by name; spaces and commas in names become underscores."""
    named = {key.replace(", ", "_").replace(" ", "_"): value for key, value in arrays.items()}
    np.savez_compressed(folder / f"{name}.npz", **named)  # type: ignore[arg-type]  # NumPy's own options stand before
    print(folder / f"{name}.npz")
