"""Torrents of millions of pieces fit the memory budget, and metadata made to exhaust memory is refused."""

import os
import random
import sys

import bencode
from sluice_program import ProgramTest, main

MIB = 1 << 20
BUDGET_BYTES = 512 * MIB  # fetch's --memory unless told otherwise
PIECES_PLACE = b"6:pieces0:"


def write_pieces(path, torrent, count):
    """The torrent, with `count` random hashes where it has none. In small steps: a process that grew before it
    starts another passes its peak on to what the kernel says of that one."""
    head, place, tail = torrent.partition(PIECES_PLACE)
    assert place and PIECES_PLACE not in tail
    noise = random.Random(1)
    with open(path, "wb") as file:
        file.write(head + b"6:pieces%d:" % (20 * count))
        for start in range(0, count, 8192):
            file.write(noise.randbytes(20 * min(8192, count - start)))
        file.write(tail)


def write_repeated(path, head, unit, count, tail=b""):
    with open(path, "wb") as file:
        file.write(head)
        for start in range(0, count, 4096):
            file.write(unit * min(4096, count - start))
        file.write(tail)


class BigTorrentTest(ProgramTest):
    def measure(self, *arguments):
        """Runs the program: its exit code, its stdout, its peak resident memory."""
        process = self.start(*arguments)
        stdout = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        peak_bytes = usage.ru_maxrss << 10
        print(f"{' '.join(map(str, arguments))}: peak {peak_bytes / MIB:.0f} MiB, {usage.ru_utime + usage.ru_stime:.2f} CPU s", file=sys.stderr)
        return process.returncode, stdout, peak_bytes

    def test_four_million_pieces(self):
        PIECE_COUNT=4_018_567
        total = PIECE_COUNT*(256<<10)-12345
        path = self.folder / "big.torrent"
        write_pieces(path, bencode.encode({"info":{"files":[{"length":total//300, "path":["w", f"s{i}"]} for i in range(299)]+[{"length": total-total//300*299, "path":["last"]}], "name":"big", "piece length":256<<10, "pieces":b""}}), PIECE_COUNT)
        self.measure("fetch", path, "--list")
        self.measure("fetch", path, "--dry-run", "--json")
        self.measure("fetch", path, "--dry-run", "--json")
        self.measure("inspect", path, "--json")
    def test_b(self):
        for name, content in (("list", (b"l"*10, b"le",100_000_000 , b"e"*10)),("int", (b"l",b"i1e",80_000_000,b"e")), ("few", (b"d4:infod5:filesl" , b"d6:lengthi1e4:pathl1:aee",1_100_000,b"ee"))):
          path = self.folder / "bomb.torrent"
          write_repeated(path, *content)
          print(self.measure("fetch", path, "--list"))


if __name__ == "__main__":
    main()
