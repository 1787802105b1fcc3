"""What the site makes of links that lead out of ``docs``, and of the changelog, which lies at the root.

Once it is built no page may fetch anything from elsewhere: the site is read without a network, too.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
_CHANGELOG = "changelog.md"
# What a browser fetches by itself: sources, style sheets, icons, imports and pictures of styles. A link that
# somebody has to follow is none of it.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?![^>]*\brel=["']?(?:canonical|next|prev|edit))[^>]*?\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|(?:@import\s+(?:url\()?|url\()["']?((?:https?:)?//[^"')\s]+)"""
)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Make of each link to a file outside ``docs`` its words and its path in the repository.

    Args:
        markdown: Source of the page.
        page: The page, which knows where its source lies.
        config: Of the site.
        files: All of the site.
    """
    source = page.file.src_uri
    if source == _CHANGELOG:
        text = (Path(config.config_file_path).parent / "CHANGELOG.md").read_text(encoding="utf-8")
        return text.replace("](docs/", "](")

    def shown(link: re.Match[str]) -> str:
        target = link["target"]
        if "://" in target or target.startswith("#"):
            return link[0]
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), target.partition("#")[0]))
        outside = not path.startswith("docs/") or path.startswith("docs/slurm/")
        return f"{link['text']} (`{path}`)" if outside else link[0]

    return _LINK.sub(shown, markdown)


def on_post_build(config: Any) -> None:
    """Refuse a site that fetches something from elsewhere.

    Args:
        config: Of the site.

    Raises:
        RuntimeError: A page or a style sheet does.
    """
    site = Path(config.site_dir)
    found = [
        f"{path.relative_to(site)}: {address}"
        for path in sorted(site.rglob("*"))
        if path.suffix in (".html", ".css")
        for address in outside_assets(path.read_text(encoding="utf-8"))
    ]
    if found:
        raise RuntimeError("the site would fetch from elsewhere:\n" + "\n".join(found))


def outside_assets(text: str) -> list[str]:
    """Addresses of elsewhere that a browser fetches by itself when it shows a page or a style sheet."""
    return ["".join(groups) for groups in _FETCHED.findall(text)]
