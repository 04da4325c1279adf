"""README.md, CONTRIBUTING.md and docs/ name only files and headings that are there."""

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A path in backticks, such as `format/tile.h`. One with a placeholder in capitals or a star is no path.
PATH = re.compile(r"`((?:base|cli|convert|docs|fetch|format|library|manifests|runtime|tests|text|verify)/[a-z0-9_./-]+)`")


def anchors(page):
    """GitHub's names of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class PagesTest(unittest.TestCase):
    def test_links_lead_somewhere(self):
        count = 0
        for page in PAGES:
            for link in LINK.findall(page.read_text()):
                if re.match(r"[a-z]+:", link):
                    continue
                path, _, anchor = link.partition("#")
                target = page.parent / path if path else page
                with self.subTest(page=page.name, link=link):
                    count += 1
                    self.assertTrue(target.exists(), f"{page}: {link} is not there")
                    if anchor:
                        self.assertIn(anchor, anchors(target), f"{page}: {link}")
        self.assertGreater(count, 50)

    def test_paths_in_contributing_and_readme_are_there(self):
        count = 0
        for page in PAGES[:2]:
            for path in PATH.findall(page.read_text()):
                with self.subTest(page=page.name, path=path):
                    count += 1
                    self.assertTrue((ROOT / path).exists(), f"{page.name} names {path}")
        self.assertGreater(count, 50)

    def test_the_first_pages_are_short(self):
        lines = (ROOT / "README.md").read_text().splitlines()
        self.assertLessEqual(len(lines), 110)
        for line in lines:
            if not line.startswith("|"):
                self.assertLessEqual(len(line), 120, line)


if __name__ == "__main__":
    unittest.main()
