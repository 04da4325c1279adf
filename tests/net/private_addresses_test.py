"""What strangers say must not lead to private addresses, and what the user says may.

Listeners stand at such addresses, in the fetching machine and beside it, and count who comes. Each way to name
them is tried: magnet links and torrents, names that resolve to them, redirects, trackers' answers, peers'. That
the listeners would be found is shown by --allow-private.
"""

import contextlib
import copy
import shutil
import socket
import threading
import time
from pathlib import Path

from network import PROGRAM, NetTest, close_all, command, main, read_files
from raw_peer import EXTENDED, HAVE_ALL, METADATA_ID, UNCHOKE, RawPeer, SharedRelease, bdecode, bencode
from web_server import WebServer, read_release

RELEASE_BYTES = 4_000_001
PORT = 6881
TRAP_PORT = 7001
PUBLIC = "203.0.113.7"  # documentation's (RFC 5737); to Sluice an address like any other
METADATA_SERVICE = "169.254.169.254"
NAMES = {"inner.example": "10.77.0.2", "metadata.example": METADATA_SERVICE, "me.example": "127.0.0.1",
         "me6.example": "::1"}


class Trap:
    """Counts what comes to an address, by TCP and UDP."""

    def __init__(self, machine, address):
        self.came = {"tcp": 0, "udp": 0}
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with machine.inside():
            self.sockets = [socket.socket(family, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
        self.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one in self.sockets:
            one.bind((address, TRAP_PORT))
        self.sockets[0].listen()
        for work in (self._accept, self._receive):
            threading.Thread(target=work, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.sockets[0].accept()
            except OSError:
                return
            self.came["tcp"] += 1
            connection.close()

    def _receive(self):
        while True:
            try:
                if not self.sockets[1].recv(2048):
                    return
            except OSError:
                return
            self.came["udp"] += 1

    def close(self):
        close_all(self.sockets)


class UdpTracker:
    """BEP 15, as far as an announce goes."""

    def __init__(self, machine, port, peers):
        self.announces = 0
        self.peers = peers
        self.socket = machine.listen(port, socket.SOCK_DGRAM)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                packet, sender = self.socket.recvfrom(2048)
            except OSError:
                return
            if len(packet) < 16:
                return
            action, transaction = packet[8:12], packet[12:16]
            if action == bytes(4):
                answer = bytes(4) + transaction + b"connected"[:8]
            else:
                self.announces += 1
                answer = action + transaction + (60).to_bytes(4, "big") + bytes(8) + self.peers
            self.socket.sendto(answer, sender)

    def close(self):
        close_all([self.socket])


def compact(address, port=TRAP_PORT):
    return socket.inet_aton(address) + port.to_bytes(2, "big")


class PrivateAddressesTest(NetTest):
    def setUp(self):
        super().setUp()
        self.wanter, self.inner, self.honest, stranger = (self.network.machine() for _ in range(4))
        for machine, address in ((stranger, PUBLIC), (self.inner, METADATA_SERVICE)):
            command("ip", "-n", machine.name, "address", "add", f"{address}/32", "dev", "eth0")
        self.stranger = copy.copy(stranger)
        self.stranger.address = PUBLIC
        self.name_machines()
        self.traps = {}
        for machine, address in ((self.wanter, "127.0.0.1"), (self.wanter, "::1"), (self.inner, self.inner.address),
                                 (self.inner, METADATA_SERVICE)):
            self.traps[address] = Trap(machine, address)
            self.addCleanup(self.traps[address].close)
        self.release = self.make_release({"weights.bin": RELEASE_BYTES, "params.json": 312})

    def name_machines(self):
        """`ip netns exec` puts these files over those in /etc."""
        folder = Path("/etc/netns") / self.wanter.name
        if not folder.parent.exists():
            folder.parent.mkdir()
            self.addCleanup(self.remove_if_empty, folder.parent)
        folder.mkdir()
        self.addCleanup(shutil.rmtree, folder)
        (folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in NAMES.items()))
        (folder / "resolv.conf").write_text("")

    @staticmethod
    def remove_if_empty(folder):
        with contextlib.suppress(OSError):  # another test's are there
            folder.rmdir()

    def publish_it(self, *options):
        self.published = self.publish_version(self.release, "hybrid", *options)
        return self.published["magnet"]

    def share(self, *options):
        """At a private address, too; slow, so that there is time for everybody else."""
        self.start_seed(self.honest, self.published["torrent"], self.folder, "--limit-up", "1M/s", *options)

    @property
    def peer(self):
        return ["--peer", f"{self.honest.address}:{PORT}", "--no-lsd"]

    def fetch_strictly(self, source, *options, output="downloads", limit_s=90):
        """Without --allow-private."""
        stdout, stderr = self.folder / f"{output}.stdout", self.folder / f"{output}.stderr"
        with open(stdout, "w") as out, open(stderr, "w") as err:
            process = self.start_on(self.wanter, PROGRAM, "fetch", source, "-o", self.folder / output, "--json",
                                    "--no-dht", "--timeout", "40", *options, stdout=out, stderr=err)
        process.output = (stdout, stderr)
        return self.finish(process, limit_s)

    def assert_arrived(self, finished, output="downloads"):
        self.assertEqual(finished.code, 0, str(finished))
        self.assertEqual(read_files(self.folder / output / "model"), read_files(self.release))

    def assert_warned(self, finished, *parts):
        warnings = [line["message"] for line in finished.lines() if line["event"] == "warning"]
        self.assertTrue(any(all(part in warning for part in parts) for warning in warnings),
                        f"{parts} in {warnings}")

    def assert_nobody_came(self):
        self.assertEqual({address: trap.came for address, trap in self.traps.items()},
                         {address: {"tcp": 0, "udp": 0} for address in self.traps})

    def assert_they_came(self, *addresses, kinds=("tcp",)):
        for address in addresses or self.traps:
            for kind in kinds:
                self.assertGreater(self.traps[address].came[kind], 0, f"{kind} at {address}")

    def close(self, *things):
        for thing in things:
            self.addCleanup(thing.close)


class NamedAddressesTest(PrivateAddressesTest):
    ADDRESSES = ["127.0.0.1", "[::1]", "10.77.0.2", METADATA_SERVICE]

    @staticmethod
    def trackers(hosts):
        return [f"{scheme}://{host}:{TRAP_PORT}/announce" for host in hosts for scheme in ("http", "udp")]

    @staticmethod
    def web_seeds(hosts):
        return [f"http://{host}:{TRAP_PORT}/pub/" for host in hosts]

    def magnet(self, hosts):
        words = [*(f"tr={url}" for url in self.trackers(hosts)), *(f"ws={url}" for url in self.web_seeds(hosts)),
                 *(f"x.pe={host}:{TRAP_PORT}" for host in hosts)]
        return "&".join([self.publish_it(), *words])

    def test_addresses_in_a_magnet_link(self):
        magnet = self.magnet(self.ADDRESSES)
        self.share()
        finished = self.fetch_strictly(magnet, *self.peer)
        self.assert_arrived(finished)
        for url in self.trackers(self.ADDRESSES):
            self.assert_warned(finished, f"tracker '{url}' is left out", "private address")
        for url in self.web_seeds(self.ADDRESSES):
            self.assert_warned(finished, f"web seed '{url}' is left out", "private address")
        for host in self.ADDRESSES:
            self.assert_warned(finished, f"peer '{host}:{TRAP_PORT}' is left out", "private address")
        self.assert_nobody_came()

    def test_names_in_a_magnet_link(self):
        magnet = self.magnet(NAMES)
        self.share()
        finished = self.fetch_strictly(magnet, *self.peer)
        self.assert_arrived(finished)
        for name, address in NAMES.items():
            for url in self.trackers([name]):
                self.assert_warned(finished, f"tracker {url}: is left out", f"private address {address}")
            self.assert_warned(finished, f"peer {name}:{TRAP_PORT}: is left out", f"private address {address}")
            for url in self.web_seeds([name]):
                self.assert_warned(finished, f"web seed {url} is no longer used", "private address")
        self.assert_nobody_came()

    def test_addresses_and_names_in_a_torrent(self):
        hosts = [*self.ADDRESSES, *NAMES]
        torrent = self.publish_version(
            self.release, "hybrid", "-o", self.folder / "with.torrent",
            *(word for url in self.trackers(hosts) for word in ("--tracker", url)),
            *(word for url in self.web_seeds(hosts) for word in ("--web-seed", url)))["torrent"]
        self.publish_it()  # of the same info-hash, without those
        self.share()
        finished = self.fetch_strictly(torrent, *self.peer)
        self.assert_arrived(finished)
        for url in self.trackers(hosts) + self.web_seeds(hosts):
            self.assert_warned(finished, url, "private address")
        self.assert_nobody_came()

    def test_all_of_them_with_allow_private(self):
        magnet = self.magnet(self.ADDRESSES)
        self.share()
        self.assert_arrived(self.fetch_strictly(magnet, *self.peer, "--allow-private"))
        self.assert_they_came(kinds=("tcp", "udp"))

    def test_names_with_allow_private(self):
        magnet = self.magnet(NAMES)
        self.share()
        self.assert_arrived(self.fetch_strictly(magnet, *self.peer, "--allow-private"))
        self.assert_they_came(kinds=("tcp", "udp"))


class RedirectsTest(PrivateAddressesTest):
    """A server at a public address sends on to a private one."""

    TARGETS = ["127.0.0.1", "[::1]", "10.77.0.2", METADATA_SERVICE, "inner.example"]

    def redirect(self):
        """Path /0 leads to the first target, and so on."""
        class Redirecting(WebServer):
            def answer(self, handler):
                self.asked.append(handler.path)
                target = RedirectsTest.TARGETS[int(handler.path.split("/")[1])]
                handler.send_response(302)
                handler.send_header("Location", f"http://{target}:{TRAP_PORT}/announce")
                handler.send_header("Content-Length", "0")
                handler.end_headers()

        server = Redirecting({}, self.stranger.listen(8080))
        self.close(server)
        return server

    def check(self, kind, *options):
        server = self.redirect()
        urls = [f"{server.url}/{number}/x" for number in range(len(self.TARGETS))]
        magnet = "&".join([self.publish_it(), *(f"{kind}={url}" for url in urls)])
        self.share()
        finished = self.fetch_strictly(magnet, *self.peer, *options)
        self.assert_arrived(finished)
        for number in range(len(self.TARGETS)):
            self.assertTrue(any(path.startswith(f"/{number}/") for path in server.asked), server.asked)
        return finished, urls

    def test_from_a_tracker(self):
        finished, urls = self.check("tr")
        for url, target in zip(urls, self.TARGETS):
            if target != "[::1]":  # libtorrent may drop a way to the other family without a word
                self.assert_warned(finished, f"tracker {url}: ")
        self.assert_nobody_came()

    def test_from_a_web_seed(self):
        finished, urls = self.check("ws")
        for url in urls:
            self.assert_warned(finished, f"web seed {url} is no longer used", "it redirects to a private address")
        self.assert_nobody_came()

    def test_from_a_tracker_with_allow_private(self):
        """libtorrent itself never goes from elsewhere to loopback."""
        self.check("tr", "--allow-private")
        self.assert_they_came("10.77.0.2", METADATA_SERVICE)

    def test_from_a_web_seed_with_allow_private(self):
        self.check("ws", "--allow-private")
        self.assert_they_came()


class ToldPeersTest(PrivateAddressesTest):
    """Peers of which trackers and other peers tell."""

    TOLD = ["127.0.0.1", "10.77.0.2", METADATA_SERVICE]

    def check_told(self, finished):
        self.assert_arrived(finished)
        for address in self.TOLD:
            self.assert_warned(finished, f"a peer at the private address {address}, told by strangers, is left out")
        self.assert_nobody_came()

    def start_tracker(self):
        peers = b"".join(map(compact, self.TOLD))

        class Tracker(WebServer):
            def change(self, status, headers, body):
                return 200, {}, bencode({b"interval": 60, b"peers": peers,
                                         b"peers6": socket.inet_pton(socket.AF_INET6, "::1") +
                                         TRAP_PORT.to_bytes(2, "big")})

        tracker = Tracker({}, self.stranger.listen(8080))
        self.close(tracker)
        magnet = f"{self.publish_it()}&tr={tracker.url}/announce"
        self.share()
        return tracker, magnet

    def test_by_a_tracker(self):
        tracker, magnet = self.start_tracker()
        finished = self.fetch_strictly(magnet, *self.peer)
        self.check_told(finished)
        self.assert_warned(finished, "a peer at the private address ::1, told by strangers, is left out")
        self.assertGreater(len(tracker.asked), 0)

    def test_by_a_tracker_that_the_user_names(self):
        """Its address is trusted, what it says is not."""
        tracker, magnet = self.start_tracker()
        finished = self.fetch_strictly(magnet.split("&tr=")[0], *self.peer, "--tracker", tracker.url + "/announce")
        self.check_told(finished)

    def test_by_a_tracker_with_allow_private(self):
        _, magnet = self.start_tracker()
        self.assert_arrived(self.fetch_strictly(magnet, *self.peer, "--allow-private"))
        self.assert_they_came(*self.TOLD)

    def test_by_a_udp_tracker(self):
        tracker = UdpTracker(self.stranger, 6969, b"".join(map(compact, self.TOLD)))
        self.close(tracker)
        magnet = f"{self.publish_it()}&tr=udp://{PUBLIC}:6969"
        self.share()
        self.check_told(self.fetch_strictly(magnet, *self.peer))
        self.assertGreater(tracker.announces, 0)

    def start_telling_peer(self, machine):
        """A peer with everything, which says whom else to ask (BEP 11)."""
        told = b"".join(map(compact, self.TOLD))

        class Telling(RawPeer):
            messages = 0

            def after_handshake(self, wire):
                wire.send(EXTENDED, b"\0" + bencode({b"m": {b"ut_metadata": METADATA_ID, b"ut_pex": 1},
                                                     b"metadata_size": len(self.release.metadata)}))
                wire.send(HAVE_ALL)
                wire.send(UNCHOKE)

            def handle_extended(self, wire, payload):
                super().handle_extended(wire, payload)
                if payload[0] == 0 and (number := bdecode(payload, 1)[0][b"m"].get(b"ut_pex")):
                    self.messages += 1
                    wire.send(EXTENDED, bytes([number]) + bencode({b"added": told, b"added.f": bytes(len(told) // 6)}))

            def block(self, piece, offset, count):
                time.sleep(0.02)
                return super().block(piece, offset, count)

        self.publish_it()
        peer = Telling(machine, PORT, SharedRelease(self.folder / "model.torrent", self.release))
        self.close(peer)
        return peer

    def fetch_from_telling_peer(self, machine, *options):
        peer = self.start_telling_peer(machine)
        finished = self.fetch_strictly(self.published["magnet"], "--peer", f"{machine.address}:{PORT}", "--no-lsd",
                                       *options)
        self.assert_arrived(finished)
        self.assertGreater(peer.messages, 0)
        self.assertEqual(peer.problems, [])
        return finished

    def test_by_a_peer_at_a_public_address(self):
        """libtorrent itself believes such a peer nothing about private ones."""
        self.fetch_from_telling_peer(self.stranger)
        self.assert_nobody_came()

    def test_by_a_peer_at_a_private_address(self):
        """Its address is the user's word, what it says is not."""
        self.check_told(self.fetch_from_telling_peer(self.honest))

    def test_by_a_peer_with_allow_private(self):
        self.fetch_from_telling_peer(self.honest, "--allow-private")
        self.assert_they_came(*self.TOLD)


class UsersWordTest(PrivateAddressesTest):
    """Without --allow-private."""

    def test_peer(self):
        magnet = self.publish_it()
        self.share()
        self.assert_arrived(self.fetch_strictly(magnet, *self.peer))

    def test_tracker(self):
        """Also by a name."""
        class Tracker(WebServer):
            def change(self, status, headers, body):
                return 200, {}, bencode({b"interval": 60, b"peers": b""})

        tracker = Tracker({}, self.inner.listen(8080))
        self.close(tracker)
        magnet = self.publish_it()
        self.share()
        finished = self.fetch_strictly(magnet, *self.peer, "--tracker", "http://inner.example:8080/announce")
        self.assert_arrived(finished)
        self.assertGreater(len(tracker.asked), 0)

    def test_mirror_and_the_url_of_a_torrent(self):
        self.publish_it()
        files = {**read_release(self.release), "x.torrent": (self.folder / "model.torrent").read_bytes()}
        server = WebServer(files, self.inner.listen(8080))
        self.close(server)
        url = "http://inner.example:8080"
        self.assert_arrived(self.fetch_strictly(f"{url}/x.torrent", "--mirror", url, "--no-lsd"))

    def test_the_url_of_a_torrent_that_redirects_to_a_private_address(self):
        class Redirecting(WebServer):
            def change(self, status, headers, body):
                return 302, {"Location": f"http://inner.example:{TRAP_PORT}/x.torrent"}, b""

        server = Redirecting({}, self.stranger.listen(8080))
        self.close(server)
        finished = self.fetch_strictly(f"{server.url}/x.torrent")
        self.assertEqual(finished.code, 6, str(finished))
        self.assertIn("it redirects to a private address", finished.error()["message"])
        self.assert_nobody_came()

    def test_local_discovery(self):
        magnet = self.publish_it()
        process = self.start_on(self.honest, PROGRAM, "seed", self.published["torrent"], self.folder, "--port",
                                str(PORT), "--no-dht", "--json")
        self.assertIn('"listening"', process.stdout.readline())
        threading.Thread(target=process.stdout.read, daemon=True).start()
        self.assert_arrived(self.fetch_strictly(magnet))


if __name__ == "__main__":
    main()
