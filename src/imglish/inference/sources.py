"""Which weights answer: a name, a file, a run, or the fitting one of a folder of runs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from imglish.errors import CheckpointError
from imglish.hub.load import EMBEDDED, load_model
from imglish.hub.run import LoadedRun, load_run, read_task, used_kinds
from imglish.inference.computing import compile_blocks


class Use(NamedTuple):
    """Something to ask of a model.

    Args:
        kinds: Of `LoadedRun` that can do it.
        folder: Where a demo keeps its run.
        official: Released weights that can do it, by name; empty where none were released.
        reads_text: Whether it needs a text tokenizer.
    """

    kinds: tuple[str, ...]
    folder: str
    official: str
    reads_text: bool = True


CAPTIONS = Use(("captioning",), "captioning", "beit3_base_patch16_480_coco_captioning")
ANSWERS = Use(("vqa",), "vqa", "beit3_base_patch16_480_vqa")
DUAL = Use(("retrieval", "contrastive", "class_names"), "retrieval", "beit3_base_patch16_384_coco_retrieval")
PICTURE_VECTORS = DUAL._replace(reads_text=False)
STATEMENTS = Use(("nlvr2",), "nlvr2", "beit3_base_patch16_224_nlvr2")
CLASSES = Use(
    ("image_classification",), "image_classification", "beit3_base_patch16_224_in1k", reads_text=False
)
SEGMENTS = Use(("semantic_segmentation",), "segmentation", "", reads_text=False)
OBJECTS = Use(("detection",), "detection", "", reads_text=False)
PANOPTIC = Use(("panoptic",), "panoptic", "", reads_text=False)
# What a predictor can be asked, by the names that it tells.
ABILITIES = {
    "caption": CAPTIONS,
    "answer": ANSWERS,
    "classify": CLASSES,
    "classify_by_names": DUAL,
    "embed": DUAL,
    "judge": STATEMENTS,
    "segment": SEGMENTS,
    "detect": OBJECTS,
    "panoptic": PANOPTIC,
}


class Source:
    """Where loaded models come from.

    Args:
        source: An official name, a ``.pth`` or ``.safetensors`` file, a run folder, a folder of several runs,
            the id of a Hub repository, or what `load_model` returned.
        device: Where models are put; what is loaded already stays where it is.
        compiled: True compiles their blocks when they are first run.

    Raises:
        CheckpointError: There is no such thing, or the file is damaged.
    """

    def __init__(
        self, source: Path | str | LoadedRun, device: torch.device | str, *, compiled: bool = False
    ) -> None:
        self.device, self._compiled = torch.device(device), compiled
        self._loaded: dict[Path, LoadedRun] = {}
        self._single: LoadedRun | None = None
        self._folder: Path | None = None
        self.name = "the loaded run"
        if isinstance(source, LoadedRun):
            self._single = self._ready(source)
            self.device = next(source.model.parameters()).device
            return
        self.name = str(source)
        if not self.name:
            raise CheckpointError(
                "'': no weights are called so; expected a name of imglish.list_models(), a file or a folder"
            )
        if Path(source).is_dir() and source != EMBEDDED:
            self._folder = Path(source)
        else:
            self._single = self._ready(load_model(source, device=device))

    def offers(self, use: Use) -> bool:
        """Whether some of the weights can do it; those of a folder are not loaded for that."""
        if self._single is not None:
            return _fitting(self._single, use) is not None
        assert self._folder is not None
        return (not _is_run(self._folder) and _is_run(self._folder / use.folder)) or any(
            kind in use.kinds for kinds in self._kinds().values() for kind in kinds
        )

    def get(self, use: Use) -> LoadedRun:
        """The weights that can do it.

        Raises:
            CheckpointError: There are none, or several, or the text tokenizer is missing.
        """
        path = None if self._folder is None else self._choose(use, self._folder)
        run = self._single
        if path is not None:
            if path not in self._loaded:
                self._loaded[path] = self._ready(load_run(path, self.device))
            run = self._loaded[path]
        assert run is not None
        if (fitting := _fitting(run, use)) is not None:
            run = fitting
        else:
            what = "holds weights" if path is None else "is a run"
            kinds = " and ".join(part.kind for part in run.parts.values()) or run.kind
            raise CheckpointError(f"{self.name} {what} of {kinds}; this needs one of {_advice(use)}")
        if run.text is None and use.reads_text:
            raise CheckpointError(
                f"{self.name} came without a text tokenizer: put text.spm or beit3.spm beside the weights"
                if path is None
                else f"{path} has no text.spm, the text tokenizer it was trained with: put it back, or train "
                "the run anew"
            )
        return run

    def _ready(self, run: LoadedRun) -> LoadedRun:
        if self._compiled:
            compile_blocks(run.model)
        return run

    def _choose(self, use: Use, folder: Path) -> Path:
        """The run folder in a folder of several, by its name in a demo or else by its kind."""
        if _is_run(folder):
            return folder
        if (folder / use.folder).is_dir():
            return folder / use.folder
        runs = self._kinds()
        if not runs:
            return folder  # loading says what is wrong
        fitting = [path for path, kinds in runs.items() if set(kinds) & set(use.kinds)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise CheckpointError(
                f"{folder} holds several runs of {' or '.join(use.kinds)}: "
                f"{', '.join(path.name for path in fitting)}; give one of them"
            )
        raise CheckpointError(f"{folder} holds no run of that kind; this needs one of {_advice(use)}")

    def _kinds(self) -> dict[Path, tuple[str, ...]]:
        """Finished runs of the folder (itself, or those in it) with the kinds of what they can do."""
        assert self._folder is not None
        folders = [self._folder] if _is_run(self._folder) else sorted(self._folder.iterdir())
        return {path: used_kinds(read_task(path / "config.yaml")) for path in folders if _is_run(path)}


def _advice(use: Use) -> str:
    return f"{' or '.join(use.kinds)}, such as runs/demo/{use.folder}" + (
        f" or {use.official}" if use.official else ""
    )


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and (folder / "model.safetensors").is_file()


def _fitting(run: LoadedRun, use: Use) -> LoadedRun | None:
    """The run, or the part of a joint one, that can do it."""
    return next((one for one in (run, *run.parts.values()) if one.kind in use.kinds), None)
