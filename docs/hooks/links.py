"""A hook of mkdocs: links from a page to a file outside docs/ lead to the repository's own site.

On GitHub and in an editor such a link works as it stands; the built site has no such file. A link to a
file that is nowhere is left as it is, so that `mkdocs build --strict` fails on it.
"""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<!!)\]\((\.\./[^)#\s]+)((?:#[^)\s]*)?)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return the page's Markdown with such links made absolute."""
    root = Path(config.docs_dir).parent
    folder = posixpath.join(Path(config.docs_dir).name, posixpath.dirname(page.file.src_uri))

    def outside(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        if path.startswith(("../", f"{Path(config.docs_dir).name}/")) or not (root / path).exists():
            return match[0]
        kind = "tree" if (root / path).is_dir() else "blob"
        branch = os.environ.get("REPOSITORY_BRANCH", "main")
        return f"]({config.repo_url.rstrip('/')}/{kind}/{branch}/{path}{match[2]})"

    return _LINK.sub(outside, markdown)
