"""A folder's pictures, searchable by words, by a picture or by a vector.

    predictor = Predictor("runs/demo")
    index = SearchIndex.create(default_path(folder), folder, model_identity(predictor))
    index.update(predictor)
    index.search_text(predictor, "two red fish above the sand", 5)

The file is that of `imglish.inference.index_store`; what is searched lies in memory.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from imglish.errors import CheckpointError, ConfigError, DataFormatError
from imglish.inference.batches import positive
from imglish.inference.index_identity import ModelIdentity, model_identity
from imglish.inference.index_scan import check_folder, file_in
from imglish.inference.index_store import DEFAULT_NAME, About, IndexStore, Loaded, remove_index
from imglish.inference.index_update import Progress, Updated, no_progress, update_store
from imglish.inference.index_vectors import Engine, Vectors, hold, near_groups, similarities
from imglish.inference.pictures import MAX_PIXELS, Picture
from imglish.inference.predictor import Predictor


class Found(NamedTuple):
    """A picture by its path below the folder, with "/", and its cosine similarity in [-1, 1]."""

    path: str
    similarity: float


class SearchIndex:
    """The pictures of a folder with their vectors, as they were when the index was last updated.

    Made by `create` or `open`. Searching needs no file and may be done by several threads at once; it sees
    what was there when the index was opened or last updated through this object.
    """

    def __init__(self, path: Path, about: About, loaded: Loaded, engine: Engine) -> None:
        self.path = path
        self.folder = _absolute_folder(path, about.folder)
        self.model = ModelIdentity(about.model, about.weights, about.width)
        self._engine = engine
        self._fitting: WeakSet[Predictor] = WeakSet()  # predictors of this index's weights
        self._hold(loaded)

    @classmethod
    def create(
        cls,
        path: Path,
        folder: Path,
        model: ModelIdentity,
        *,
        rebuild: bool = False,
        engine: Engine = "auto",
    ) -> SearchIndex:
        """Open the index of a folder, or make an empty one where there is none.

        Args:
            path: The file.
            folder: The pictures. A file that lies in it may be moved together with it.
            model: Whose vectors it holds.
            rebuild: True deletes what is there, also if it is damaged or of another model.
            engine: As of `open`.

        Raises:
            CheckpointError: It is there and holds vectors of other weights.
            DataFormatError: It is there and of another folder, or damaged, or of another kind; or it cannot
                be written.
            ConfigError: There is no such engine.
        """
        check_folder(folder)
        if not path.parent.is_dir():
            raise DataFormatError(f"{path.parent}: no such folder; expected a place for the index: make it")
        if rebuild:
            remove_index(path)
        about = About(_stored_folder(path, folder), model.name, model.weights, model.width)
        with IndexStore(path, about) as store:
            _check_model(path, store.about, model)
            stored = _absolute_folder(path, store.about.folder)
            if os.path.realpath(stored) != os.path.realpath(folder):
                raise DataFormatError(
                    f"{path}: is the index of {stored}, not of {folder}; give another file with --out, or "
                    "make it anew with --rebuild"
                )
            return cls(path, store.about, store.load(), engine)

    @classmethod
    def open(
        cls, path: Path, model_identity: ModelIdentity | None = None, *, engine: Engine = "auto"
    ) -> SearchIndex:
        """Open an index for searching.

        Args:
            path: The file.
            model_identity: Weights that it must be of; None takes any.
            engine: ``exact`` multiplies with all vectors as float32, ``faiss`` (extra ``[search]``) with all
                as float16, which takes half the memory, ``auto`` takes faiss from a million different
                pictures on where it is installed. All find the same.

        Raises:
            CheckpointError: It holds vectors of other weights.
            DataFormatError: There is none, it is damaged, of another kind or of a newer layout, or it cannot
                be read.
            ConfigError: faiss is asked for and not installed, or there is no such engine.
        """
        with IndexStore(path) as store:
            if model_identity is not None:
                _check_model(path, store.about, model_identity)
            return cls(path, store.about, store.load(), engine)

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._paths)

    def __contains__(self, path: str) -> bool:
        """Whether a path below the folder is that of an indexed picture."""
        return path in self._numbers

    @property
    def paths(self) -> tuple[str, ...]:
        """The pictures' paths below the folder, sorted."""
        return self._paths

    def file(self, path: str) -> Path:
        """The file of an indexed picture.

        Raises:
            DataFormatError: It is not indexed, not there any more, or a link leads out of the folder.
        """
        found = file_in(self.folder, path) if path in self else None
        if found is None:
            what = "is not there any more" if path in self else "is not in the index"
            raise DataFormatError(f"{path}: {what}; expected a picture of {self.folder}: update the index")
        return found

    def update(
        self,
        predictor: Predictor,
        *,
        batch_size: int = 32,
        workers: int = 4,
        max_pixels: int = MAX_PIXELS,
        progress: Progress = no_progress,
    ) -> Updated:
        """Bring the index up to date with its folder.

        Files of another size or time of change than stored are read; those whose content is new are decoded
        and encoded; pictures that are gone are forgotten. Each batch is stored at once: whoever is
        interrupted, however hard, goes on with what is left. Pictures that cannot be used are skipped.

        Args:
            predictor: With the weights of this index.
            batch_size: Pictures encoded and stored together.
            workers: Threads that read and decode; up to twice as many decoded pictures wait in memory.
            max_pixels: Larger pictures are skipped.
            progress: Called with how many files of how many were dealt with.

        Raises:
            CheckpointError: The predictor has other weights.
            ConfigError: A number is not positive.
            DataFormatError: The folder cannot be read, or is empty while the index is not; or the file is
                damaged or cannot be written.
        """
        self._check(predictor)
        positive("workers", workers)
        positive("batch_size", batch_size)
        positive("max_pixels", max_pixels)
        with IndexStore(self.path) as store:
            try:
                return update_store(
                    store,
                    self.folder,
                    predictor,
                    batch_size=batch_size,
                    workers=workers,
                    max_pixels=max_pixels,
                    progress=progress,
                )
            finally:
                self._hold(store.load())

    def search_vector(self, vector: NDArray[np.float32], k: int = 5) -> list[Found]:
        """The pictures whose vectors point most nearly where a vector (C,) points, best first.

        Exact: as the cosine with every picture would order them. Equal cosines are ordered by path.

        Raises:
            ConfigError: The vector has another shape, is zero or not finite, or k is not positive.
        """
        positive("k", k)
        query = np.asarray(vector, dtype=np.float32)
        length = float(np.linalg.norm(query))
        if query.shape != (self.model.width,) or not np.isfinite(length) or length == 0:
            raise ConfigError(
                f"the vector has shape {query.shape} and length {length:g}; expected ({self.model.width},) "
                "and a positive length"
            )
        paths, contents, vectors = self._held
        if not paths:
            return []
        query = query / np.float32(length)
        # As many contents as pictures are wanted give at least as many pictures.
        near = vectors.near(query, min(k, len(vectors)))
        cosines = np.full(len(vectors), -np.inf)
        cosines[near] = similarities(vectors, near, query)
        by_picture = cosines[contents]
        best = _largest(by_picture, min(k, len(paths)))
        return [Found(paths[number], float(by_picture[number])) for number in best]

    def search_text(self, predictor: Predictor, text: str, k: int = 5) -> list[Found]:
        """The pictures that a text describes best, best first.

        Raises:
            CheckpointError: The predictor has other weights, or no text tokenizer.
            ConfigError: The text is none, or k is not positive.
        """
        self._check(predictor)
        if not isinstance(text, str):
            raise ConfigError(f"text is of type {type(text).__name__}; expected one text")
        return self.search_vector(predictor.embed_texts(text), k)

    def search_picture(self, predictor: Predictor, picture: Picture, k: int = 5) -> list[Found]:
        """The pictures most like a picture, best first; the picture itself among them if it is indexed.

        Raises:
            CheckpointError: The predictor has other weights.
            DataFormatError: The picture cannot be used.
            ConfigError: k is not positive.
        """
        self._check(predictor)
        vector = predictor.embed_images([picture])[0]
        return self.search_vector(vector, k)

    def duplicates(self) -> list[list[str]]:
        """Groups of pictures that are equal byte by byte, each sorted by path, ordered by their first."""
        paths, contents, _ = self._held
        groups: dict[int, list[str]] = defaultdict(list)
        for path, content in zip(paths, contents.tolist(), strict=True):
            groups[content].append(path)
        return [group for group in groups.values() if len(group) > 1]

    def near_duplicates(self, threshold: float = 0.98) -> list[list[Found]]:
        """Groups of different pictures that are very like each other.

        Of pictures that are equal byte by byte the first by path stands for all. Pictures are gone through by
        path: one that is in no group yet leads a group of all later ones that are very like it.

        Args:
            threshold: The least cosine with the first of a group, in (0, 1].

        Returns:
            Groups sorted by path, ordered by their first, with the cosines to that first.

        Raises:
            ConfigError: The threshold is out of range.
        """
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise ConfigError(f"threshold must lie in (0, 1]; got {threshold!r}")
        paths, contents, vectors = self._held
        first = np.unique(contents, return_index=True)[1]  # the first picture of each content
        groups = []
        for group in near_groups(vectors, np.argsort(first), float(threshold)):
            members = np.array(group)
            cosines = similarities(vectors, members, vectors.rows(members[:1])[0])
            shown = zip(first[members].tolist(), cosines.tolist(), strict=True)
            groups.append([Found(paths[number], cosine) for number, cosine in shown])
        return groups

    def _hold(self, loaded: Loaded) -> None:
        vectors: Vectors = hold(loaded.vectors, self._engine)
        # One assignment: a search that runs meanwhile sees the old or the new, never both.
        self._held = (loaded.paths, loaded.contents, vectors)
        self._paths, self._numbers = loaded.paths, frozenset(loaded.paths)

    def _check(self, predictor: Predictor) -> None:
        """Raise CheckpointError for a predictor of other weights; those of a predictor are looked at once."""
        if predictor not in self._fitting:
            _check_model(self.path, self.model, model_identity(predictor))
            self._fitting.add(predictor)


def default_path(folder: Path) -> Path:
    """Where the index of a folder lies unless somebody says otherwise."""
    return folder / DEFAULT_NAME


def _check_model(path: Path, about: About | ModelIdentity, model: ModelIdentity) -> None:
    if about.weights == model.weights and about.width == model.width:
        return
    name = about.model if isinstance(about, About) else about.name
    raise CheckpointError(
        f"{path}: holds vectors of {name} (weights {about.weights[:12]}), not of {model.name} (weights "
        f"{model.weights[:12]}), and models do not mix; give those weights, or make the index anew with "
        "imglish index FOLDER --rebuild"
    )


def _stored_folder(path: Path, folder: Path) -> str:
    """The folder as the index has it: relative where the index lies in it, so that both can be moved."""
    real, home = os.path.realpath(folder), os.path.realpath(path.parent)
    if os.path.commonpath([real, home]) == real:
        return Path(os.path.relpath(real, home)).as_posix()
    return real


def _absolute_folder(path: Path, stored: str) -> Path:
    return Path(os.path.normpath(path.parent.absolute() / stored))


def _largest(values: NDArray[np.float64], k: int) -> list[int]:
    """Numbers of the k largest values, largest first, equal ones in order."""
    least = np.partition(values, len(values) - k)[len(values) - k]
    chosen = np.flatnonzero(values >= least)
    order = np.argsort(-values[chosen], kind="stable")
    numbers: list[int] = chosen[order][:k].tolist()
    return numbers
