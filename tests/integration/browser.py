"""A real Chromium: the system's, else Playwright's own download, else apt's when root; else the line that mends it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, Playwright, sync_playwright

SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MEND = "no Chromium for the browser test: run `apt-get install -y chromium`, or `python -m playwright install chromium`"


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with an empty profile, closed with the block."""
    with sync_playwright() as playwright:
        browser = _launched(playwright)
        yield browser
        browser.close()


def _launched(playwright: Playwright) -> Browser:
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]  # Chromium's sandbox refuses root
    for ready in (_system, _own, _apt):
        path = ready()
        try:
            return playwright.chromium.launch(executable_path=path, args=flags)
        except Error:
            continue
    pytest.fail(MEND, pytrace=False)


def _system() -> str | None:
    return next((path for name in SYSTEM if (path := shutil.which(name))), None)


def _own() -> None:
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False, capture_output=True, timeout=90)


def _apt() -> str | None:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "chromium"], check=False, capture_output=True, timeout=300)
    return _system()
