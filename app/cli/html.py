"""HTML and SVG from parts; every text is escaped, whatever it is."""

from __future__ import annotations

import html


class Html(str):
    """Markup that is finished; anything else is text."""

    __slots__ = ()


def text(value: object) -> Html:
    """As text; characters that no HTML may have are replaced."""
    allowed = "".join(
        character if character.isprintable() or character in "\n\t" else "\ufffd"
        for character in str(value)
    )
    return Html(html.escape(allowed))


def element(name: str, *children: object, **attributes: object) -> Html:
    """`class_` is `class`, `_` is `-`; an attribute that is None or False is left out."""
    opening = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text("" if value is True else value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    content = "".join(child if isinstance(child, Html) else text(child) for child in children)
    return Html(f"<{name}{opening}>{content}</{name}>")


def joined(parts: list[Html]) -> Html:
    return Html("".join(parts))
