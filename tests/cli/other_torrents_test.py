"""Torrents that others made: each proves what it was made of, and each flipped byte is found."""

import os
import random
import shutil
import subprocess
import unittest

from sluice_program import ProgramTest, main

DEBIANS_PYTHON = "/usr/bin/python3"  # the one for which python3-libtorrent is

LIBTORRENT = """
import libtorrent as lt, os, sys
folder, out, piece_bytes, flag = sys.argv[1:]
files = lt.file_storage()
lt.add_files(files, folder)
flags = {'v1': lt.create_torrent.v1_only, 'v2': lt.create_torrent.v2_only, 'hybrid': 0}[flag]
made = lt.create_torrent(files, int(piece_bytes), flags)
lt.set_piece_hashes(made, os.path.dirname(folder))
open(out, 'wb').write(lt.bencode(made.generate()))
"""

PIECE_BYTES = 32768
# No empty file: transmission-create leaves those out.
SIZES = {"a/small.json": 11, "a/weights.safetensors": 700_001, "b.bin": 2 * PIECE_BYTES, "z.txt": 40_000}


def by_libtorrent(kind):
    return lambda folder, out: [DEBIANS_PYTHON, "-c", LIBTORRENT, folder, out, str(PIECE_BYTES), kind]


# What makes a torrent, and what it proves with.
MAKERS = {
    "mktorrent": (lambda folder, out: ["mktorrent", "-l", "15", "-o", out, folder], {"v1"}),
    "transmission": (lambda folder, out: ["transmission-create", "-s", "32", "-o", out, folder], {"v1"}),
    "libtorrent, v1": (by_libtorrent("v1"), {"v1"}),
    "libtorrent, v2": (by_libtorrent("v2"), {"v2"}),
    "libtorrent, hybrid": (by_libtorrent("hybrid"), {"v1", "v2"}),
}


class OtherTorrentsTest(ProgramTest):
    def make_release(self, random_bytes):
        folder = self.folder / "release"
        for path, size in SIZES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(random_bytes.randbytes(size))
        return folder

    def check(self, code, folder, torrent, *options):
        verified = self.sluice("verify", folder, "--torrent", torrent, "--json", *options)
        self.assertEqual(verified.code, code, str(verified))
        files = {line["path"]: line for line in verified.lines() if line["event"] == "file"}
        return files, verified.result()

    def test_they_prove_what_they_were_made_of_and_find_each_flipped_byte(self):
        dice = random.Random(1)
        folder = self.make_release(dice)
        for maker, (command, proven_by) in MAKERS.items():
            with self.subTest(maker):
                torrent = self.folder / f"{maker}.torrent"
                subprocess.run(command(str(folder), str(torrent)), check=True, stdout=subprocess.DEVNULL)
                files, result = self.check(0, folder, torrent)
                self.assertEqual(set(result["proven_by"]), proven_by)
                self.assertEqual({file["state"] for file in files.values()}, {"ok"})
                self.assertEqual(set(files), set(SIZES))
                self.assertEqual(result["bytes"], sum(SIZES.values()))
                for path, size in SIZES.items():
                    self.find_flipped_byte(folder, torrent, path, dice.randrange(size))

    def find_flipped_byte(self, folder, torrent, path, at):
        with open(folder / path, "r+b") as file:
            file.seek(at)
            right = file.read(1)
            file.seek(at)
            file.write(bytes([right[0] ^ 1 << at % 8]))
            file.flush()
            files, result = self.check(1, folder, torrent)
            self.assertEqual(files[path]["state"], "damaged")
            self.assertTrue(any(part["offset"] <= at < part["offset"] + part["length"]
                                for part in files[path]["damaged"]))
            # A v1 piece may run over the neighbours, and is all that is known; beyond it nothing is blamed.
            self.assertLessEqual(result["damaged_bytes"], PIECE_BYTES)
            file.seek(at)
            file.write(right)

    def test_read_only_media_verify_cached_or_direct(self):
        folder = self.make_release(random.Random(2))
        torrent = self.folder / "release.torrent"
        subprocess.run(by_libtorrent("hybrid")(str(folder), str(torrent)), check=True)
        media = self.folder / "media"
        media.mkdir()
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", media]).returncode != 0:
            self.skipTest("no file system may be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", media], check=True)
        shutil.copytree(folder, media / "release")
        subprocess.run(["mount", "-o", "remount,ro", media], check=True)
        for options in [], ["--direct"]:
            files, result = self.check(0, media / "release", torrent, *options)
            self.assertEqual({file["state"] for file in files.values()}, {"ok"})
            self.assertTrue(result["ok"])

    def test_a_direct_read_proves_the_same_and_little_memory_is_enough(self):
        folder = self.make_release(random.Random(3))
        torrent = self.folder / "release.torrent"
        subprocess.run(by_libtorrent("hybrid")(str(folder), str(torrent)), check=True)
        for options in ["--direct"], ["--memory", "1"], ["--direct", "--memory", "64KiB", "--threads", "3"]:
            _, result = self.check(0, folder, torrent, *options)
            self.assertTrue(result["ok"])


if __name__ == "__main__":
    main()
