"""What a fetch tells while it works: what it knows beforehand, progress that never runs backwards, and why it waits."""

import os
import signal

from network import NetTest, children_of, main, read_files, wait_until
from raw_peer import BITFIELD, EXTENSIONS, RawPeer, SharedRelease

RELEASE_BYTES = 3_000_001
PORT = 6881
PHASES = ["metadata", "fetching", "seeding"]  # between them perhaps "checking", which counts for itself


class PartialPeer(RawPeer):
    """Lacks the last pieces."""

    reserved = [EXTENSIONS]

    def tell_pieces(self, wire):
        count = (len(self.release.data) + self.release.piece_bytes - 1) // self.release.piece_bytes
        bits = "1" * (count - 10) + "0" * 10
        bits += "0" * (-len(bits) % 8)
        wire.send(BITFIELD, bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)))


class ProgressTest(NetTest):
    def prepare(self, machines=2, version="hybrid"):
        self.release = self.make_release()
        self.published = self.publish_version(self.release, version)
        self.torrent, self.magnet = self.published["torrent"], self.published["magnet"]
        made = [self.network.machine() for _ in range(machines)]
        self.wanter, self.sharer = made[:2]
        return made[2:]

    def peer(self):
        return ["--peer", f"{self.sharer.address}:{PORT}"]

    def assert_runs_forward(self, finished):
        events = [line for line in finished.lines() if line["event"] == "progress"]
        self.assertGreater(len(events), 1, str(finished))
        phases = [PHASES.index(event["phase"]) for event in events if event["phase"] != "checking"]
        self.assertEqual(phases, sorted(phases))
        done = [event["done"] for event in events if event["phase"] == "fetching"]
        self.assertEqual(done, sorted(done))
        self.assertTrue(all(event["done"] <= event["total"] for event in events))

    def event(self, finished, name):
        found, = (line for line in finished.lines() if line["event"] == name)
        return found

    def waits(self, finished):
        return [line["waiting"] for line in finished.lines() if line.get("waiting")]

    # ---- Before the payload ----

    def test_what_is_known_beforehand(self):
        self.prepare()
        self.start_seed(self.sharer, self.torrent, self.folder, "--limit-up", "1M/s")
        finished = self.fetch(self.wanter, self.magnet, *self.peer(), "--timeout", "20")
        self.assertEqual(finished.code, 0, str(finished))
        self.assert_runs_forward(finished)
        total = sum(len(data) for data in read_files(self.release).values())
        self.assertEqual(self.event(finished, "metadata")["bytes"], total)
        preflight = self.event(finished, "preflight")
        self.assertEqual((preflight["wanted_bytes"], preflight["present_bytes"]), (total, 0))
        self.assertGreater(preflight["free_bytes"], total)
        self.assertNotEqual(preflight["file_system"], "")
        swarm = self.event(finished, "swarm")
        self.assertEqual((swarm["peers"], swarm["seeds"]), (1, 1))
        self.assertGreaterEqual(swarm["availability"], 1)

        (self.folder / "downloads/model/params.json").unlink()
        again = self.fetch(self.wanter, self.magnet, *self.peer(), "--timeout", "20")
        self.assertEqual(again.code, 0, str(again))
        self.assertEqual(self.event(again, "preflight")["present_bytes"], total - 312)

    # ---- Progress ----

    def test_forward_past_wrong_blocks_and_a_killed_process(self):
        """Data that turn out wrong, and what was not durable, are fetched again; nobody sees a step back."""
        class Liar(RawPeer):
            def block(self, piece, offset, count):
                return bytes(count)

        honest, = self.prepare(3, "v1")
        peer = Liar(self.sharer, PORT, SharedRelease(self.folder / "model.torrent", self.release))
        self.addCleanup(peer.close)
        fetching = self.start_fetch(self.wanter, self.torrent, *self.peer(), "--peer", f"{honest.address}:{PORT}",
                                    "--timeout", "30", "--limit-down", "1M/s")
        wait_until(lambda: "arrived damaged" in self.told(fetching).stdout)
        self.start_seed(honest, self.torrent, self.folder)
        self.wait_until_bytes(fetching, self.folder / "downloads", RELEASE_BYTES // 2)
        worker, = children_of(fetching)
        os.kill(worker, signal.SIGKILL)
        finished = self.finish(fetching)
        self.assertEqual(finished.code, 0, str(finished))
        self.assertEqual(read_files(self.folder / "downloads/model"), read_files(self.release))
        self.assertIn("is started again", finished.stdout)
        self.assert_runs_forward(finished)

    # ---- Why nothing arrives ----

    def test_no_peers(self):
        self.prepare()
        finished = self.fetch(self.wanter, self.torrent, "--timeout", "7")
        self.assertEqual(finished.code, 5, str(finished))
        self.assertEqual(set(self.waits(finished)), {"no peers"})
        self.assertTrue(finished.error()["message"].endswith(
            "no tracker or peer is known; give --peer or --tracker"), finished.error())

    def test_no_peers_and_a_tracker_that_fails(self):
        self.prepare()
        url = f"http://{self.sharer.address}:6969/announce"  # nobody listens
        finished = self.fetch(self.wanter, self.magnet, "--tracker", url, "--timeout", "7")
        self.assertEqual(finished.code, 5, str(finished))
        self.assertIn("no peers; 1 of 1 tracker fails", self.waits(finished))
        self.assertIn(url, finished.error()["message"])

    def test_the_peers_lack_parts(self):
        """What there is arrives, and the rest is said to be missing."""
        self.prepare(version="v1")
        peer = PartialPeer(self.sharer, PORT, SharedRelease(self.folder / "model.torrent", self.release))
        self.addCleanup(peer.close)
        finished = self.fetch(self.wanter, self.torrent, *self.peer(), "--timeout", "7")
        self.assertEqual(finished.code, 5, str(finished))
        pieces = len(peer.release.data) // peer.release.piece_bytes + 1
        lacking = f"the connected peers lack parts of it (availability 0.{100 * (pieces - 10) // pieces})"
        self.assertEqual(self.waits(finished)[-1], lacking)
        self.assertIn(lacking, finished.error()["message"])
        self.assertLess(self.event(finished, "swarm")["availability"], 1)
        self.assertEqual(peer.problems, [])

    def test_a_peer_that_sends_nothing(self):
        """It has everything and lets nobody have it."""
        class Miser(RawPeer):
            def handle(self, wire, kind, payload):
                pass

        self.prepare(version="v1")
        peer = Miser(self.sharer, PORT, SharedRelease(self.folder / "model.torrent", self.release))
        self.addCleanup(peer.close)
        finished = self.fetch(self.wanter, self.torrent, *self.peer(), "--timeout", "7")
        self.assertEqual(finished.code, 5, str(finished))
        self.assertIn("the connected peers send nothing", self.waits(finished))


if __name__ == "__main__":
    main()
