"""`sluice run MODEL` at a terminal: messages, commands, Ctrl-C, and what is computed again."""

import json
import os
import pty
import re
import select
import signal
import termios
import time

import chat_test
from sluice_program import LIMIT_S, PROGRAM, ProgramTest, main

PROMPT = b">>> "


class ConversationTest(ProgramTest):
    def setUp(self):
        super().setUp()
        release = self.copy_release()
        (release / "generation_config.json").write_text('{"eos_token_id": 2, "temperature": 0.25, "top_k": 5}')
        self.succeed("convert", release, "-o", "m.sluice")
        self.environment["TERM"] = "xterm"
        self.environment["NO_COLOR"] = "1"

    def begin(self, *options):
        """Starts a conversation on a terminal of its own and waits for its first prompt."""
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(self.folder)
            os.execve(PROGRAM, [str(PROGRAM), "run", "m.sluice", "--threads", "2", *options], self.environment)
        self.running = self.process
        self.addCleanup(self.clean_up, self.process, self.terminal)
        self.received = b""
        return self.wait_for(PROMPT)

    def clean_up(self, process, terminal):
        if process == self.running:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        os.close(terminal)

    def read(self):
        if not select.select([self.terminal], [], [], 1)[0]:
            return True
        try:
            part = os.read(self.terminal, 65536)
        except OSError:  # EIO: the program has ended
            part = b""
        self.received += part
        return bool(part)

    def wait_for(self, text):
        """Everything up to `text`, without what moves the cursor."""
        end = time.monotonic() + LIMIT_S
        while text not in self.received:
            self.assertLess(time.monotonic(), end, self.received)
            self.assertTrue(self.read(), self.received)
        at = self.received.index(text) + len(text)
        shown, self.received = self.received[:at], self.received[at:]
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown.decode()).replace("\r", "")

    def wait_for_editor(self):
        """The prompt is shown again while a line is typed: what is typed before the next line is edited may be lost."""
        end = time.monotonic() + LIMIT_S
        while termios.tcgetattr(self.terminal)[3] & termios.ICANON:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def say(self, text, until=PROMPT):
        """Types a line, and returns what is shown from then on to the next prompt."""
        os.write(self.terminal, text.encode() + b"\r")
        return self.wait_for(until)

    def wait_exit(self):
        while self.read():
            pass
        self.running = None
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])

    def test_messages_and_commands(self):
        greeting = self.begin("--temperature", "0", "-n", "12")
        self.assertIn("/help lists the commands", greeting)
        self.assertNotIn("recommends", greeting)  # the temperature is the user's
        expected = self.succeed("run", "m.sluice", "-p", "Once upon", "--chat", "-n", "12", "--json",
                                "--temperature", "0").result()
        self.assertTrue(expected["text"].startswith(" "))  # SentencePiece's, which is no part of the answer
        self.assertIn("\n" + expected["text"][1:] + "\n", self.say("Once upon"))
        used = len(expected["prompt_ids"]) + len(expected["ids"]) - 1
        statistics = self.say("/stats")
        self.assertIn(f"{used} tokens of 32768 of the context are used\n", statistics)
        # Of the second prompt only the new message is computed.
        self.say("And é\\", until=b"... ")
        self.say("more")
        self.assertIn(f", {used} more from the conversation so far;", self.say("/stats"))
        self.assertIn("unknown command '/nope'", self.say("/nope"))
        self.assertIn("/clear", self.say("/help"))
        self.assertIn("there is no system prompt", self.say("/system"))
        self.assertIn("system prompt: Be kind.", self.say("/system Be kind."))
        self.assertIn("saved: c.json", self.say("/save c.json"))
        saved = json.loads((self.folder / "c.json").read_text())["messages"]
        self.assertEqual([message["role"] for message in saved], ["system", "user", "assistant", "user", "assistant"])
        self.assertEqual(saved[2]["content"], expected["text"][1:])
        self.assertEqual(saved[3]["content"], "And é\nmore")
        self.say("/clear")
        for line in ('"""', "a", "b"):
            self.say(line, until=b"... ")
        self.say('"""')
        self.assertIn("saved: c.json", self.say("/save c.json"))  # its own file is replaced
        saved = json.loads((self.folder / "c.json").read_text())["messages"]
        self.assertEqual([message["content"] for message in saved[:2]], ["Be kind.", "a\nb"])
        self.wait_for_editor()
        os.write(self.terminal, b"\x04")
        self.assertEqual(self.wait_exit(), 0)

    def test_an_output_never_destroys_what_the_user_has(self):
        (self.folder / "notes").write_text("mine")
        self.begin("-n", "2")
        self.assertIn("notes: ", self.say("/save notes"))
        self.assertIn("m.sluice: ", self.say("/save m.sluice"))
        self.assertIn("/save needs the name of a file", self.say("/save"))
        self.assertEqual((self.folder / "notes").read_text(), "mine")
        os.write(self.terminal, b"/exit\r")
        self.assertEqual(self.wait_exit(), 0)

    def test_ctrl_c_ends_the_answer_or_the_line_and_not_the_conversation(self):
        self.begin("--temperature", "0")
        os.write(self.terminal, b"Once upon a time\r")
        self.wait_for(b"time\r\n")
        while len(self.received) < 20:
            self.read()
        os.write(self.terminal, b"\x03")
        self.wait_for(PROMPT)
        self.assertIn("stopped by Ctrl-C", self.say("/stats"))
        os.write(self.terminal, b"never sent\x03")
        self.assertIn("Ctrl-D or /exit ends the conversation", self.wait_for(PROMPT))
        self.say("/save c.json")
        saved = json.loads((self.folder / "c.json").read_text())["messages"]
        self.assertEqual([message["role"] for message in saved], ["user", "assistant"])
        os.kill(self.process, signal.SIGTERM)
        self.assertEqual(self.wait_exit(), 7)

    def test_a_full_context_and_recommended_sampling_are_told(self):
        greeting = self.begin("--context", "20")
        self.assertIn("sampling as the model's release recommends: temperature 0.25, top-k 5\n", greeting)
        self.assertIn("the context of 20 tokens is full: /clear", self.say("Hi"))
        self.assertRegex(self.say("And then?"), r"the conversation has \d+ tokens, the context holds 20: /clear")
        self.say("/save c.json")
        self.assertEqual(len(json.loads((self.folder / "c.json").read_text())["messages"]), 2)

    def test_thinking_is_dimmed_or_hidden(self):
        release = self.copy_release("thinker")
        (release / "tokenizer.model").unlink()
        (release / "tokenizer.json").write_text(json.dumps(chat_test.tokenizer()))
        (release / "tokenizer_config.json").write_text(
            json.dumps({"chat_template": chat_test.TEMPLATE, "eos_token": "<|im_end|>"}))
        self.succeed("convert", release, "-o", "m.sluice", "--overwrite")
        del self.environment["NO_COLOR"]
        # This template opens the thinking, and the model never closes it.
        think = ("--temperature", "0", "-n", "8", "--chat-var", "enable_thinking=false")
        self.begin(*think)
        os.write(self.terminal, b"Hi\r")
        self.wait_for(b"\x1b[2m")
        self.wait_for(PROMPT)
        self.say("/save c.json")
        answer = json.loads((self.folder / "c.json").read_text())["messages"][1]
        self.assertEqual((answer["role"], answer["content"]), ("assistant", ""))
        self.assertTrue(answer["thinking"])
        os.write(self.terminal, b"/exit\r")
        self.assertEqual(self.wait_exit(), 0)
        self.begin(*think, "--hide-thinking")
        self.assertRegex(self.say("Hi"), r"Hi\n+>>> $")

    def test_a_dumb_terminal_has_plain_lines(self):
        self.environment["TERM"] = "dumb"
        self.begin("--temperature", "0", "-n", "2")
        self.say("Hi")
        os.write(self.terminal, b"\x04")
        self.assertEqual(self.wait_exit(), 0)

    def test_options_of_one_prompt_are_refused(self):
        self.environment["TERM"] = "dumb"
        for option in ("--trace", "--prompt-cache"):
            process, terminal = pty.fork()
            if process == 0:
                os.chdir(self.folder)
                os.execve(PROGRAM, [str(PROGRAM), "run", "m.sluice", option, "x"], self.environment)
            self.process, self.terminal, self.received = process, terminal, b""
            self.assertEqual(self.wait_exit(), 2)
            self.assertIn(f"{option} needs a prompt".encode(), self.received)
            os.close(terminal)


if __name__ == "__main__":
    main()
