"""--memory is the ceiling of all of fetch's processes together: releases of millions of pieces and of files with
large hash trees fit it or are refused with numbers, and metadata made to exhaust memory are refused."""

import hashlib
import json
import os
import time

import bencode
from sluice_program import ProgramTest, main

MIB = 1 << 20
BUDGET_BYTES = 512 * MIB  # fetch's --memory unless told otherwise
LIMIT_S = 100

PIECE_BYTES = 256 << 10
PIECE_COUNT = 4_018_567
METADATA_BYTES = 20 * PIECE_COUNT


def resident_bytes(pid):
    """Of a process and its children together, now. Pages that they share count in each."""
    total = 0
    try:
        with open(f"/proc/{pid}/statm") as statm:
            total = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                total += sum(resident_bytes(int(child)) for child in children.read().split())
    except (OSError, IndexError):
        pass  # it has just ended
    return total


def write_repeated(path, head, unit, count, tail):
    """In small steps: what this process takes is handed on to the peaks of those that it starts."""
    with open(path, "wb") as file:
        file.write(head)
        for start in range(0, count, 4096):
            file.write(unit * min(4096, count - start))
        file.write(tail)


def make_big_release(folder):
    """A sparse release of 981 GiB in 300 files, one of them small, and its .torrent: all pieces are zeros."""
    total_bytes = PIECE_COUNT * PIECE_BYTES
    file_bytes = total_bytes // 300 // PIECE_BYTES * PIECE_BYTES
    lengths = {f"shard-{i:03}": file_bytes for i in range(299)}
    lengths["params.json"] = PIECE_BYTES + 1
    lengths["tail"] = total_bytes - sum(lengths.values())
    (folder / "big").mkdir()
    for name, length in lengths.items():
        with open(folder / "big" / name, "wb") as file:
            file.truncate(length)
    place = b"6:pieces0:"
    info = bencode.encode({"files": [{"length": length, "path": [name]} for name, length in lengths.items()],
                           "name": "big", "piece length": PIECE_BYTES, "pieces": b""})
    head, found, tail = info.partition(place)
    assert found and place not in tail
    write_repeated(folder / "big.torrent", b"d4:info" + head + b"6:pieces%d:" % METADATA_BYTES,
                   hashlib.sha1(bytes(PIECE_BYTES)).digest(), PIECE_COUNT, tail + b"e")
    return folder / "big.torrent"


class BigTorrentTest(ProgramTest):
    def measure(self, *arguments):
        """Runs the program: its exit code, its stdout, and the peaks of resident memory, of its own process and
        of all its processes together."""
        process = self.start(*arguments, stderr=None)
        peak_bytes = 0
        end = time.monotonic() + LIMIT_S
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self.assertLess(time.monotonic(), end)
            peak_bytes = max(peak_bytes, resident_bytes(process.pid))
            time.sleep(0.01)
        stdout = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        own_bytes = usage.ru_maxrss << 10
        return process.returncode, stdout, max(own_bytes, peak_bytes)

    def succeed_within(self, peak_max, *arguments):
        code, stdout, peak_bytes = self.measure(*arguments)
        self.assertEqual(code, 0, stdout[-1000:])
        self.assert_memory(peak_bytes, peak_max)
        return stdout

    def test_four_million_pieces(self):
        torrent = make_big_release(self.folder)
        out = self.folder / "out"

        # The hashes twice: as text, and taken out of it.
        reading_max = 2 * METADATA_BYTES + 40 * MIB
        self.assertIn("shard-298", self.succeed_within(reading_max, "fetch", torrent, "--list", "-o", out))
        dry_run = self.succeed_within(reading_max, "fetch", torrent, "--dry-run", "--json", "-o", out)
        self.succeed_within(reading_max, "inspect", torrent, "--json")

        seeder, port = self.seed(torrent, self.folder)
        infohash = json.loads(dry_run.splitlines()[-1])["infohash_v1"]
        for kind, source in {"torrent": torrent, "magnet": f"magnet:?xt=urn:btih:{infohash}"}.items():
            with self.subTest(source=kind):
                target = self.folder / kind
                self.succeed_within(BUDGET_BYTES, "fetch", source, "-o", target, "--select", "params.json",
                                    "--json", *self.from_peer(port))
                self.assertEqual((target / "big/params.json").read_bytes(), bytes(PIECE_BYTES + 1))
                self.assertEqual(os.listdir(target / "big"), ["params.json"])
        self.assert_memory(resident_bytes(seeder.pid), 3 * METADATA_BYTES + 64 * MIB)

    def test_what_does_not_fit_is_told_with_numbers(self):
        torrent = make_big_release(self.folder)
        for memory, part in (("128MiB", "is too large for --memory 128 MiB; --memory 336MiB is enough"),
                             ("300MiB", "MiB are needed in all (--memory), not 300 MiB")):
            self.fail_with(2, "usage", part, "fetch", torrent, "-o", self.folder / "out", "--memory", memory,
                           "--select", "params.json", "--no-dht", "--no-lsd")
            self.assertFalse((self.folder / "out/big").exists())

    def test_hash_trees_that_do_not_fit(self):
        """libtorrent would take 4 MiB for the tree of this file. Its layer comes from what has been hashed."""
        release = self.folder / "release"
        release.mkdir()
        with open(release / "weights", "wb") as file:
            file.truncate(600 * MIB)
        published = self.publish(release, "--piece-size", "4MiB")
        _, port = self.seed(published["torrent"], self.folder)
        fetched = self.succeed_within(64 * MIB, "fetch", published["magnet"], "-o", self.folder / "out",
                                      "--memory", "64MiB", "--json", *self.from_peer(port))
        saved = layers_of(self.folder / "out/.sluice" / f"{published['infohash_v1']}.torrent")
        self.assertEqual(saved, layers_of(published["torrent"]))
        self.assertGreater(len(saved), 150 * 32)
        self.assertIn('"event":"result"', fetched.splitlines()[-1])

    def test_bombs(self):
        """Each as large as metadata may be, and one that is larger."""
        for memory, memory_bytes, share in (("512MiB", BUDGET_BYTES, 1), ("64MiB", 64 * MIB, 15)):
            bombs = {
                "lists": (b"l" * 10, b"le", 80_000_000 // share, b"e" * 10),
                "depth": (b"", b"l", 160_000_000 // share, b""),
                "numbers": (b"d4:infol", b"i1e", 50_000_000 // share, b"ee"),
                "files": (b"d4:infod5:filesl", b"d6:lengthi1e4:pathl1:aee", 6_500_000 // share, b"eee"),
                "files that can be counted": (b"d4:infod5:filesl", b"d6:lengthi1e4:pathl1:aee",
                                              450_000 // share, b"eee"),
                "strings": (b"d8:announcel", b"0:", 80_000_000 // share, b"ee"),
                "a string without an end": (b"d4:info160000000:", b"x" * 1000, 160_000 // share, b""),
            }
            for name, parts in bombs.items():
                path = self.folder / "bomb.torrent"
                write_repeated(path, *parts)
                with self.subTest(bomb=name, memory=memory):
                    code, _, peak_bytes = self.measure("fetch", path, "--list", "-o", self.folder / "out",
                                                       "--memory", memory)
                    # These could be read with more memory, as far as can be told without decoding them.
                    fits_more = memory == "64MiB" and name in ("numbers", "files")
                    self.assertEqual(code, 2 if fits_more else 9)
                    self.assert_memory(peak_bytes, memory_bytes)
        write_repeated(path, b"d4:info170000000:", b"x" * 1000, 170_000, b"e")
        self.fail_with(9, "malformed", "expected at most", "fetch", path, "--list", "-o", self.folder / "out")


def layers_of(torrent):
    """The text of the key "piece layers" and what follows it."""
    with open(torrent, "rb") as file:
        return file.read().partition(b"12:piece layers")[2]


if __name__ == "__main__":
    main()
