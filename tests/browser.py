"""A headless Chromium through its DevTools pipe: open a page, run JavaScript in it, take pictures of it."""

import base64
import io
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One tab. Commands go through file descriptor 3 of the browser and answers come through 4, with a zero after each.

    Args:
        folder: An empty folder for the browser's profile.
        flags: Further flags of the command line.
    """

    def __init__(self, folder: Path, *flags: str):
        assert CHROMIUM is not None
        theirs_in, self.to = os.pipe()
        self.back, theirs_out = os.pipe()

        def descriptors() -> None:
            first, second = os.dup(theirs_in), os.dup(theirs_out)  # 3 or 4 may be one of them
            os.dup2(first, 3)
            os.dup2(second, 4)

        words = ["--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--force-color-profile=srgb",
                 "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", f"--user-data-dir={folder}",
                 *flags, "about:blank"]  # fmt: skip
        log = open(folder / "log.txt", "wb")  # noqa: SIM115 - the browser's as long as it lives
        self.process = subprocess.Popen(
            [CHROMIUM, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=descriptors,
            close_fds=False,
        )
        log.close()
        os.close(theirs_in)
        os.close(theirs_out)
        self.rest, self.numbers, self.session = b"", itertools.count(1), None
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what the page asks the network for, and its errors, are kept."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(time.monotonic() + 60)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(answer["params"]["exceptionDetails"]))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _read(self, until: float) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.back], [], [], max(0.0, until - time.monotonic()))
            part = os.read(self.back, 2**20) if ready else b""
            assert part, "the browser does not answer"
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\0")
        return json.loads(line)

    def open(self, page: Path, size: tuple[int, int] = (640, 480), fragment: str = "") -> None:
        """Open a file in a window of (width, height) pixels and wait for `hypersiren`."""
        self.requests.clear()
        self.resize(size)
        self.send("Page.navigate", url=f"{page.resolve().as_uri()}{fragment}")
        end = time.monotonic() + 30
        while self.run("typeof hypersiren") != "object":  # the page that was there before has none, or is gone
            assert time.monotonic() < end, self.errors
            time.sleep(0.05)
        self.run("(async () => { window.page = await hypersiren; return 0 })()")

    def resize(self, size: tuple[int, int]) -> None:
        width, height = size
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def run(self, code: str) -> Any:
        """The value of an expression in the page; of a promise, what it becomes."""
        answer = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, selector: str | None = None) -> np.ndarray:
        """(H, W, 3) uint8 of the window, or of an element of it."""
        whole = base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        pixels = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB"))
        if selector is None:
            return pixels
        box = self.run(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
        top, left, bottom, right = (round(box[side]) for side in ("top", "left", "bottom", "right"))
        return pixels[top:bottom, left:right]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        os.close(self.to)
        os.close(self.back)
