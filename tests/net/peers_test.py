"""Releases travel between Sluice and other people's clients, found through a real tracker, in both directions.

One test a client, direction and version. Old clients take a hybrid torrent's pad files for files: to share such a
release they need zeros on their disk under the pad files' names, which the test puts there, and downloading one
they leave such files, which the test looks past. Those that cannot even read a hybrid torrent (clients.py) are
proven to be such with a torrent that Sluice has no part in; for them there is `publish --v1-only`.
"""

import hashlib

from clients import ALL, is_installed, reads_torrent, write_pad_files
from network import NetTest, main, read_files, wait_until

# A sound v1 torrent of one file; the info dictionary has an entry more, that version 1 knows nothing of.
PLAIN_TORRENT = "d4:infod{}6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee"
EXTRA_WITH_EMPTY_KEY = "9:file treed1:ad0:d6:lengthi1eeee"


class PeersTest(NetTest):
    def publish_and_announce(self, version):
        """A release that names a tracker, which runs, and machines for who shares it and who wants it."""
        tracker, self.sharer, self.wanter = (self.network.machine() for _ in range(3))
        self.tracker = tracker
        self.release = self.make_release()
        published = self.publish_version(self.release, version, "--tracker",
                                         f"http://{tracker.address}:6969/announce")
        self.assertEqual(published["infohash_v2"] is None, version == "v1")
        self.start_tracker(tracker, published)
        return published

    def require(self, client):
        if not is_installed(client, self):
            self.skipTest(f"{client.name} is not installed")

    def is_beyond(self, client, published, version):
        """True when this client can read no hybrid torrent, of whatever origin."""
        def reads(extra):
            torrent = self.folder / "probe.torrent"
            torrent.write_text(PLAIN_TORRENT.format(extra))
            info = torrent.read_bytes()[len("d4:info"):-1]
            return reads_torrent(client, torrent, hashlib.sha1(info).hexdigest())
        self.assertTrue(reads(""), f"{client.name} does not read the simplest torrent")
        readable = reads_torrent(client, published["torrent"], published["infohash_v1"])
        if version == "v1" or reads(EXTRA_WITH_EMPTY_KEY):
            self.assertTrue(readable)
            return False
        print(f"left out: {self.id()}: this {client.name} cannot read hybrid torrents")
        return True

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
        self.require(client)
        published = self.publish_and_announce(version)
        if self.is_beyond(client, published, version):
            return
        if version == "hybrid" and not client.knows_pad_files:
            write_pad_files(self.folder / "model.torrent", self.release)
        process = client.seed(self, self.sharer, published["torrent"], self.folder)
        self.wait_for(lambda: self.tracker_knows(self.tracker, published["infohash_v1"]), client, process)
        # A magnet link, so that its metadata comes from the client too.
        fetched = self.fetch(self.wanter, published["magnet"], "--timeout", "20")
        self.assertEqual(fetched.code, 0, str(fetched))
        self.assertEqual(read_files(self.folder / "downloads/model"), read_files(self.release))

    def they_download(self, client, version):
        self.require(client)
        published = self.publish_and_announce(version)
        if self.is_beyond(client, published, version):
            return
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
