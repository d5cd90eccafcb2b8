"""A headless Chromium, driven through a pipe: no package and no network is needed."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest


class Browser:
    """One page. Use as a context: it ends the browser."""

    def __init__(self, folder: Path):
        program = (
            shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
        )
        if not program:
            pytest.skip("there is no Chromium here to open the page in")
        theirs, self.out = os.pipe()
        self.into, yours = os.pipe()
        flags = "--headless=new --no-sandbox --disable-gpu --remote-debugging-pipe --no-first-run"
        flags += " --disable-dev-shm-usage --disable-background-networking --window-size=820,900"
        line = (
            f"exec {program} {flags} --user-data-dir={folder / 'profile'} about:blank 3<&{theirs} 4>&{yours}"
        )
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.job = subprocess.Popen(["bash", "-c", line], pass_fds=(theirs, yours), **quiet)
        os.close(theirs)
        os.close(yours)
        self.number, self.rest, self.session = 0, b"", {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": found["sessionId"]}
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.job.terminate()
        self.job.wait(10)

    def call(self, method: str, **params) -> dict:
        """One command of the DevTools protocol, and its answer."""
        self.number += 1
        request = {"id": self.number, "method": method, "params": params, **self.session}
        os.write(self.out, json.dumps(request).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                block = os.read(self.into, 1 << 20)
                assert block, "the browser has ended"
                self.rest += block
            message, _, self.rest = self.rest.partition(b"\0")
            found = json.loads(message)
            if found.get("id") == self.number:
                assert "error" not in found, found
                return found["result"]

    def open(self, path: Path) -> None:
        """Load a file, and wait until its script has run."""
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && document.title !== ''")

    def eval(self, code: str):
        """The value of an expression of JavaScript."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, code: str) -> None:
        """Wait until an expression is true."""
        code = (
            f"new Promise(done => {{ const look = () => {code} ? done(1) : setTimeout(look, 20); look(); }})"
        )
        self.call("Runtime.evaluate", expression=code, awaitPromise=True)

    def press(self, *keys: str) -> None:
        """Press keys one after another: a character, or a name such as ArrowDown."""
        for key in keys:
            code = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
            number = code.get(key) or ord(key.upper())
            text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
            known = {"key": key, "windowsVirtualKeyCode": number}
            self.call("Input.dispatchKeyEvent", type="keyDown", **known, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def picture(self, path: Path) -> None:
        """Write a screenshot."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
