"""Models in repositories of the Hugging Face Hub, fetched by its own library into its own cache.

That library reads ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_OFFLINE`` and the token of who is logged in. It is
imported only where something is fetched.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from imglish.errors import CheckpointError

# What use needs of a run folder, and what may lie beside bare weights; never a pickle.
_WEIGHTS = "model.safetensors"
_TEXTS = (
    "config.yaml",
    "*/answers.txt",  # of the parts of a joint run
    "*/classes.txt",
    "*/things.txt",
    "text.spm",
    "beit3.spm",
    "answers.txt",
    "answer2label.txt",
    "classes.txt",
    "things.txt",
    "README.md",
)
_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
# So end paths that are mistyped, and no names of repositories.
_FILES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".spm", ".yaml", ".npz", ".tar")

_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)

_NOBODY = 401  # for whoever is not logged in the Hub says so of private repositories and of none
_LOG_IN = "log in (hf auth login, or HF_TOKEN)"


class Repository(NamedTuple):
    """A model's repository: ``org/name``, and the branch, tag or commit asked for (None: the default)."""

    id: str
    revision: str | None

    def __str__(self) -> str:
        return self.id if self.revision is None else f"{self.id}@{self.revision}"


def repository_of(name: str | Path) -> Repository | None:
    """The repository that ``org/name`` or ``org/name@revision`` means.

    None where it has another form, ends as a file of weights does, or something of that name lies here, which
    is meant first. A `Path` is never one.
    """
    match = _ID.fullmatch(name) if isinstance(name, str) else None
    if match is None or match[1].startswith(".") or match[1].endswith(_FILES) or os.path.exists(match[0]):
        return None
    return Repository(match[1], match[2])


def fetch_repository(repository: Repository) -> Path:
    """The weights of a repository in the cache, downloaded where they are not there.

    Fetched are ``model.safetensors``, or else the only ``.safetensors`` file at the top, and what a run
    folder holds beside it for use: it then lies in the same folder.

    Args:
        repository: As of `repository_of`.

    Returns:
        The ``.safetensors`` file.

    Raises:
        CheckpointError: There is no such repository or revision, it is gated, cannot be reached, or holds no
            weights in that form.
    """
    with _one_line(repository):
        from huggingface_hub import HfApi, snapshot_download

        folder = Path(
            snapshot_download(repository.id, revision=repository.revision, allow_patterns=[_WEIGHTS, *_TEXTS])
        )
        if (folder / _WEIGHTS).is_file():
            return folder / _WEIGHTS
        here = list(folder.glob("*.safetensors"))
        if len(here) == 1:
            return here[0]
        commit = folder.name  # the same state as before, also if the branch has moved on
        names = [name for name in HfApi().list_repo_files(repository.id, revision=commit) if "/" not in name]
        weights = [name for name in names if name.endswith(".safetensors")]
        if len(weights) != 1:
            found = f"{len(weights)} of them" if weights else ", ".join(sorted(names)[:4]) or "nothing"
            raise CheckpointError(
                f"{repository}: a repository without usable weights; expected {_WEIGHTS}, or a single "
                f".safetensors file, found {found}; convert its weights with imglish convert"
            )
        snapshot_download(repository.id, revision=commit, allow_patterns=[glob.escape(weights[0])])
        return folder / weights[0]


@contextlib.contextmanager
def _one_line(repository: Repository) -> Iterator[None]:
    """Turn errors of the library, of the HTTP library below it and of the disk into one line each."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # which HTTP library is below, and so what it raises, depends on the version
        raise CheckpointError(f"{repository}: {_problem(repository, error)}") from error


def _problem(repository: Repository, error: BaseException) -> str:
    """What is wrong, and what to do."""
    from huggingface_hub import errors

    private = isinstance(error, errors.RepositoryNotFoundError) or _status(error) == _NOBODY
    match error:
        case errors.LocalEntryNotFoundError(__cause__=BaseException() as cause):  # not in the cache either
            return _problem(repository, cause)
        case errors.GatedRepoError():  # of RepositoryNotFoundError a kind
            return f"a gated repository of the Hugging Face Hub; ask for access on its page, then {_LOG_IN}"
        case errors.RevisionNotFoundError():
            return f"has no revision {repository.revision or 'main'}; give a branch, tag or commit of it"
        case _ if private:
            why = (
                f"no such repository on the Hugging Face Hub, or a private one; check the name, or {_LOG_IN}"
            )
        case errors.HFValidationError():
            why = "no name that the Hugging Face Hub allows; check the name"
        case OSError(errno=number) if number in _NO_PLACE:
            return f"cannot be kept ({error.strerror}); make room, or set HF_HOME to another folder"
        case _:
            why = (
                f"not to be had from the Hugging Face Hub ({_reason(error)}); check the network, HF_ENDPOINT "
                "and HF_HUB_OFFLINE"
            )
    return f"no such file or folder here, and {why}"


def _reason(error: BaseException) -> str:
    """Why the Hub was of no use, in a few words."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return "offline mode is set, and it is not in the cache"
    if (status := _status(error)) is not None:
        return f"it answered HTTP {status}"
    lines = str(error).splitlines() or [""]
    return lines[0].strip().rstrip(".")[:120] or type(error).__name__


def _status(error: BaseException) -> int | None:
    """What the Hub answered, where it did."""
    from huggingface_hub import errors

    return error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
