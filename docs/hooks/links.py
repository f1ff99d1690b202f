"""A hook of mkdocs: links from a page to a file outside docs/ lead to the site of the repository.

On GitHub and in an editor such a link works as it stands; the built site has no such file. Without
REPOSITORY_URL the link becomes its text. A link to a file that does not exist is left as it is, so that
`mkdocs build --strict` fails on it.
"""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#\s]+)((?:#[^)\s]*)?)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return the page's Markdown with such links made absolute."""
    root = Path(config.docs_dir).parent
    folder = posixpath.join(Path(config.docs_dir).name, posixpath.dirname(page.file.src_uri))

    def outside(match: re.Match[str]) -> str:
        text, link, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(folder, link))
        if path.startswith(("../", f"{Path(config.docs_dir).name}/")) or not (root / path).exists():
            return match[0]
        if not config.repo_url:
            return text
        kind = "tree" if (root / path).is_dir() else "blob"
        branch = os.environ.get("REPOSITORY_BRANCH", "main")
        return f"[{text}]({config.repo_url.rstrip('/')}/{kind}/{branch}/{path}{anchor})"

    return _LINK.sub(outside, markdown)
