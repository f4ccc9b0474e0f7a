"""A comparison as one HTML file: the dashboard's own view of it, with its script and style inside.

The file works from a disk, asks nothing of any server, and forbids itself to.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from hotloop.app.version import VERSION
from hotloop.app.wording import plain

if TYPE_CHECKING:
    from hotloop.app.schemas.comparison import Comparison

_WEB: Final = files("hotloop.app") / "web"
_IMPORT: Final = re.compile(r'^import (\{.*\}) from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export ((?:async )?(?:const|class|function\*?) (\w+))", re.MULTILINE)

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{items:,} items, strategy × kernel – Hotloop</title>
<style>{style}</style>
</head>
<body class="report" data-version="{version}">
<main id="view"><noscript><p>{verdict}</p><p>This page needs JavaScript.</p></noscript></main>
<p id="announcer" class="hidden" aria-live="polite"></p>
<script type="application/json" id="comparison">{comparison}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def report_page(comparison: Comparison) -> str:
    """Make the HTML of a report; equal comparisons give equal pages."""
    style, script = _text("dashboard.css"), _bundle("report", {})
    return _PAGE.format(
        policy=f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        items=comparison.items_count,
        style=style,
        version=html.escape(VERSION),
        verdict=html.escape(plain(comparison.verdict, 2_000)),
        # Only `<` could end the script element.
        comparison=json.dumps(comparison.model_dump(mode="json")).replace("<", "\\u003c"),
        script=script,
    )


def _bundle(name: str, done: dict[str, str]) -> str:
    """Bundle a module with its imports, each as a function that returns the module's exports.
    `done` collects the bundled modules in order.
    """
    code = _text(f"{name}.js")
    for imported in _IMPORT.findall(code):
        if imported[1] not in done:
            _bundle(imported[1], done)
    exports = ", ".join(exported[1] for exported in _EXPORT.findall(code))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = \2Module;\n", code))
    done[name] = f"const {name}Module = (() => {{\n{body}return {{ {exports} }};\n}})();\n"
    return "\n" + "".join(done.values())


def _text(name: str) -> str:
    return (_WEB / name).read_text("utf-8")


def _digest(text: str) -> str:
    """Name an inline script or style by its hash for the policy, which allows nothing else."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
