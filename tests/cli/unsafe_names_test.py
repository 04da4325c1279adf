"""Torrents whose names could harm or confuse are refused with exit 9, before anything is created."""

import hashlib
import os

import bencode
from sluice_program import ProgramTest, main

PIECE_BYTES = 16384

# What is wrong -> the paths of a torrent's files, as elements. Bytes where they are no UTF-8.
UNSAFE_PATHS = {
    "'..'": [["..", "passwd"]],
    "has the element '..'": [["a", "..", "..", "b"]],
    "has the element '.'": [[".", "a"]],
    "has a slash": [["/etc/passwd"]],
    "is absolute": [["", "etc", "passwd"]],
    "has an empty element": [["a", "", "b"]],
    "has a control character": [["a\nb"], ["a\0b"], ["a\x1b[2J"], ["a\x7f"], ["a\u0085"],
                                ["cod.\u202Eexe"], ["a\u2066b"], ["a\u200Fb"], ["\uFEFFa"]],
    "256 bytes": [["a" * 256], ["\u00E9" * 128], ["a" * 256, "b"]],
    "17 elements": [["a"] * 17],
    "its own files": [[".sluice", "journal"], [".SLUICE", "journal"]],
}

CONFUSING_PAIRS = {
    "stands twice": [("weights", "weights"), ("sub\\a", "sub_a")],
    "both a file and a folder": [("a", "a/b")],
}


def v1_info(files, name="release"):
    total = sum(file["length"] for file in files)
    return {"files": files, "name": name, "piece length": PIECE_BYTES,
            "pieces": hashlib.sha1(b"x").digest() * -(-total // PIECE_BYTES)}


def v1_file(*path, **more):
    return {"length": 5, "path": list(path), **more}


def v2_info(paths, name="release", **more):
    """`more` goes into the files' dictionaries."""
    tree = {}
    for path in paths:
        folder = tree
        for element in path:
            folder = folder.setdefault(element, {})
        folder[""] = {"length": 5, "pieces root": b"r" * 32, **more}
    return {"file tree": tree, "meta version": 2, "name": name, "piece length": PIECE_BYTES}


class UnsafeNamesTest(ProgramTest):
    def refuse(self, info, cause):
        # The folder's own name is of no release: what appears anywhere was made by the fetch.
        torrent = self.folder / "x.torrent"
        torrent.write_bytes(bencode.encode({"info": info}))
        output = self.folder / "a" / "b" / "output"
        for options in ([], ["--list"], ["--dry-run"]):
            refused = self.sluice("fetch", torrent, "-o", output, "--json", "--no-dht", "--no-lsd", *options)
            with self.subTest(cause=cause, info=info, options=options):
                self.assertEqual(refused.code, 9, str(refused))
                self.assertEqual(refused.error()["kind"], "malformed")
                self.assertIn(cause, refused.error()["message"])
                self.assertEqual(os.listdir(self.folder), ["x.torrent"])

    def test_a_safe_one_is_not_refused(self):
        """Or else what follows would prove nothing."""
        for info in (v1_info([v1_file("a"), v1_file("b", "c")]), v2_info([["a"], ["b", "c"]])):
            torrent = self.folder / "x.torrent"
            torrent.write_bytes(bencode.encode({"info": info}))
            listed = self.succeed("fetch", torrent, "-o", self.folder / "output", "--list", "--json")
            paths = [line["path"] for line in listed.lines() if line["event"] == "file"]
            self.assertEqual(paths, ["a", "b/c"])

    def test_unsafe_paths(self):
        for cause, paths in UNSAFE_PATHS.items():
            for path in paths:
                self.refuse(v1_info([v1_file("good"), v1_file(*path)]), cause)
                if "" not in path:  # there the tree's own mark of a file
                    self.refuse(v2_info([["good"], path]), cause)

    def test_unsafe_names_of_the_release(self):
        for cause, name in (("'..'", ".."), ("'.'", "."), ("is empty", ""), ("is absolute", "/etc"),
                            ("one element", "a/b"),
                            ("has a control character", "a\u202Eb"), ("256 bytes", "a" * 256),
                            ("its own files", ".Sluice")):
            self.refuse(v1_info([v1_file("a")], name), cause)
            self.refuse(v2_info([["a"]], name), cause)
            # A single file has this name itself.
            info = v1_info([v1_file("a")], name)
            del info["files"]
            self.refuse({**info, "length": 5}, cause)

    def test_names_that_are_one(self):
        for cause, pairs in CONFUSING_PAIRS.items():
            for first, second in pairs:
                paths = [first.split("/"), second.split("/")]
                self.refuse(v1_info([v1_file(*path) for path in paths]), cause)
                if first not in (second, paths[1][0]):  # a dictionary cannot have them both
                    self.refuse(v2_info(paths), cause)

    def test_links(self):
        self.refuse(v1_info([v1_file("a", attr="l", **{"symlink path": ["etc", "passwd"]})]), "symbolic link")
        self.refuse(v1_info([v1_file("a", attr="l")]), "symbolic links are not supported")
        self.refuse(v1_info([v1_file("a", **{"symlink path": [".."]})]), "symbolic link")
        self.refuse(v2_info([["a"]], attr="l"), "symbolic links are not supported")

    def test_what_careless_makers_write_is_taken_and_told(self):
        """Names in Latin-1, backslashes, names that differ in case, the executable attribute."""
        torrent = self.folder / "x.torrent"
        info = v1_info([v1_file(b"caf\xe9", attr="x"), v1_file("a\\b"), v1_file("README"), v1_file("readme")])
        torrent.write_bytes(bencode.encode({"info": {**info, "length": 5}}) + b"\n")
        listed = self.succeed("fetch", torrent, "-o", self.folder / "output", "--list", "--json")
        paths = [line["path"] for line in listed.lines() if line["event"] == "file"]
        self.assertEqual(paths, ["caf\u00e9", "a_b", "README", "readme"])
        warnings = [line["message"] for line in listed.lines() if line["event"] == "warning"]
        for part in ("read as WINDOWS-1252", "backslash", "'length' is ignored", "1 byte after its end"):
            self.assertTrue(any(part in warning for warning in warnings), (part, warnings))


if __name__ == "__main__":
    main()
