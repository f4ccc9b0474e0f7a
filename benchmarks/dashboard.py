"""The time until the dashboard can be used: `python -m benchmarks.dashboard`.

Seconds from the address to the form, in a browser that has never seen the page, beside a service
that is idle.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Final

from tests.fixtures.browser import Browser, running_browser
from tests.fixtures.server import running_server

ROUNDS: Final = 15

_NOTE: Final = """\
new MutationObserver((_, observer) => {
    if (!document.querySelector("#view button[type=submit]")) return;
    observer.disconnect();
    requestAnimationFrame(() => { window.usable = performance.now() / 1000; });
}).observe(document, {childList: true, subtree: true});
"""


def seconds_to_use(browser: Browser, url: str) -> float:
    """Open the page in a new browser context: nothing is cached."""
    with browser.page() as page:
        page.call("Page.addScriptToEvaluateOnNewDocument", source=_NOTE)
        page.open(f"{url}/dashboard")
        page.wait("window.usable", "the form is there")
        return float(page.js("window.usable"))


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder)) as server,
        running_browser() as browser,
    ):
        server.wait_ready()
        times = sorted(seconds_to_use(browser, server.url) for _ in range(ROUNDS))
    print(
        f"usable after {statistics.median(times):.3f} s (median of {ROUNDS}; {times[-1]:.3f} most)"
    )


if __name__ == "__main__":
    main()
