"""Downloads from a server on this machine: whole, resumed, checked, and refused in one line."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imglish.errors import CheckpointError
from imglish.hub import download
from imglish.hub.download import cache_folder, cached_path, fetch
from imglish.hub.official_file import OfficialFile
from tests.hub.server import Site, serve


@pytest.fixture
def site(cache: Path) -> Iterator[Site]:
    with serve(Site()) as running:
        yield running


def refusal(file: OfficialFile) -> str:
    """The one line that a download ends with."""
    with pytest.raises(CheckpointError) as caught:
        fetch(file)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_arrives_whole_with_its_receipt_and_nothing_else(site: Site, cache: Path) -> None:
    path = fetch(site.file())
    assert path == cache / "a_model.pth" and path.read_bytes() == site.content
    receipt = json.loads((cache / "a_model.pth.json").read_text())
    assert receipt == {
        "url": site.file().url,
        "size": len(site.content),
        "sha256": hashlib.sha256(site.content).hexdigest(),
    }
    left = {file.name for file in cache.iterdir() if not file.name.endswith(".lock")}
    assert left == {"a_model.pth", "a_model.pth.json"}


def test_what_is_cached_needs_no_network(cache: Path) -> None:
    with serve(Site()) as site:
        file = site.file()
        fetch(file)
    assert fetch(file).read_bytes() == site.content
    assert site.asked == [""]


def test_a_broken_download_goes_on_where_it_broke(site: Site, cache: Path) -> None:
    site.breaks_after = 300_000
    message = refusal(site.file())
    assert f"broke off after 300000 of {len(site.content)} bytes; the same command goes on" in message
    assert not cached_path(site.file()).exists()
    assert fetch(site.file()).read_bytes() == site.content
    assert site.asked == ["", "bytes=300000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_another_version_is_thrown_away(site: Site, ranges: bool) -> None:
    site.breaks_after = 300_000
    refusal(site.file())
    site.content, site.tag, site.ranges = site.content[::-1], '"two"', ranges
    assert fetch(site.file()).read_bytes() == site.content


def test_a_server_without_ranges_sends_all_again(site: Site) -> None:
    site.breaks_after, site.ranges = 300_000, False
    refusal(site.file())
    assert fetch(site.file()).read_bytes() == site.content


@pytest.mark.parametrize("tag", ["", 'W/"one"'])
def test_without_a_certain_version_nothing_is_resumed(site: Site, tag: str) -> None:
    site.breaks_after, site.tag = 300_000, tag
    refusal(site.file())
    assert fetch(site.file()).read_bytes() == site.content
    assert site.asked == ["", ""]


def test_a_part_longer_than_the_file_starts_anew(site: Site, cache: Path) -> None:
    cache.mkdir()
    (cache / "a_model.pth.part").write_bytes(b"x" * (len(site.content) + 1))
    (cache / "a_model.pth.part.tag").write_text(site.tag)
    assert fetch(site.file()).read_bytes() == site.content
    assert site.asked == [f"bytes={len(site.content) + 1}-", ""]


def test_a_part_that_was_not_the_beginning_is_found_out_by_the_published_digest(
    site: Site, cache: Path
) -> None:
    cache.mkdir()
    (cache / "a_model.pth.part").write_bytes(b"x" * 1000)
    (cache / "a_model.pth.part.tag").write_text(site.tag)
    file = site.file(sha256=hashlib.sha256(site.content).hexdigest())
    assert "was published with" in refusal(file)
    assert fetch(file).read_bytes() == site.content


@pytest.mark.parametrize(
    ("status", "words"), [(404, "no longer there (HTTP 404)"), (503, "refused by the server (HTTP 503)")]
)
def test_a_refusal_names_address_reason_and_place(site: Site, status: int, words: str) -> None:
    site.status = status
    message = refusal(site.file())
    assert message.startswith(f"{site.address}/a_model.pth: {words}")
    assert f"put the file at {cached_path(site.file())}" in message


def test_no_network_is_one_line(cache: Path) -> None:
    with serve(Site()) as site:
        file = site.file()
    assert "cannot be reached (" in refusal(file)


def test_a_web_page_is_not_taken_for_the_file(site: Site, cache: Path) -> None:
    site.content_type = "text/html; charset=utf-8"
    assert "the server sent a web page, not the file" in refusal(site.file())
    assert not list(cache.glob("a_model.pth*"))


def test_another_size_than_published_is_refused_before_it_is_fetched(site: Site, cache: Path) -> None:
    assert f"the server offers {len(site.content)} bytes" in refusal(site.file(size=7))
    assert not list(cache.glob("a_model.pth*"))


def test_another_digest_than_published_is_refused_and_not_kept(site: Site, cache: Path) -> None:
    assert "was published with 000000000000" in refusal(site.file(sha256="0" * 64))
    assert not list(cache.glob("a_model.pth*"))


def test_a_file_that_changed_in_the_cache_is_found_out(site: Site) -> None:
    path = fetch(site.file())
    path.write_bytes(site.content[:-1] + b"x")
    assert f"{path}: damaged since its download" in refusal(site.file())
    path.unlink()
    assert fetch(site.file()).read_bytes() == site.content


def test_a_file_that_changed_on_the_server_is_found_out(site: Site) -> None:
    path = fetch(site.file())
    path.unlink()
    site.content, site.tag = site.content[::-1], '"two"'
    assert "no longer the file that was downloaded before" in refusal(site.file())
    path.with_name("a_model.pth.json").unlink()
    assert fetch(site.file()).read_bytes() == site.content


def test_a_file_put_there_by_hand_gets_a_receipt(site: Site, cache: Path) -> None:
    cache.mkdir()
    (cache / "a_model.pth").write_bytes(b"by hand")
    assert fetch(site.file()).read_bytes() == b"by hand" and not site.asked
    (cache / "a_model.pth").write_bytes(b"by hanD")
    assert "damaged since its download" in refusal(site.file())


def test_a_damaged_receipt_is_named(site: Site, cache: Path) -> None:
    fetch(site.file())
    (cache / "a_model.pth.json").write_text("{")
    assert f"{cache / 'a_model.pth.json'}: damaged" in refusal(site.file())


def test_several_at_once_download_once(site: Site) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(site.file()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and found[0].read_bytes() == site.content
    assert site.asked == [""]


def test_a_full_disk_is_one_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    assert "GB more than is free" in refusal(site.file())


def test_a_part_of_an_old_version_never_passes_for_one_of_the_new(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.breaks_after = 300_000
    refusal(site.file())
    site.content, site.tag = site.content[::-1], '"two"'
    with monkeypatch.context() as full:
        full.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
        refusal(site.file())
    assert fetch(site.file()).read_bytes() == site.content


def test_a_cache_that_cannot_be_written_is_one_line(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("IMGLISH_CACHE", str(tmp_path / "file" / "cache"))
    assert "set IMGLISH_CACHE to another folder" in refusal(site.file())


def test_the_cache_lies_where_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IMGLISH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "imglish"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "imglish"
    monkeypatch.setenv("IMGLISH_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "home" / "mine"
