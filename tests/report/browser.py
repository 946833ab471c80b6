"""A headless Chromium, driven over its DevTools protocol through a pipe: no server, no driver, no further package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patience import PATIENCE, wait_until


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One browser process; `open` makes a page. Also a context manager."""

    def __init__(self, program: str, profile: Path) -> None:
        (hear, self._out), (self._in, say) = os.pipe(), os.pipe()
        # Chromium reads the protocol from descriptor 3 and writes it to 4; ours are moved out of the way of both.
        hear, say = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (hear, say))
        flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions"
        command = [program, *flags.split(), f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        shell = ["bash", "-c", f'exec "$@" 3<&{hear} 4>&{say}', "bash", *command]
        self._log = profile / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(shell, pass_fds=(hear, say), stdout=log, stderr=log)
        os.close(hear)
        os.close(say)
        self._number = 0
        self._partial = b""
        self.events: list[dict[str, Any]] = []

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, url, width, height, dark)

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The answer to one command; what else the browser says meanwhile is kept in `events`."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        message = command | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def close(self) -> None:
        self.send("Browser.close")
        self._process.wait(timeout=PATIENCE)
        os.close(self._out)
        os.close(self._in)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._partial:
            piece = os.read(self._in, 1 << 16)
            if not piece:
                raise RuntimeError(f"the browser ended: {self._log.read_text(errors='replace')[-2000:]}")
            self._partial += piece
        message, _, self._partial = self._partial.partition(b"\0")
        return json.loads(message)


class Page:
    def __init__(self, browser: Browser, session: str, url: str, width: int, height: int, dark: bool) -> None:
        self._browser, self._session = browser, session
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.go(url)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.send(method, self._session, **parameters)

    def go(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page, its promise awaited. Raises RuntimeError where it throws."""
        done = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"].get("exception", {}).get("description", str(done)))
        return done["result"].get("value")

    def wait_for(self, condition: str) -> None:
        wait_until(lambda: self.run(f"Boolean({condition})"), condition)

    def press(self, key: str) -> None:
        typed = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **typed)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def text(self, selector: str) -> str:
        return self.run(f"(document.querySelector({json.dumps(selector)}) || {{}}).innerText || ''")

    def requested(self) -> list[str]:
        """The addresses of everything that the page asked for."""
        return [event["params"]["request"]["url"] for event in self._events("Network.requestWillBeSent")]

    def errors(self) -> list[str]:
        """What a person would see in red in the console, uncaught exceptions included."""
        found = [e["params"]["exceptionDetails"]["text"] for e in self._events("Runtime.exceptionThrown")]
        found += [e["params"]["entry"]["text"] for e in self._events("Log.entryAdded", lambda p: p["entry"]["level"])]
        found += [str(e["params"]["args"]) for e in self._events("Runtime.consoleAPICalled", lambda p: p["type"])]
        return found

    def screenshot(self, path: Path, whole: bool = False) -> None:
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _events(self, method: str, level: Callable[[dict[str, Any]], str] = lambda _: "error") -> list[dict[str, Any]]:
        self.run("0")  # what was said before is read before
        return [
            event
            for event in self._browser.events
            if event.get("sessionId") == self._session
            and event["method"] == method
            and level(event["params"]) == "error"
        ]
