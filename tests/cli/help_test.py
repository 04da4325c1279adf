"""--help of every command: in groups, within the terminal's width, without the parser's types."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

from sluice_program import PROGRAM, ProgramTest, main

COMMANDS = ["fetch", "verify", "convert", "run", "publish", "seed", "keygen", "sign", "trust", "inspect",
            "bench", "eval", "releases", "models"]


class HelpTest(ProgramTest):
    def help_of(self, *command):
        return self.succeed(*command, "--help").stdout

    def pages(self):
        yield "sluice", self.help_of()
        for command in COMMANDS:
            yield command, self.help_of(command)

    def test_no_line_is_longer_than_80_columns(self):
        for name, text in self.pages():
            for line in text.splitlines():
                self.assertLessEqual(len(line), 80, f"{name}: {line}")

    def test_lines_are_whole_and_paragraphs_have_one_line_between_them(self):
        for name, text in self.pages():
            self.assertNotIn("\n\n\n", text, name)
            for line in text.splitlines():
                self.assertEqual(line, line.rstrip(), name)

    def test_nothing_of_the_parser_shows(self):
        for name, text in self.pages():
            for residue in ("UINT", "INT:", " INT", "FLOAT", "NONNEGATIVE", "REQUIRED", "Excludes:", "Needs:",
                            "TEXT TEXT", "...}", " in ["):
                self.assertNotIn(residue, text, name)

    def test_options_are_grouped_and_the_general_ones_are_last(self):
        for command in COMMANDS:
            text = self.help_of(command)
            self.assertIn(f"\n\nUsage: sluice {command}", text)
            groups = re.findall(r"^([A-Z][a-z ,]+):$", text, re.MULTILINE)
            self.assertEqual(groups[-2], "General", command)
            self.assertIn(groups[-1], ("Example", "Examples"))
        groups = re.findall(r"^([A-Z][a-z ,]+):$", self.help_of("run"), re.MULTILINE)
        self.assertEqual(groups, ["Arguments", "Prompt", "Sampling", "Output", "Model, memory and threads", "Network",
                                  "General", "Example"])

    def test_defaults_are_told(self):
        text = re.sub(r"\s+", " ", self.help_of("run"))
        for option, default in (("--temperature T", "0.7"), ("--top-p P", "0.95"), ("--tokens N", "128"),
                                ("--quant TYPE", "q4"), ("--repeat-last-n N", "64"), ("--verify WHEN", "first-use")):
            after = text[text.index(option):]
            self.assertEqual(re.search(r"\(default: ([^)]*)\)", after).group(1), default, option)
        self.assertIn("(default: 512MiB)", self.help_of("convert"))

    def test_a_value_has_a_name(self):
        flags = {"--json", "--quiet", "--help", "--chat", "--stats", "--list", "--dry-run", "--no-dht", "--no-pex",
                 "--no-lsd", "--allow-private", "--strict", "--repair", "--recheck", "--allow-damaged", "--verbose", "--write-sums", "--overwrite", "--direct",
                 "--v1-only", "--leaves", "--no-password", "--password-stdin", "--yes", "--model", "--release",
                 "--releases", "--hide-thinking", "--special"}
        for command in COMMANDS:
            for line in self.help_of(command).splitlines():
                option = re.match(r" {2,6}(?:-\w, )?(--[a-z0-9-]+)(?: ([A-Z:]+))?(?:  |$)", line)
                if option and not option.group(2):
                    self.assertIn(option.group(1), flags, command)

    def test_a_terminal_is_filled_and_not_more(self):
        for columns, longest in ((70, 70), (90, 90), (200, 100)):
            lines = self.help_on_terminal(columns, "run").splitlines()
            self.assertLessEqual(max(map(len, lines)), longest)
            self.assertGreater(max(map(len, lines)), longest - 10)

    @staticmethod
    def help_on_terminal(columns, *command):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with subprocess.Popen([str(PROGRAM), *command, "--help"], stdout=slave) as process:
            os.close(slave)
            text = b""
            while True:
                try:
                    part = os.read(master, 65536)
                except OSError:  # EIO: the program has ended
                    break
                if not part:
                    break
                text += part
            os.close(master)
        assert process.returncode == 0
        return text.decode().replace("\r\n", "\n")

    def test_a_usage_error_names_the_program_once(self):
        refused = self.sluice("fetch", "--limit-dwn", "3M", "x")
        self.assertEqual(refused.code, 2)
        self.assertEqual(refused.stderr,
                         "sluice: unknown option --limit-dwn; did you mean --limit-down? (sluice fetch --help)\n")
        self.assertEqual(self.sluice("run", "stories-moe").stderr.count("sluice: "), 1)

    def test_short_and_other_spellings(self):
        self.assertRegex(self.succeed("--version").stdout, r"^sluice \d+\.\d+\.\d+( \([0-9a-f]{10,}\))?\n")
        self.assertEqual(self.succeed("-V").stdout, self.succeed("version").stdout)
        self.assertEqual(self.succeed("help", "fetch").stdout, self.help_of("fetch"))
        self.assertEqual(self.succeed("-q", "releases").stdout, self.succeed("releases", "--quiet").stdout)


if __name__ == "__main__":
    main()
