"""Ctrl-C, SIGTERM, and readers that go away."""

import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

from sluice_program import PROGRAM, ProgramTest, main, wait_until


class SignalTest(ProgramTest):
    def start_endless_fetch(self):
        """A fetch that finds nobody."""
        magnet = "magnet:?xt=urn:btih:" + "0123456789" * 4
        process = self.start("fetch", magnet, "-o", "downloads", "--no-dht", "--no-lsd", "--no-pex", "--json")
        process.stdout.readline()  # it is at work
        return process

    def test_ctrl_c_stops_a_fetch_with_7(self):
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            process = self.start_endless_fetch()
            process.send_signal(signal_number)
            stdout, stderr = process.communicate(timeout=20)
            self.assertEqual(process.returncode, 7, stderr)
            self.assertIn('"kind":"interrupted"', stdout.splitlines()[-1])

    def test_ctrl_c_to_the_whole_process_group_stops_a_fetch_with_7(self):
        magnet = "magnet:?xt=urn:btih:" + "0123456789" * 4
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            process = self.start("fetch", magnet, "-o", "downloads", "--no-dht", "--no-lsd", "--no-pex", "--json",
                                 start_new_session=True)
            process.stdout.readline()
            os.killpg(process.pid, signal_number)
            _, stderr = process.communicate(timeout=20)
            self.assertEqual(process.returncode, 7, stderr)

    def test_a_second_ctrl_c_ends_at_once_with_130(self):
        process = self.start_endless_fetch()
        # A helper that does not answer keeps the clean end waiting.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: children.read_text().split())
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        self.assertIsNone(process.poll(), "it ended before the second Ctrl-C")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=5), 130)

    def test_ctrl_c_ends_the_wait_for_a_prompt(self):
        process = self.start("run", "stories-moe", "-f", "-", stdin=subprocess.PIPE)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=5), 7)

    def test_a_seeder_ends_with_0(self):
        published = self.publish(self.copy_release())
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            process, _ = self.seed(published["torrent"])
            process.send_signal(signal_number)
            self.assertEqual(process.wait(timeout=20), 0)

    def test_ctrl_c_ends_a_generation_with_its_statistics(self):
        self.succeed("run", "stories-moe", "-p", "Once", "-n", "1")
        # Text of this length would take minutes.
        process = self.start("run", "stories-moe", "-p", "Once upon a time", "-n", "30000", "--json",
                             "--temperature", "5", "--top-p", "1", "--seed", "1")
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
        self.assertIn('"stop":"interrupt"', stdout.splitlines()[-1])
        self.assertEqual(process.returncode, 7, stderr)


class ReaderTest(ProgramTest):
    def pipe_to_head(self, *arguments):
        """The program's exit code and stderr when its reader leaves after one line."""
        process = self.start(*arguments)
        process.stdout.readline()
        process.stdout.close()
        stderr = process.stderr.read()
        return process.wait(timeout=30), stderr

    def test_head_ends_a_listing_cleanly(self):
        self.succeed("run", "stories-moe", "-p", "Once", "-n", "1")
        code, stderr = self.pipe_to_head("run", "stories-moe", "-p", "Once", "-n", "30000", "--json",
                                         "--temperature", "5", "--top-p", "1")
        self.assertEqual((code, stderr), (0, ""))

    def test_a_fetch_whose_reader_leaves_is_not_done(self):
        magnet = "magnet:?xt=urn:btih:" + "0123456789" * 4
        code, stderr = self.pipe_to_head("fetch", magnet, "-o", "downloads", "--no-dht", "--no-lsd", "--no-pex",
                                         "--json", "--timeout", "10")
        self.assertEqual((code, stderr), (7, ""))


class TerminalTest(ProgramTest):
    def on_terminal(self, *arguments, environment=None):
        """What a terminal on stdout and stderr receives."""
        leader, follower = pty.openpty()
        process = subprocess.Popen([str(PROGRAM), *arguments], cwd=self.folder, stdin=subprocess.DEVNULL,
                                   stdout=follower, stderr=follower,
                                   env={**self.environment, "TERM": "xterm-256color", **(environment or {})})
        self.addCleanup(process.wait)
        os.close(follower)
        received = b""
        while True:
            ready, _, _ = select.select([leader], [], [], 30)
            self.assertTrue(ready, "the program says nothing")
            try:
                part = os.read(leader, 65536)
            except OSError:  # the program has closed its end
                break
            if not part:
                break
            received += part
        os.close(leader)
        self.assertEqual(process.wait(timeout=20), 0, received.decode(errors="replace"))
        return received.decode(errors="replace")

    def test_a_terminal_gets_colours_unless_it_wants_none(self):
        arguments = ["run", "stories-moe", "-p", "Once", "-n", "4", "--stats"]
        self.assertIn("\x1b[48;5;", self.on_terminal(*arguments))
        self.assertNotIn("\x1b[48;5;", self.on_terminal(*arguments, environment={"NO_COLOR": "1"}))

    def test_a_terminal_gets_a_live_line_that_is_rubbed_out(self):
        text = self.on_terminal("eval", "stories-moe", self.make_text())
        # Only what lasts longer than a tenth of a second is shown.
        self.assertRegex(text, "\r\x1b\\[Kevaluating +[0-9]+ %")
        self.assertGreater(text.rindex("\r\x1b[K"), text.rindex(" %"))

    def make_text(self):
        path = self.folder / "text"
        path.write_text("Once upon a time there was a little dog. He liked to play. " * 1500)
        return str(path)


if __name__ == "__main__":
    main()
