"""Releases travel between Sluice and other people's clients, found through a real tracker, in both directions.

One test a client, direction and version. aria2 before 1.37 and transmission before 4 cannot read hybrid torrents,
whoever has made them; the test proves that with torrents that Sluice has no part in. To them it gives what version 1
sees of the hybrid torrent: files with pad files between them, which these clients take for files. To share such a
release they need zeros on their disk under the pad files' names, which the test puts there, and downloading one they
leave such files, which the test looks past. What `publish --v1-only` makes for them has no pad files.
"""

import hashlib
import subprocess

from clients import ALL, is_installed, reads_torrent, write_pad_files
from network import DEBIANS_PYTHON, NetTest, main, read_files, wait_until
from raw_peer import bdecode, bencode

# A sound v1 torrent of one file; the info dictionary can have an entry more, that version 1 knows nothing of.
PLAIN_TORRENT = "d4:infod{}6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee"
EXTRA = "9:file treed1:ad1:xd6:lengthi1eeee"
EXTRA_WITH_EMPTY_KEY = "9:file treed1:ad0:d6:lengthi1eeee"  # as BEP 52 wants it

LIBTORRENTS_HYBRID = """
import libtorrent, os, sys
folder, torrent = sys.argv[1:]
files = libtorrent.file_storage()
libtorrent.add_files(files, folder)
made = libtorrent.create_torrent(files, 65536)
libtorrent.set_piece_hashes(made, os.path.dirname(folder))
open(torrent, "wb").write(libtorrent.bencode(made.generate()))
"""


class PeersTest(NetTest):
    def publish_and_announce(self, client, version):
        """A release that names a tracker, which runs, and machines for who shares it and who wants it."""
        if not is_installed(client, self):
            self.skipTest(f"{client.name} is not installed")
        self.tracker, self.sharer, self.wanter = (self.network.machine() for _ in range(3))
        self.release = self.make_release()
        published = self.publish_version(self.release, version, "--tracker",
                                         f"http://{self.tracker.address}:6969/announce")
        self.assertEqual(published["infohash_v2"] is None, version == "v1")
        if not reads_torrent(client, published["torrent"], published["infohash_v1"]):
            self.assertEqual(version, "hybrid")
            self.check_reads_no_hybrids(client)
            published = self.version_1_of(published)
        self.start_tracker(self.tracker, published)
        return published

    def check_reads_no_hybrids(self, client):
        """Of whatever origin."""
        def reads(content):
            torrent = self.folder / "probe.torrent"
            torrent.write_bytes(content)
            return reads_torrent(client, torrent, infohash_of(content))
        self.assertTrue(reads(PLAIN_TORRENT.format("").encode()))
        self.assertTrue(reads(PLAIN_TORRENT.format(EXTRA).encode()))
        self.assertFalse(reads(PLAIN_TORRENT.format(EXTRA_WITH_EMPTY_KEY).encode()))
        if self.has_libtorrent():
            theirs = self.folder / "libtorrent.torrent"
            subprocess.run([DEBIANS_PYTHON, "-c", LIBTORRENTS_HYBRID, self.release, theirs], check=True, timeout=20)
            self.assertFalse(reads(theirs.read_bytes()))

    def version_1_of(self, published):
        with open(published["torrent"], "rb") as file:
            root = bdecode(file.read())[0]
        del root[b"piece layers"]
        for key in (b"file tree", b"meta version"):
            del root[b"info"][key]
        content = bencode(root)
        torrent = self.folder / "version1.torrent"
        torrent.write_bytes(content)
        infohash = infohash_of(content)
        tracker = root[b"announce"].decode()
        return {"torrent": str(torrent), "infohash_v1": infohash, "infohash_v2": None,
                "magnet": f"magnet:?xt=urn:btih:{infohash}&tr={tracker}"}

    def start_client(self, client, machine, *arguments):
        log = open(self.folder / "client.log", "w")
        self.addCleanup(log.close)
        return self.start_on(machine, *arguments, stdout=log, stderr=log)

    def wait_for(self, condition, client, process, limit_s=40):
        def look():
            if process.poll() not in (None, 0):
                raise AssertionError(f"{client.name} ended with {process.returncode}")
            return condition()
        try:
            wait_until(look, limit_s)
        except AssertionError as error:
            log = (self.folder / "client.log").read_text()
            raise AssertionError(f"{error}; {client.name} says: {log[-3000:]}") from None

    def they_seed(self, client, version):
        published = self.publish_and_announce(client, version)
        expected = read_files(self.release)
        if version == "hybrid" and not client.knows_pad_files:
            write_pad_files(published["torrent"], self.release)
        process = client.seed(self, self.sharer, published["torrent"], self.folder)
        self.wait_for(lambda: self.tracker_knows(self.tracker, published["infohash_v1"]), client, process)
        # A magnet link, so that its metadata comes from the client too.
        fetched = self.fetch(self.wanter, published["magnet"], "--timeout", "20")
        self.assertEqual(fetched.code, 0, str(fetched))
        self.assertEqual(read_files(self.folder / "downloads/model"), expected)

    def they_download(self, client, version):
        published = self.publish_and_announce(client, version)
        self.start_seed(self.sharer, published["torrent"], self.folder)
        wait_until(lambda: self.tracker_knows(self.tracker, published["infohash_v1"]), 20)
        folder = self.folder / "theirs"
        folder.mkdir()
        process = client.download(self, self.wanter, published["torrent"], folder)
        expected = read_files(self.release)
        self.wait_for(lambda: self.with_empty(read_files(folder / "model")) == expected, client, process)

    @staticmethod
    def with_empty(files):
        """Some clients make a file of no bytes, some do not, and nothing of it can be downloaded."""
        return {"empty": b"", **{path: data for path, data in files.items() if not path.endswith(".aria2")}}


def infohash_of(torrent):
    return hashlib.sha1(bencode(bdecode(torrent)[0][b"info"])).hexdigest()


def add_tests():
    for client in ALL:
        for version in ("v1", "hybrid"):
            name = f"{client.name.replace('-', '_')}_{version}"
            setattr(PeersTest, f"test_fetch_from_{name}",
                    lambda self, client=client, version=version: self.they_seed(client, version))
            setattr(PeersTest, f"test_seed_to_{name}",
                    lambda self, client=client, version=version: self.they_download(client, version))


add_tests()

if __name__ == "__main__":
    main()
