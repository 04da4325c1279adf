"""How a fetch finds its peers: each way alone. And what it does with them: limits, chosen files, sharing afterwards."""

import contextlib
import signal
import socket
import threading
import time

from clients import LIBTORRENT_PEER
from network import DEBIANS_PYTHON, NetTest, close_all, kill, main, read_files, wait_until
from raw_peer import bdecode, bencode

RELEASE_BYTES = 3_000_001
PORT = 6881
RATE = 600_000  # bytes a second; a session that has waited may send for three seconds at once
NOBODY = ("--no-dht", "--no-lsd", "--no-pex", "--allow-private")


class DiscoveryTest(NetTest):
    def prepare(self, machines=2):
        self.release = self.make_release()
        self.published = self.publish_version(self.release, "hybrid")
        self.torrent, self.magnet = self.published["torrent"], self.published["magnet"]
        # A node of the DHT takes two of the same /24 for one.
        made = [self.network.machine(f"10.77.{number}.1") for number in range(1, machines + 1)]
        self.wanter, self.sharer = made[:2]
        return made[2:]

    def share(self, *options, **more):
        return self.start_seed(self.sharer, self.torrent, self.folder, *options, **more)

    @staticmethod
    def peer(machine, port=PORT):
        return ["--peer", f"{machine.address}:{port}"]

    def assert_arrived(self, finished, output="downloads"):
        self.assertEqual(finished.code, 0, str(finished))
        self.assertEqual(read_files(self.folder / output / "model"), read_files(self.release))


class TrackerTest(DiscoveryTest):
    def test_http_alone(self):
        self.check("http")

    def test_udp_alone(self):
        self.check("udp")

    def check(self, scheme):
        tracker, = self.prepare(machines=3)
        url = self.start_tracker(tracker, self.published).replace("http", scheme)
        self.share("--tracker", url)
        wait_until(lambda: self.tracker_knows(tracker, self.published["infohash_v1"]))
        finished = self.fetch(self.wanter, self.magnet, "--tracker", url, "--timeout", "20", "--limit-down", "2M/s",
                              discovery=NOBODY)
        self.assert_arrived(finished)
        swarm, = (line for line in finished.lines() if line["event"] == "swarm")
        self.assertEqual(swarm["complete"], 1)


class DhtTest(DiscoveryTest):
    def start_node(self, machine):
        """python3-libtorrent as a node of the DHT that shares nothing."""
        if not self.has_libtorrent():
            self.skipTest("python3-libtorrent is not installed")
        self.start_on(machine, DEBIANS_PYTHON, "-B", LIBTORRENT_PEER, "node", machine.address)
        wait_until(lambda: self.is_open(machine, PORT))

    def cache_of(self, machine):
        return self.folder / f"cache-{machine.address}"

    def dht(self, machine):
        """What it has kept of the DHT is its own."""
        return {"environment": {"XDG_CACHE_HOME": str(self.cache_of(machine))},
                "discovery": ("--no-lsd", "--no-pex") + (("--allow-private",) if machine is self.wanter else ())}

    @staticmethod
    def endpoint(address):
        return socket.inet_aton(address) + PORT.to_bytes(2, "big")

    def keep_node(self, machine, address):
        """As if it had met the node before."""
        folder = self.cache_of(machine) / "sluice"
        folder.mkdir(parents=True)
        (folder / "dht.state").write_bytes(bencode({b"dht state": {b"nodes": [self.endpoint(address)]}}))

    def kept_nodes(self, machine):
        state = self.cache_of(machine) / "sluice/dht.state"
        return bdecode(state.read_bytes())[0][b"dht state"].get(b"nodes", []) if state.exists() else []

    def test_dht_alone(self):
        node, = self.prepare(machines=3)
        self.start_node(node)
        for machine in (self.sharer, self.wanter):
            self.keep_node(machine, node.address)
        self.share(**self.dht(self.sharer))
        self.assert_arrived(self.fetch(self.wanter, self.magnet, "--timeout", "20", **self.dht(self.wanter)))

    def test_what_is_met_is_kept_for_the_next_fetch(self):
        """The first fetch knows a node that is gone, and one peer, who tells that it is a node too (BEP 5, PORT)."""
        node, = self.prepare(machines=3)
        self.start_node(node)
        self.keep_node(self.sharer, node.address)
        self.keep_node(self.wanter, "10.77.99.1")
        self.share("--limit-up", "1M/s", **self.dht(self.sharer))
        self.assert_arrived(self.fetch(self.wanter, self.magnet, *self.peer(self.sharer), "--timeout", "20",
                                       **self.dht(self.wanter)))
        self.assertIn(self.endpoint(self.sharer.address), self.kept_nodes(self.wanter))
        self.assert_arrived(self.fetch(self.wanter, self.magnet, "--timeout", "20", output="second",
                                       **self.dht(self.wanter)), "second")

    def test_without_a_node_nobody_is_found(self):
        """That what the others find they find by what was kept."""
        node, = self.prepare(machines=3)
        self.start_node(node)
        self.keep_node(self.sharer, node.address)
        self.share(**self.dht(self.sharer))
        finished = self.fetch(self.wanter, self.magnet, "--timeout", "6", **self.dht(self.wanter))
        self.assertEqual(finished.code, 5, str(finished))
        self.assertEqual(self.kept_nodes(self.wanter), [])


class LocalTest(DiscoveryTest):
    def test_local_discovery_alone(self):
        """No --allow-private: who stands in the own network is welcome."""
        self.prepare()
        self.share(discovery=("--no-dht", "--no-pex"))
        self.assert_arrived(self.fetch(self.wanter, self.magnet, "--timeout", "20",
                                       discovery=("--no-dht", "--no-pex")))

    def test_peer_exchange_alone(self):
        """The one peer that is named has nearly nothing, but knows one that has all."""
        knowing, = self.prepare(machines=3)
        self.share()
        between = self.start_fetch(knowing, self.torrent, *self.peer(self.sharer), "--port", str(PORT),
                                   "--limit-down", "20K/s", output="between")
        wait_until(lambda: '"peers":1' in self.told(between).stdout)
        self.assert_arrived(self.fetch(self.wanter, self.magnet, *self.peer(knowing), "--timeout", "20"))
        self.assertIsNone(between.poll())
        self.assertLess(self.told(between).lines()[-1]["done"], RELEASE_BYTES // 2)

    def test_ipv6(self):
        self.prepare()
        self.share("--listen", self.sharer.address6)
        self.assert_arrived(self.fetch(self.wanter, self.magnet, "--peer", f"[{self.sharer.address6}]:{PORT}",
                                       "--timeout", "20", discovery=NOBODY))

    def test_ipv6_tracker(self):
        """One of the test's own: Debian's opentracker knows IPv4 only."""
        tracker, = self.prepare(machines=3)
        listener = tracker.listen(6969, family=socket.AF_INET6)
        self.addCleanup(close_all, [listener])
        peer = socket.inet_pton(socket.AF_INET6, self.sharer.address6) + PORT.to_bytes(2, "big")
        answer = b"HTTP/1.0 200 OK\r\n\r\n" + bencode({b"interval": 1800, b"peers": b"", b"peers6": peer})
        threading.Thread(target=self.answer_all, args=[listener, answer], daemon=True).start()
        self.share("--listen", self.sharer.address6)
        url = f"http://[{tracker.address6}]:6969/announce"
        self.assert_arrived(self.fetch(self.wanter, self.magnet, "--tracker", url, "--timeout", "20",
                                       discovery=NOBODY))

    @staticmethod
    def answer_all(listener, answer):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)


class TransferTest(DiscoveryTest):
    def timed_fetch(self, *options):
        start = time.monotonic()
        self.assert_arrived(self.fetch(self.wanter, self.torrent, *self.peer(self.sharer), "--timeout", "20", *options))
        return time.monotonic() - start

    def test_limit_down(self):
        self.prepare()
        self.share()
        self.assertGreater(self.timed_fetch("--limit-down", f"{RATE}/s"), RELEASE_BYTES / RATE - 3)

    def test_limit_up_of_a_seed(self):
        self.prepare()
        self.share("--limit-up", f"{RATE}/s")
        self.assertGreater(self.timed_fetch(), RELEASE_BYTES / RATE - 3)

    def test_limit_up_of_a_fetch(self):
        second, = self.prepare(machines=3)
        self.share()
        first = self.start_fetch(self.wanter, self.torrent, *self.peer(self.sharer), "--port", str(PORT),
                                 "--limit-up", f"{RATE}/s", "--seed-ratio", "1")
        wait_until(lambda: '"seeding"' in self.told(first).stdout)
        start = time.monotonic()
        self.assert_arrived(self.fetch(second, self.torrent, *self.peer(self.wanter), "--timeout", "20",
                                       output="second"), "second")
        self.assertGreater(time.monotonic() - start, RELEASE_BYTES / RATE - 3)
        self.assert_arrived(self.finish(first))

    def test_chosen_files(self):
        self.prepare()
        self.share()
        finished = self.fetch(self.wanter, self.magnet, *self.peer(self.sharer), "--timeout", "20",
                              "--select", "*.json", "--select", "tokenizer/*", "--exclude", "*.model")
        self.assertEqual(finished.code, 0, str(finished))
        self.assertEqual(read_files(self.folder / "downloads/model"),
                         {"params.json": (self.release / "params.json").read_bytes()})
        self.assertLess(finished.result()["downloaded_bytes"], RELEASE_BYTES // 2)
        # The rest later: what is there is not fetched again.
        rest = self.fetch(self.wanter, self.magnet, *self.peer(self.sharer), "--timeout", "20", "--exclude", "*.json")
        self.assert_arrived(rest)

    def test_sharing_to_a_ratio(self):
        self.check_sharing("--seed-ratio", "1")

    def test_sharing_for_a_time(self):
        self.check_sharing("--seed-time", "0.1")

    def check_sharing(self, *options):
        """The second fetch has all from the first, at the port that this was told to use."""
        second, = self.prepare(machines=3)
        seeder = self.share()
        first = self.start_fetch(self.wanter, self.torrent, *self.peer(self.sharer), "--port", "7001", *options)
        wait_until(lambda: '"seeding"' in self.told(first).stdout)
        kill(seeder)
        self.assert_arrived(self.fetch(second, self.magnet, *self.peer(self.wanter, 7001), "--timeout", "20",
                                       output="second"), "second")
        self.assert_arrived(self.finish(first, 30))

    def test_a_seed_ends_well_when_asked(self):
        self.prepare()
        seeder = self.share()
        seeder.send_signal(signal.SIGINT)
        self.assertEqual(seeder.wait(timeout=20), 0)

    def test_a_damaged_file_is_shared_but_for_its_damaged_piece(self):
        self.prepare()
        original = read_files(self.release)
        damaged = self.release / "consolidated.safetensors"
        with open(damaged, "r+b") as file:
            file.seek(1_000_000)
            byte = file.read(1)[0]
            file.seek(1_000_000)
            file.write(bytes([byte ^ 1]))
        self.share()
        finished = self.fetch(self.wanter, self.torrent, *self.peer(self.sharer), "--timeout", "6")
        self.assertEqual(finished.code, 5, str(finished))
        self.assertNotIn("arrived damaged", finished.stdout)
        arrived = read_files(self.folder / "downloads/model")
        piece_bytes = 65536
        piece = 1_000_000 // piece_bytes
        expected = bytearray(original["consolidated.safetensors"])
        expected[piece * piece_bytes:(piece + 1) * piece_bytes] = bytes(piece_bytes)
        self.assertEqual(arrived.pop("consolidated.safetensors"), bytes(expected))
        original.pop("consolidated.safetensors")
        self.assertEqual(arrived, original)


if __name__ == "__main__":
    main()
