"""Fetches over a bad network: packets get lost, peers vanish, stay silent, lie or attack, the disk fills up.

Every fetch here must end with the right bytes, or with the right exit code and a sentence that says why.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time

from network import (DEBIANS_PYTHON, NetTest, Relay, children_of, kill, main, read_files, used_bytes, wait_until)
from clients import LIBTORRENT_PEER
from raw_peer import (BLOCK, EXTENSIONS, FAST, HASHES, METADATA_ID, REQUEST, V2, RawPeer, SharedRelease, hashes_asked)

RELEASE_BYTES = 6_000_001
PORT = 6881


class BadNetworkTest(NetTest):
    def prepare(self, version="hybrid", machines=2, size=RELEASE_BYTES):
        self.release = self.make_release({"weights.bin": size, "params.json": 312})
        self.published = self.publish_version(self.release, version)
        self.torrent, self.magnet = self.published["torrent"], self.published["magnet"]
        made = [self.network.machine() for _ in range(machines)]
        self.wanter, self.honest = made[:2]
        return made[2:]

    def share(self, machine=None, *options):
        return self.start_seed(machine or self.honest, self.torrent, self.folder, *options)

    @staticmethod
    def peers(*machines):
        return [word for machine in machines for word in ("--peer", f"{machine.address}:{PORT}")]

    def assert_arrived(self, finished, output="downloads"):
        self.assertEqual(finished.code, 0, str(finished))
        self.assertEqual(read_files(self.folder / output / "model"), read_files(self.release))

    def assert_no_peers(self, finished, *parts):
        self.assertEqual(finished.code, 5, str(finished))
        error = finished.error()
        self.assertEqual(error["kind"], "no_peers")
        for part in parts:
            self.assertIn(part, error["message"])

    def raw_peer(self, kind, machine):
        peer = kind(machine, PORT, SharedRelease(self.folder / "model.torrent", self.release))
        self.addCleanup(peer.close)
        return peer


class LineTest(BadNetworkTest):
    def check_loss(self, percent):
        self.prepare()
        self.share()
        for machine in (self.wanter, self.honest):
            machine.lose(percent)
        self.assert_arrived(self.fetch(self.wanter, self.magnet, *self.peers(self.honest), "--timeout", "60"))
        self.assertGreater(self.wanter.lost_packets(), 0)
        self.assertGreater(self.honest.lost_packets(), 0)

    def test_2_percent_of_the_packets_are_lost(self):
        self.check_loss(2)

    def test_10_percent_of_the_packets_are_lost(self):
        self.check_loss(10)

    def test_a_line_of_20_mbit(self):
        self.prepare()
        self.share()
        self.honest.limit_line("20mbit")
        self.assert_arrived(self.fetch(self.wanter, self.magnet, *self.peers(self.honest), "--timeout", "20"))
        self.assertGreater(self.honest.delayed_packets(), 0)

    def test_a_line_of_a_quarter_of_a_second_there_and_back(self):
        middle, = self.prepare(machines=3)
        self.share()
        relay = Relay(middle, PORT, (self.honest.address, PORT), 0.125)
        self.addCleanup(relay.close)
        self.assert_arrived(self.fetch(self.wanter, self.magnet, *self.peers(middle), "--timeout", "20"))
        self.assertGreater(relay.bytes, RELEASE_BYTES)


class VanishingPeerTest(BadNetworkTest):
    def test_a_peer_dies_and_another_one_comes(self):
        """The second one finds the fetch by the tracker."""
        tracker, second = self.prepare(machines=4)
        url = self.start_tracker(tracker, self.published)
        first = self.share(self.honest, "--limit-up", "1M/s", "--tracker", url)
        wait_until(lambda: self.tracker_knows(tracker, self.published["infohash_v1"]))
        fetching = self.start_fetch(self.wanter, self.magnet, "--tracker", url, "--timeout", "40")
        self.wait_until_bytes(fetching, self.folder / "downloads", RELEASE_BYTES // 4)
        kill(first)
        self.share(second, "--tracker", url)
        self.assert_arrived(self.finish(fetching))

    def test_a_peer_is_cut_off_and_another_one_goes_on(self):
        """Nobody tells the fetch that the first one is gone: what it owes has to be asked for again."""
        second, = self.prepare(machines=3)
        self.share(self.honest, "--limit-up", "1M/s")
        self.share(second, "--limit-up", "500K/s")
        fetching = self.start_fetch(self.wanter, self.magnet, *self.peers(self.honest, second), "--timeout", "60")
        self.wait_until_bytes(fetching, self.folder / "downloads", RELEASE_BYTES // 4)
        self.honest.cut_off()
        self.assert_arrived(self.finish(fetching))

    def test_the_only_peer_dies_and_the_next_call_goes_on(self):
        self.prepare()
        seeder = self.share(self.honest, "--limit-up", "1M/s")
        fetching = self.start_fetch(self.wanter, self.magnet, *self.peers(self.honest), "--timeout", "3")
        self.wait_until_bytes(fetching, self.folder / "downloads", RELEASE_BYTES // 3)
        kill(seeder)
        self.assert_no_peers(self.finish(fetching), "payload")
        self.share()
        finished = self.fetch(self.wanter, self.magnet, *self.peers(self.honest), "--timeout", "20")
        self.assert_arrived(finished)
        # A third was there; the pieces that were under way may be fetched again.
        self.assertLess(finished.result()["downloaded_bytes"], RELEASE_BYTES * 5 // 6)


class LyingPeerTest(BadNetworkTest):
    def start_liar(self, machine):
        """python3-libtorrent, which has been told that the folder is right."""
        if not self.has_libtorrent():
            self.skipTest("python3-libtorrent is not installed")
        folder = self.folder / "damaged"
        (folder / "model").mkdir(parents=True)
        for path, data in read_files(self.release).items():
            (folder / "model" / path).write_bytes(bytes(byte ^ 0x55 for byte in data))
        self.log = self.folder / "liar.log"
        with open(self.log, "w") as log:
            self.start_on(machine, DEBIANS_PYTHON, "-B", LIBTORRENT_PEER, "lie", machine.address, self.torrent,
                          folder, stdout=log)
        wait_until(lambda: self.is_open(machine, PORT))

    def liar_uploaded(self):
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return max((line.get("uploaded", 0) for line in lines), default=0)

    def check_wrong_blocks(self, version):
        """Alone at first, so that it is believed; it has no rate limit, the honest one has."""
        liar, = self.prepare(version, machines=3)
        self.start_liar(liar)
        fetching = self.start_fetch(self.wanter, self.torrent, *self.peers(liar, self.honest), "--timeout", "40")
        wait_until(lambda: self.liar_uploaded() > 0)
        self.share(self.honest, "--limit-up", "1M/s")
        self.assert_arrived(self.finish(fetching))
        # Banned: in the six seconds that the honest one takes it could have sent everything many times.
        self.assertLess(self.liar_uploaded(), RELEASE_BYTES // 2)

    def test_wrong_blocks_v1(self):
        self.check_wrong_blocks("v1")

    def test_wrong_blocks_hybrid(self):
        self.check_wrong_blocks("hybrid")

    def test_one_wrong_block_in_every_piece(self):
        """A liar that is mostly right, and at work beside an honest one."""
        class OneWrongBlock(RawPeer):
            def block(self, piece, offset, count):
                data = super().block(piece, offset, count)
                return bytes(count) if offset == BLOCK else data

        liar, = self.prepare("v1", machines=3)
        self.share(self.honest, "--limit-up", "1M/s")
        peer = self.raw_peer(OneWrongBlock, liar)
        self.assert_arrived(self.fetch(self.wanter, self.torrent, *self.peers(liar, self.honest), "--timeout", "40"))
        self.assertGreater(peer.blocks_sent, 0)
        self.assertLess(peer.blocks_sent * BLOCK, RELEASE_BYTES)
        self.assertEqual(peer.problems, [])

    def test_an_attacker_who_comes_back_from_other_ports(self):
        """Each connection sends rubbish until it is thrown out. The address has a budget."""
        class Attacker(RawPeer):
            ended = False

            def block(self, piece, offset, count):
                return os.urandom(count)

            def attack(self, address):
                while not self.ended:
                    with contextlib.suppress(OSError):
                        self.call(address)
                    time.sleep(0.01)

        attacker, = self.prepare("v1", machines=3)
        self.share(self.honest, "--limit-up", "1M/s")
        peer = self.raw_peer(Attacker, attacker)
        self.addCleanup(setattr, peer, "ended", True)
        fetching = self.start_fetch(self.wanter, self.torrent, *self.peers(self.honest), "--port", str(PORT),
                                    "--timeout", "40")
        for _ in range(3):
            threading.Thread(target=peer.attack, args=[(self.wanter.address, PORT)], daemon=True).start()
        finished = self.finish(fetching)
        self.assert_arrived(finished)
        self.assertGreater(peer.blocks_sent, 0)
        self.assertLess(finished.result()["downloaded_bytes"], 4 * RELEASE_BYTES)

    def test_an_honest_peer_is_not_blamed_for_wrong_blocks_of_an_earlier_run(self):
        """They are on the disk, of pieces that were not whole yet. Whoever completes these is not their sender."""
        class WrongBeginnings(RawPeer):
            begun = set()

            def handle(self, wire, kind, payload):
                if kind == REQUEST:
                    piece, offset, count = struct.unpack(">III", payload)
                    if offset + count == self.release.piece_bytes:
                        return  # the last block never comes
                    self.begun.add(piece)
                super().handle(wire, kind, payload)

            def block(self, piece, offset, count):
                return bytes(count)

        liar, = self.prepare("v1", machines=3)
        peer = self.raw_peer(WrongBeginnings, liar)
        fetching = self.start_fetch(self.wanter, self.torrent, *self.peers(liar), "--timeout", "40")
        wait_until(lambda: len(peer.begun) >= 6)
        fetching.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(fetching).code, 7)
        peer.close()
        self.share(self.honest)
        finished = self.fetch(self.wanter, self.torrent, *self.peers(self.honest), "--timeout", "20")
        self.assertIn("arrived damaged", finished.stdout)
        self.assert_arrived(finished)
        self.assertEqual(peer.problems, [])

    def check_hash_liar(self, kind):
        """The magnet link brings no piece layers, so peers are asked for them."""
        liar, = self.prepare("hybrid", machines=3)
        peer = self.raw_peer(kind, liar)
        fetching = self.start_fetch(self.wanter, self.magnet, *self.peers(liar, self.honest), "--timeout", "40")
        wait_until(lambda: peer.hash_requests > 0)
        self.share()
        self.assert_arrived(self.finish(fetching))
        self.assertEqual(peer.problems, [])
        return peer

    def test_wrong_merkle_proofs(self):
        class WrongProofs(RawPeer):
            reserved = [EXTENSIONS, FAST, V2]

            def answer_hash_request(self, wire, payload):
                *_, count, proof_layers = hashes_asked(payload)
                uncles = max(0, proof_layers - (count.bit_length() - 2))
                wire.send(HASHES, payload + os.urandom(32 * (count + uncles)))

        peer = self.check_hash_liar(WrongProofs)
        # Banned: it is not asked again and again.
        self.assertLess(peer.hash_requests, 20)

    def test_endless_hashes(self):
        """Far more of them than were asked for."""
        class EndlessHashes(RawPeer):
            reserved = [EXTENSIONS, FAST, V2]

            def answer_hash_request(self, wire, payload):
                wire.send(HASHES, payload + os.urandom(32 * 8192))

        self.check_hash_liar(EndlessHashes)

    def test_refused_hashes_and_wrong_blocks(self):
        """libtorrent 2.0.8 can write out of bounds when the hashes of a damaged piece's blocks are refused."""
        class Refusing(RawPeer):
            reserved = [EXTENSIONS, FAST, V2]

            def block(self, piece, offset, count):
                return bytes(count)

        self.check_hash_liar(Refusing)


class AttackedMetadataTest(BadNetworkTest):
    def test_a_peer_that_kills_the_metadata_process(self):
        """arvidn/libtorrent #8692: it connects to us, claims version 2 of what is a v1 magnet link, and sends the
        metadata; with them the claim becomes a look at hashes that do not exist. It comes again and again. Here
        it finds that libtorrent never sees the metadata, and helps."""
        class Killer(RawPeer):
            reserved = [EXTENSIONS, FAST, V2]

            def attack(self, address):
                while not self.ended:
                    with contextlib.suppress(OSError):
                        self.call(address)
                    time.sleep(0.02)

            ended = False

        attacker, = self.prepare("v1", machines=3)
        peer = self.raw_peer(Killer, attacker)
        self.addCleanup(setattr, peer, "ended", True)
        fetching = self.start_fetch(self.wanter, self.magnet, *self.peers(self.honest), "--port", str(PORT),
                                    "--timeout", "40")
        threading.Thread(target=peer.attack, args=[(self.wanter.address, PORT)], daemon=True).start()
        wait_until(lambda: self.is_open(self.wanter, PORT) or fetching.poll() is not None)
        wait_until(lambda: peer.connections > 0)
        self.share()
        finished = self.finish(fetching)
        self.assert_arrived(finished)
        self.assertNotIn("crashed", finished.stdout)
        self.assertEqual(peer.problems, [])

    def test_metadata_that_never_comes(self):
        """The peer says that it has nearly all that the memory allows, and then nothing."""
        class Boaster(RawPeer):
            metadata_bytes = 150 << 20
            metadata_requests = 0

            def handle_extended(self, wire, payload):
                self.metadata_requests += payload[0] == METADATA_ID

        boaster, = self.prepare(machines=3)
        peer = self.raw_peer(Boaster, boaster)
        fetching = self.start_fetch(self.wanter, self.magnet, *self.peers(boaster, self.honest), "--timeout", "40")
        wait_until(lambda: peer.metadata_requests > 0)
        self.share()
        self.assert_arrived(self.finish(fetching))

    def test_the_metadata_process_is_killed(self):
        class Silent(RawPeer):
            metadata_is_known = False

        silent, = self.prepare(machines=3)
        peer = self.raw_peer(Silent, silent)
        fetching = self.start_fetch(self.wanter, self.magnet, *self.peers(silent, self.honest), "--timeout", "40")
        for count in (1, 2):
            wait_until(lambda: peer.connections >= count)
            worker, = children_of(fetching)
            os.kill(worker, signal.SIGKILL)
        self.share()
        finished = self.finish(fetching)
        self.assert_arrived(finished)
        self.assertIn("killed by signal 9", finished.stdout + finished.stderr)

    def test_the_payload_process_is_killed(self):
        self.prepare()
        self.share(self.honest, "--limit-up", "2M/s")
        fetching = self.start_fetch(self.wanter, self.torrent, *self.peers(self.honest), "--timeout", "40")
        for part in (1, 2):
            self.wait_until_bytes(fetching, self.folder / "downloads", RELEASE_BYTES * part // 4)
            worker, = children_of(fetching)
            os.kill(worker, signal.SIGKILL)
        finished = self.finish(fetching)
        self.assert_arrived(finished)
        self.assertLess(finished.result()["downloaded_bytes"], RELEASE_BYTES * 2)

    def test_metadata_of_another_torrent(self):
        class WrongMetadata(RawPeer):
            def __init__(self, machine, port, release):
                release.metadata = bytes(len(release.metadata))
                super().__init__(machine, port, release)

        liar, = self.prepare(machines=3)
        peer = self.raw_peer(WrongMetadata, liar)
        fetching = self.start_fetch(self.wanter, self.magnet, *self.peers(liar, self.honest), "--timeout", "40")
        wait_until(lambda: "not asked again" in self.told(fetching).stdout)
        self.share()
        self.assert_arrived(self.finish(fetching))
        self.assertEqual(peer.problems, [])


class FullDiskTest(BadNetworkTest):
    def setUp(self):
        super().setUp()
        self.small = self.folder / "downloads"
        self.small.mkdir()

    def mount(self, size):
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "sluice-test", self.small],
                                 capture_output=True, text=True)
        if mounted.returncode != 0:
            self.skipTest("a small file system cannot be mounted here: " + mounted.stderr.strip())
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.small], check=True)

    def assert_no_space(self, finished):
        self.assertEqual(finished.code, 4, str(finished))
        self.assertEqual(finished.error()["kind"], "no_space")

    def test_a_disk_that_is_too_small_is_said_at_once(self):
        self.prepare()
        self.share()
        self.mount("4m")
        finished = self.fetch(self.wanter, self.magnet, *self.peers(self.honest), "--timeout", "20")
        self.assert_no_space(finished)
        self.assertLess(used_bytes(self.small), 1 << 20)
        subprocess.run(["mount", "-o", "remount,size=32m", self.small], check=True)
        self.assert_arrived(self.fetch(self.wanter, self.magnet, *self.peers(self.honest), "--timeout", "20"))

    def test_a_disk_that_fills_up_on_the_way(self):
        self.prepare()
        self.share(self.honest, "--limit-up", "2M/s")
        self.mount("16m")
        fetching = self.start_fetch(self.wanter, self.magnet, *self.peers(self.honest), "--timeout", "20")
        self.wait_until_bytes(fetching, self.small, RELEASE_BYTES // 2)
        with open(self.small / "filler", "wb") as filler:
            try:
                while True:
                    filler.write(bytes(65536))
                    filler.flush()
            except OSError:
                pass
        self.assert_no_space(self.finish(fetching))
        subprocess.run(["mount", "-o", "remount,size=32m", self.small], check=True)
        finished = self.fetch(self.wanter, self.magnet, *self.peers(self.honest), "--timeout", "20")
        self.assert_arrived(finished)
        # Half was there.
        self.assertLess(finished.result()["downloaded_bytes"], RELEASE_BYTES * 2 // 3)


class SilenceTest(BadNetworkTest):
    def test_trackers_and_dht_that_never_answer(self):
        """They take what comes and say nothing."""
        tracker, = self.prepare(machines=3)
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            self.addCleanup(tracker.listen(6969, kind).close)
        urls = [f"udp://{tracker.address}:6969/announce", f"http://{tracker.address}:6969/announce"]
        finished = self.fetch(self.wanter, self.magnet, "--timeout", "4",
                              *[word for url in urls for word in ("--tracker", url)],
                              discovery=("--no-lsd", "--allow-private"))
        self.assert_no_peers(finished, "metadata", "tracker", "DHT", "0 peers")

    def test_a_dead_swarm(self):
        """The tracker answers and knows nobody but the fetch itself."""
        tracker, = self.prepare(machines=3)
        url = self.start_tracker(tracker, self.published)
        for source, what in ((self.magnet, "metadata"), (self.torrent, "payload")):
            with self.subTest(what):
                finished = self.fetch(self.wanter, source, "--tracker", url, "--timeout", "4", output=what)
                self.assert_no_peers(finished, what, "tracker", "at most 0 peers", ": no peers")

    def test_a_tracker_that_refuses(self):
        tracker, = self.prepare(machines=3)
        url = self.start_tracker(tracker)  # its list is empty
        finished = self.fetch(self.wanter, self.torrent, "--tracker", url, "--timeout", "4")
        self.assert_no_peers(finished, url, "not authorized")

    def test_a_peer_that_says_nothing(self):
        """It takes connections and that is all."""
        silent, = self.prepare(machines=3)
        listener = silent.listen(PORT)
        self.addCleanup(listener.close)
        finished = self.fetch(self.wanter, self.torrent, *self.peers(silent), "--timeout", "4")
        self.assert_no_peers(finished, "payload", "1 given peer")


if __name__ == "__main__":
    main()
