"""Standard streams that are closed, questions at a terminal, and what signals do to them."""

import os
import pty
import select
import signal
import subprocess
import termios
import time

from sluice_program import LIMIT_S, PROGRAM, ProgramTest, main, wait_until


class ClosedStreamsTest(ProgramTest):
    """Each closed stream is the null device, and no file gets its number."""

    def setUp(self):
        super().setUp()
        self.succeed("run", "stories-moe", "-p", "Once", "-n", "1")

    def run_closed(self, redirections, *arguments):
        command = " ".join(f"'{part}'" for part in (PROGRAM, *arguments))
        return subprocess.run(["bash", "-c", f"exec {command} {redirections}"], cwd=self.folder, env=self.environment,
                              capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)

    def test_a_prompt_from_closed_stdin_is_empty(self):
        done = self.run_closed("<&-", "run", "stories-moe", "-f", "-", "-n", "2", "--temperature", "0", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('"prompt_ids":[1],', done.stdout)  # BOS alone

    def test_closed_streams_are_no_ctrl_c_and_messages_stay_out_of_files(self):
        for redirections in ("<&- >&-", "<&- >&- 2>&-", ">&-", "2>&-", ">&- 2>&-"):
            trace = self.folder / "trace"
            trace.unlink(missing_ok=True)
            done = self.run_closed(redirections, "run", "stories-moe", "-p", "Once", "-n", "3", "--temperature", "0",
                                   "--stats", "--trace", trace)
            self.assertEqual(done.returncode, 0, f"{redirections}: {done.stderr}")
            lines = trace.read_text().splitlines()
            self.assertTrue(lines)
            for line in lines:
                self.assertRegex(line, r'^\{"position":.*\}$', redirections)


class QuestionTest(ProgramTest):
    """The question for a password, on a terminal of its own."""

    def ask(self, *arguments):
        """Starts a command with a terminal as its controlling one, and waits for its question."""
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(self.folder)
            os.execve(PROGRAM, [str(PROGRAM), *arguments], self.environment)
        self.received = b""
        self.ended = None
        self.addCleanup(self.clean_up, self.process, self.terminal)
        self.wait_for(b"Password of the new key: ")
        wait_until(lambda: not self.echoes())

    def clean_up(self, process, terminal):
        if self.ended is None:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            self.ended = 0
        os.close(terminal)

    def echoes(self):
        return bool(termios.tcgetattr(self.terminal)[3] & termios.ECHO)

    def wait_for(self, text):
        end = time.monotonic() + LIMIT_S
        while text not in self.received:
            self.assertLess(time.monotonic(), end, self.received)
            if select.select([self.terminal], [], [], 1)[0]:
                self.received += os.read(self.terminal, 4096)

    def wait_status(self):
        def look():
            ended, status = os.waitpid(self.process, os.WNOHANG)
            self.ended = status if ended else None
            return bool(ended)
        wait_until(look)
        return self.ended

    def test_the_first_ctrl_c_ends_it_with_7_and_echo_is_on(self):
        self.ask("keygen", "-o", "new")
        os.write(self.terminal, b"\x03")
        self.assertEqual(os.waitstatus_to_exitcode(self.wait_status()), 7)
        self.assertTrue(self.echoes())
        self.assertFalse((self.folder / "new.key").exists())

    def test_two_ctrl_c_leave_echo_on(self):
        self.ask("keygen", "-o", "new")
        os.write(self.terminal, b"\x03\x03")
        self.assertIn(os.waitstatus_to_exitcode(self.wait_status()), (7, 130))
        self.assertTrue(self.echoes())

    def test_every_signal_that_ends_it_leaves_echo_on(self):
        for number, code in ((signal.SIGTERM, 7), (signal.SIGHUP, -signal.SIGHUP), (signal.SIGQUIT, -signal.SIGQUIT)):
            with self.subTest(number):
                self.ask("keygen", "-o", "new")
                os.kill(self.process, number)
                self.assertEqual(os.waitstatus_to_exitcode(self.wait_status()), code)
                self.assertTrue(self.echoes())

    def test_a_stopped_question_is_asked_again_when_continued(self):
        self.ask("keygen", "-o", "new")
        # A process whose parent is in another session is an orphan that SIGTSTP does not stop, so the test
        # continues it without waiting for the stop.
        os.kill(self.process, signal.SIGTSTP)
        wait_until(lambda: self.received.count(b"Password of the new key: ") == 2 or self.read_more())
        os.kill(self.process, signal.SIGCONT)
        wait_until(lambda: not self.echoes())
        os.write(self.terminal, b"\x04")  # an empty password
        self.assertEqual(os.waitstatus_to_exitcode(self.wait_status()), 2)
        self.assertTrue(self.echoes())

    def read_more(self):
        if select.select([self.terminal], [], [], 0.1)[0]:
            self.received += os.read(self.terminal, 4096)
        return False

    def test_the_password_is_not_shown_and_the_wait_for_its_key_is_told(self):
        self.ask("keygen", "-o", "new")
        os.write(self.terminal, b"secret\n")
        self.wait_for(b"The password again: ")
        wait_until(lambda: not self.echoes())
        os.write(self.terminal, b"secret\n")
        self.wait_for(b"Deriving a key from the password ... done\r\n")
        self.wait_for(b"fingerprint ")
        self.assertEqual(os.waitstatus_to_exitcode(self.wait_status()), 0)
        self.assertNotIn(b"secret\r", self.received)


if __name__ == "__main__":
    main()
