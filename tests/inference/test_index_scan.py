"""What is found in a folder, and files that give no picture whatever they are called."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from imglish.inference.index_scan import (
    MAX_BYTES,
    Read,
    Scan,
    Skipped,
    Unusable,
    read_file,
    scan_folder,
    shown_path,
)
from tests.inference.index_folders import write_pictures

MAX_PIXELS = 10_000


def test_files_come_sorted_by_their_paths(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 10)
    found = [file.path for file in scan_folder(folder).files]
    assert len(found) == 10 and found == sorted(found)


def test_what_lies_in_an_unread_folder_is_not_what_lies_beside_it() -> None:
    scan = Scan((), (Skipped("below", "cannot be listed"), Skipped("a.png", "cannot be looked at")), 0)
    assert all(map(scan.may_hold, ("below", "below/x.png", "below/deep/x.png", "a.png")))
    assert not any(map(scan.may_hold, ("below2/x.png", "below.png", "a.png2", "x.png", "above/below")))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no room on the disk
    found = read_file(tmp_path, "huge.png", set(), MAX_PIXELS)
    assert isinstance(found, Unusable) and found.is_gone
    assert found.reason == "has 1,073,741,825 bytes; at most 1,073,741,824 are read"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux has such files")
def test_a_file_that_grew_while_it_was_read_may_be_a_picture_next_time() -> None:
    """Files of /proc have no size before they are read."""
    found = read_file(Path("/proc/self"), "status", set(), MAX_PIXELS)
    assert found == Unusable("status", "was written to while it was read", is_gone=False)


def test_what_becomes_a_pipe_after_it_was_found_does_not_make_us_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    found: list[Read | Unusable] = []
    reading = threading.Thread(
        target=lambda: found.append(read_file(tmp_path, "pipe.png", set(), MAX_PIXELS)), daemon=True
    )
    reading.start()
    reading.join(30)
    assert found == [Unusable("pipe.png", "has vanished meanwhile", is_gone=True)]


def test_shown_paths_keep_letters_and_lose_what_commands_a_terminal() -> None:
    assert shown_path("日本/naïve 1.png") == "日本/naïve 1.png"
    assert shown_path("a\x1b[2J\n\u202e.png") == "a\\x1b[2J\\n\\u202e.png"
