"""Putting a model on the Hugging Face Hub, by its own library and with its own login."""

from __future__ import annotations

import tempfile
from pathlib import Path

from imglish.errors import CheckpointError
from imglish.hub.card import CardFacts
from imglish.hub.huggingface import repository_of
from imglish.hub.pretrained import save_pretrained
from imglish.hub.run import LoadedRun


def push_to_hub(
    run: LoadedRun,
    repo_id: str,
    *,
    facts: CardFacts | None = None,
    private: bool = True,
    revision: str | None = None,
    message: str = "Upload a model of imglish",
) -> str:
    """Save a model, make its repository where there is none, and upload what `save_pretrained` writes.

    ``HF_ENDPOINT`` and the token (``HF_TOKEN``, or that of ``hf auth login``) are those of huggingface_hub.
    Files of other names that are in the repository stay.

    Args:
        run: As of `save_pretrained`.
        repo_id: ``org/name``.
        facts: As of `save_pretrained`.
        private: Whether a repository that is made anew is seen by its owners only; one that is there stays
            as it is.
        revision: The branch to write to; the default one where not given.
        message: Of the commit.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: As of `save_pretrained`, the id is none, or the Hub refuses or cannot be reached.
    """
    repository = repository_of(repo_id)
    if repository is None or repository.revision is not None:
        raise CheckpointError(
            f"{repo_id!r}: no id of a repository, or something of that name lies here; expected org/name"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = save_pretrained(run, Path(name) / "model", facts=facts)
        try:
            from huggingface_hub import HfApi

            api = HfApi(library_name="imglish")
            api.create_repo(repo_id, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=message
            )
        except Exception as error:  # which HTTP library is below, and so what it raises, differs
            raise CheckpointError(f"{repo_id}: {_reason(error)}") from error
    return str(done.commit_url)


def _reason(error: Exception) -> str:
    """What is wrong, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    match status:
        case 401:
            return "the Hugging Face Hub does not know you; log in (hf auth login, or HF_TOKEN)"
        case 403:
            return "you may not write there; take a token that may, or another name"
        case 404:
            return "no such repository or branch, or no right to write there; check the name and your token"
        case None:
            first = (str(error).splitlines() or [""])[0].strip().rstrip(".")[:160] or type(error).__name__
            return f"not uploaded ({first}); check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
        case _:
            return f"not uploaded (the Hugging Face Hub answered HTTP {status}); try again later"
