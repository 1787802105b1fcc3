"""A text corpus: a UTF-8 file with one document a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imglish.errors import DataFormatError


def read_text_corpus(path: Path) -> Iterator[str]:
    """Iterate over the documents, without the blanks around them; empty lines are passed over.

    Raises:
        DataFormatError: The file is missing, not UTF-8 or empty.
    """
    found = False
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if document := line.strip():
                    found = True
                    yield document
    except UnicodeDecodeError as error:
        raise DataFormatError(
            f"{path}: not UTF-8 text ({error.reason}); expected one document a line: convert it to UTF-8"
        ) from None
    except OSError as error:
        raise DataFormatError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    if not found:
        raise DataFormatError(f"{path}: is empty; expected one document a line: get the file again")
