"""The quick start of README.md: its commands succeed and print what the page shows."""

import re
import shlex
from pathlib import Path

from sluice_program import PROGRAM, RELEASE, ProgramTest, main

PAGE = Path(__file__).resolve().parents[2] / "README.md"


def examples(text):
    """(command, shown) of every block that is indented by four spaces and has lines "$ command"."""
    command, shown = None, []
    for line in text.splitlines():
        inside = line.startswith("    ")
        if inside and line.startswith("    $ "):
            if command:
                yield command, shown
            command, shown = line[6:], []
        elif inside and command:
            shown.append(line.strip())
        elif line.strip() and command:
            yield command, shown
            command = None
    if command:
        yield command, shown


def pattern_of(shown):
    """The page breaks long lines, and "..." stands for what differs from run to run."""
    parts = " ".join(shown).split("...")
    return r"\s*.*?\s*".join(re.escape(" ".join(part.split())) for part in parts)


class QuickStartTest(ProgramTest):
    def test_the_page_shows_what_the_program_prints(self):
        (self.folder / "build").mkdir()
        (self.folder / "build" / "sluice").symlink_to(PROGRAM)
        (self.folder / "manifests").symlink_to(RELEASE.parent)
        start = PAGE.read_text().split("## Quick start")[1].split("\n## ")[0]
        found = list(examples(start))
        self.assertGreaterEqual(len(found), 2)
        for command, shown in found:
            program, *arguments = shlex.split(command)
            self.assertEqual(program, "build/sluice", command)
            self.assertTrue(shown, f"{command}: the page shows no output")
            printed = " ".join(self.succeed(*arguments).stdout.split())
            self.assertRegex(printed, "^" + pattern_of(shown) + "$", command)


if __name__ == "__main__":
    main()
