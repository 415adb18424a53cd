"""A browser without windows, for tests that click: Chromium, spoken to over a pipe by its DevTools protocol.

Everything waits for an event of the browser's, with one bound for all: PATIENCE seconds.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

PATIENCE = 120


class BrowserError(Exception):
    """The browser does not do what it was told, and why."""


class Browser:
    def __init__(self):
        program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
        if program is None:
            raise BrowserError("neither chromium-headless-shell nor chromium is installed")
        self.directory = tempfile.TemporaryDirectory()
        to_browser, self.commands = os.pipe()
        self.answers, from_browser = os.pipe()
        # The protocol wants the descriptors 3 and 4; both ends are above these here.
        self.process = subprocess.Popen(
            ["bash", "-c", 'exec 3<&"$1" 4>&"$2"; exec "${@:3}"', "bash", str(to_browser), str(from_browser),
             program, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900",
             "--user-data-dir=" + self.directory.name, "--remote-debugging-pipe", "about:blank"],
            pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.number, self.session, self.rest, self.events = 0, None, b"", []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def close(self):
        os.close(self.commands)
        self.process.terminate()
        self.process.wait()
        self._end_the_others()
        os.close(self.answers)
        self.directory.cleanup()

    def _end_the_others(self):
        """The browser's own children may still write into its directory, and are not ours to wait for."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            time.sleep(0.01)
        raise BrowserError("the browser's processes don't end")

    def _next(self, until):
        """The next message."""
        while b"\0" not in self.rest:
            if not select.select([self.answers], [], [], max(0.0, until - time.monotonic()))[0]:
                raise BrowserError("the browser says nothing any more")
            data = os.read(self.answers, 1 << 20)
            if not data:
                raise BrowserError("the browser has ended")
            self.rest += data
        text, _, self.rest = self.rest.partition(b"\0")
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while True:
            said = self._next(until)
            if said.get("id") == self.number:
                if "error" in said:
                    raise BrowserError("%s: %s" % (method, said["error"]["message"]))
                return said["result"]
            self.events.append(said)

    def wait_for(self, event):
        until = time.monotonic() + PATIENCE
        while True:
            said = self.events.pop(0) if self.events else self._next(until)
            if said.get("method") == event:
                return

    def run(self, script):
        """The value of an expression of the page's."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError("%s: %s" % (script, result["exceptionDetails"]["exception"].get("description")))
        return result["result"].get("value")

    def go(self, url):
        self.events.clear()
        said = self.call("Page.navigate", url=url)
        if said.get("errorText"):
            raise BrowserError("%s: %s" % (url, said["errorText"]))
        self.wait_for("Page.loadEventFired")

    def follow(self, script):
        """Runs what leads to another page, and waits until that is loaded."""
        self.events.clear()
        self.run(script)
        self.wait_for("Page.loadEventFired")

    def fill(self, values):
        for selector, value in values.items():
            self.run("document.querySelector(%s).value = %s" % (json.dumps(selector), json.dumps(value)))

    def click(self, selector):
        self.follow("document.querySelector(%s).click()" % json.dumps(selector))

    def text(self):
        return self.run("document.title + '\\n' + document.body.innerText")

    def address(self):
        return self.run("location.pathname")
