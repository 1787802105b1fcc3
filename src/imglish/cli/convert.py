"""``imglish convert``: weights under other names, or as a folder with all that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class Convert:
    """Rename weights and write them as safetensors.

    They may be of BEiT-3, BEiT, BEiT v2, a VQ-KD tokenizer, a ViT (DeiT, AugReg, MAE, DINOv2, Uni-Perceiver)
    or an official segmenter of ViT-Adapter.

    What the file holds is seen in its names and shapes. Numbers stay as they are, but for position tables of
    another picture size.

    Args:
        source: An official name such as beit3_base_patch16_224, a .pth, .pth.tar, .zip, .npz or
            .safetensors file, or a Hugging Face Hub id, org/name or org/name@revision.
        target: The .safetensors file to write; of pretrained a folder that is not there, or empty.
        to: The names it gets: of the official code, of imglish, or of timm (BEiT-3's vision side only). Or
            pretrained, a folder with settings, text tokenizer, labels and card, which transformers reads too.
        image_size: Height and width of the pictures in pixels, to resample position tables for.
        part: Of a model with several heads, such as world, the one to write as pretrained, with an encoder of
            its own; all of them where none is named.
        num_heads: Attention heads, where the width of the model is that of no released one.
        licence: Of the weights, for the card of a folder, where it is not known.
        overwrite: Replace a file that is there.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
    to: Literal["official", "imglish", "timm-vision", "pretrained"]
    image_size: tuple[int, int] | None = None
    part: str = ""
    num_heads: int | None = None
    licence: str = ""
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.to != "pretrained" and self.target.suffix != ".safetensors":
            raise ValueError(f"target must end in .safetensors; got {self.target}")
        if self.part and self.to != "pretrained":
            raise ValueError("--part goes with --to pretrained; its model.safetensors can be renamed then")


def run(arguments: Sequence[str]) -> None:
    """Convert one file."""
    options = tyro.cli(Convert, args=arguments, prog="imglish convert")

    if options.to == "pretrained":
        _save(options)
        return

    from imglish.errors import CheckpointError
    from imglish.hub.convert import convert
    from imglish.hub.load import read_weights
    from imglish.hub.state_file import write_state

    if options.target.exists() and not options.overwrite:
        raise CheckpointError(f"{options.target}: is there already; add --overwrite to replace it")
    weights = read_weights(options.source, options.image_size, num_heads=options.num_heads)
    tensors = convert(weights, options.to)
    write_state(tensors, weights.hints(), options.target)
    millions = sum(tensor.numel() for tensor in tensors.values()) / 1e6
    print(f"{options.target}: {weights.kind}, {len(tensors)} tensors, {millions:.1f}M numbers")
    if weights.dropped:
        more = f" and {len(weights.dropped) - 3} more" if len(weights.dropped) > 3 else ""
        print(f"left out on purpose: {', '.join(weights.dropped[:3])}{more}")


def _save(options: Convert) -> None:
    """Write a folder."""
    from imglish.cli.weights import choose_part
    from imglish.hub.card import facts_of
    from imglish.hub.load import load_model
    from imglish.hub.pretrained import save_pretrained

    loaded = load_model(options.source, options.image_size, num_heads=options.num_heads)
    if options.part:
        loaded = choose_part(loaded, options.part, options.source)
    facts = facts_of(options.source)
    if options.licence:
        facts = replace(facts, licence=options.licence)
    folder = save_pretrained(loaded, options.target, facts=facts, overwrite=options.overwrite)
    files = ", ".join(sorted(path.name for path in folder.iterdir()))
    print(f"{folder}: {loaded.kind}, {files}")
