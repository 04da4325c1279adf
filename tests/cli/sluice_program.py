"""Runs the real program in a folder of its own, with its model store there, for the tests beside this file."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

PROGRAM = Path(os.environ["SLUICE_PROGRAM"])
RELEASE = Path(os.environ["SLUICE_DEMO_RELEASE"])
# A sanitizer takes several times the memory of the program that it watches.
SANITIZED = bool(os.environ.get("SLUICE_SANITIZE"))
LIMIT_S = 900 if SANITIZED else 50


class Finished:
    """What a run of the program left."""

    def __init__(self, code, stdout, stderr):
        self.code, self.stdout, self.stderr = code, stdout, stderr

    def __str__(self):
        return f"exit {self.code}\nstdout: {self.stdout[-2000:]}\nstderr: {self.stderr[-2000:]}"

    def lines(self):
        """stdout of --json: every line is an object."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def result(self):
        last = self.lines()[-1]
        assert last["event"] == "result", str(self)
        return last

    def error(self):
        last = self.lines()[-1]
        assert last["event"] == "error", str(self)
        return last


class ProgramTest(unittest.TestCase):
    """Each test has a fresh folder `self.folder` and ends what it has started."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "XDG_DATA_HOME": str(self.folder / "data"),
            **{name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")},
        }

    def start(self, *arguments, **options):
        process = subprocess.Popen(
            [str(PROGRAM), *map(str, arguments)], cwd=self.folder, text=True,
            env={**self.environment, **options.pop("environment", {})},
            stdin=options.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
            stderr=options.pop("stderr", subprocess.PIPE), **options)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr, process.stdin):
            if stream is not None:
                stream.close()

    def sluice(self, *arguments, text_in=None, **options):
        """Runs to the end."""
        if text_in is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(text_in, timeout=LIMIT_S)
        return Finished(process.returncode, stdout, stderr or "")

    def succeed(self, *arguments, **options):
        finished = self.sluice(*arguments, **options)
        self.assertEqual(finished.code, 0, str(finished))
        return finished

    def fail_with(self, code, kind, part, *arguments, **options):
        """The same failure for people and with --json."""
        people = self.sluice(*arguments, **options)
        self.assertEqual(people.code, code, str(people))
        self.assertIn(part, people.stderr)
        error = self.sluice(*arguments, "--json", **options)
        self.assertEqual(error.code, code, str(error))
        told = error.error()
        self.assertEqual((told["kind"], told["exit"]), (kind, code))
        self.assertIn(part, told["message"])

    def assert_memory(self, peak_bytes, most_bytes):
        if not SANITIZED:
            self.assertLessEqual(peak_bytes, most_bytes)

    def copy_release(self, name="stories-moe"):
        return Path(shutil.copytree(RELEASE, self.folder / name))

    def publish(self, folder, *options):
        return self.succeed("publish", folder, "--json", *options).result()

    def seed(self, torrent, *options):
        """A seeder in a process of its own; returns it with its port."""
        process = self.start("seed", torrent, "--listen", "127.0.0.1", "--no-dht", "--no-lsd", "--json",
                             *options, stderr=subprocess.DEVNULL)
        listening = json.loads(process.stdout.readline())
        while listening["event"] in ("progress", "warning"):  # such as that the usual port is taken
            listening = json.loads(process.stdout.readline())
        self.assertEqual(listening["event"], "listening")
        return process, listening["port"]

    @staticmethod
    def from_peer(port):
        """Options of a fetch that asks this one peer and nobody else."""
        return ["--peer", f"127.0.0.1:{port}", "--no-dht", "--no-lsd", "--no-pex", "--allow-private",
                "--timeout", "30"]


def wait_until(condition, limit_s=20):
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.02)


def main():
    """Runs the tests of the calling file; a skipped one is told in a way that CTest sees."""
    result = unittest.main(exit=False).result
    if SANITIZED:
        print("left out: peaks of memory, which are a sanitizer's own here")
    for test, reason in result.skipped:
        # CTest takes the word as "not run", which must not hide a failure beside it.
        print(f"{'SKIPPED' if result.wasSuccessful() else 'left out'}: {test}: {reason}")
    raise SystemExit(0 if result.wasSuccessful() else 1)
