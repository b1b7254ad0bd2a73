"""A headless browser for the tests of pages, spoken to in plain HTTP (the WebDriver protocol)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_SECONDS = 60.0
CALL_SECONDS = 120.0


@dataclass(frozen=True)
class Browser:
    """One window of a browser."""

    address: str

    def ask(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        """Send one command and return its value."""
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(
            f"{self.address}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from error

    def devtools(self, command: str, **values: Any) -> Any:
        """Send one command of the browser's own protocol."""
        return self.ask("/goog/cdp/execute", {"cmd": command, "params": values})

    def open(self, target: Path | str, *, width: int = 1280, dark: bool = False) -> None:
        """Show a file or an address at a width, in light or dark."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.devtools("Emulation.setEmulatedMedia", media="screen", features=scheme)
        self.ask("/url", {"url": target.as_uri() if isinstance(target, Path) else target})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self.ask("/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str, *arguments: Any) -> Any:
        """Run a script that calls its last argument with the answer."""
        return self.ask("/execute/async", {"script": script, "args": list(arguments)})

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Keep what is shown as a PNG file."""
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


def browser_paths() -> tuple[str, str] | None:
    """Return where the browser and its driver are, or None where one is missing."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def opened_browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile of its own, and end it afterwards."""
    found = browser_paths()
    assert found is not None, "Chromium and chromedriver are needed on the path"
    driver = subprocess.Popen(
        [found[1], "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        root = f"http://127.0.0.1:{_port(driver)}"
        options = {"binary": found[0], "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = Browser(root).ask("/session", wanted)["sessionId"]
        browser = Browser(f"{root}/session/{session}")
        browser.ask("/timeouts", {"script": int(CALL_SECONDS * 1000)})
        yield browser
        browser.ask("", method="DELETE")
    finally:
        driver.terminate()
        driver.wait(timeout=START_SECONDS)
        if driver.stdout is not None:
            driver.stdout.close()


def _port(driver: subprocess.Popen[str]) -> int:
    assert driver.stdout is not None
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        line = driver.stdout.readline()
        if "started successfully on port" in line:
            return int(line.rstrip(". \n").rsplit(" ", 1)[1])
    raise TimeoutError("chromedriver did not say on which port it listens")
