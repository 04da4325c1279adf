"""Releases from web servers, beside swarms that are slow or dead, and from servers that do not behave.

Whatever a server does, the fetch ends with the right bytes, and a warning names who did wrong.
"""

import socket
import ssl

from network import DEBIANS_PYTHON, PROGRAM, NetTest, command, kill, main, read_files
from raw_peer import bencode
from web_server import WebServer, read_release

RELEASE_BYTES = 6_000_001
PORT = 6881
PUBLIC = "203.0.113.7"  # documentation's (RFC 5737); to Sluice an address like any other

MAKE_V2_TORRENT = """
import sys, libtorrent as lt
folder, parent, torrent = sys.argv[1:]
files = lt.file_storage()
lt.add_files(files, folder)
made = lt.create_torrent(files, 65536, lt.create_torrent_flags_t.v2_only)
lt.set_piece_hashes(made, parent)
open(torrent, "wb").write(lt.bencode(made.generate()))
"""


class MirrorTest(NetTest):
    def prepare(self, version="hybrid", *options):
        self.wanter, self.honest, self.web = (self.network.machine() for _ in range(3))
        self.release = self.make_release({"weights.bin": RELEASE_BYTES, "params.json": 312, "dir/more": 70_001})
        self.published = self.publish_version(self.release, version, *options)

    def share(self, *options):
        """A peer; slow, so that mirrors are asked."""
        return self.start_seed(self.honest, self.published["torrent"], self.folder, "--limit-up", *options)

    def serve(self, kind=WebServer, machine=None, files=None, tls=None):
        files = read_release(self.release) if files is None else files
        server = kind(files, (machine or self.web).listen(8080), tls)
        self.addCleanup(server.close)
        return server

    def options(self, *servers):
        return ["--timeout", "30", *(word for server in servers for word in ("--mirror", server.url))]

    @property
    def peer(self):
        return ["--peer", f"{self.honest.address}:{PORT}"]

    def assert_arrived(self, finished):
        self.assertEqual(finished.code, 0, str(finished))
        self.assertEqual(read_files(self.folder / "downloads/model"), read_files(self.release))

    def warnings(self, finished):
        return [line["message"] for line in finished.lines() if line["event"] == "warning"]

    def assert_warned(self, finished, *parts):
        self.assertTrue(any(all(part in warning for part in parts) for warning in self.warnings(finished)),
                        str(finished))


class SwarmAndMirrorTest(MirrorTest):
    def check_alone(self, version):
        self.prepare(version)
        server = self.serve()
        finished = self.fetch(self.wanter, self.published["torrent"], *self.options(server))
        self.assert_arrived(finished)
        self.assertEqual(self.warnings(finished), [])
        self.assertEqual(finished.result()["downloaded_bytes"], server.sent)
        self.assertEqual(server.connections, 1)

    def test_a_mirror_alone_v1(self):
        self.check_alone("v1")

    def test_a_mirror_alone_hybrid(self):
        self.check_alone("hybrid")

    def test_two_mirrors_each_with_a_part(self):
        self.prepare()
        files = read_release(self.release)
        some = self.serve(files={"weights.bin": files["weights.bin"]})
        rest = self.serve(machine=self.honest, files={"params.json": files["params.json"],
                                                      "dir/more": files["dir/more"]})
        finished = self.fetch(self.wanter, self.published["torrent"], *self.options(some, rest))
        self.assert_arrived(finished)

    def test_the_swarm_dies_and_the_mirror_goes_on(self):
        self.prepare()
        server = self.serve()
        server.rate = 500_000
        seeder = self.share("1M/s")
        fetching = self.start_fetch(self.wanter, self.published["magnet"], *self.peer, *self.options(server))
        self.wait_until_bytes(fetching, self.folder / "downloads", RELEASE_BYTES // 3)
        kill(seeder)
        server.rate = None
        self.assert_arrived(self.finish(fetching))

    def test_the_swarm_is_slow_and_the_mirror_helps(self):
        self.prepare()
        server = self.serve()
        self.share("50K/s")
        self.assert_arrived(self.fetch(self.wanter, self.published["magnet"], *self.peer, *self.options(server)))
        self.assertGreater(server.sent, RELEASE_BYTES // 2)

    def test_a_slow_mirror_does_not_keep_the_last_pieces(self):
        """It would take minutes for the pieces that it has taken first."""
        self.prepare()
        slow, fast = self.serve(), self.serve(machine=self.honest)
        slow.rate = 3000
        self.assert_arrived(self.fetch(self.wanter, self.published["torrent"], *self.options(slow, fast)))
        self.assertLess(slow.sent, 200_000)

    def test_the_limit_holds_for_peers_and_mirrors_together(self):
        """Never more than the limit lets through; how much less is the machine's affair."""
        self.prepare()
        server = self.serve()
        self.share("10M/s")
        finished = self.fetch(self.wanter, self.published["torrent"], *self.peer, *self.options(server),
                              "--limit-down", "1500K/s")
        self.assert_arrived(finished)
        self.assertGreater(finished.result()["seconds"], RELEASE_BYTES / 1_500_000 * 0.7)

    def test_a_web_seed_of_the_torrent(self):
        """BEP 19: the folder lies below the URL."""
        self.prepare("hybrid", "--web-seed", "http://10.77.0.3:8080/pub/")
        server = self.serve(files=read_release(self.release, "pub/model/"))
        finished = self.fetch(self.wanter, self.published["torrent"], *self.options())
        self.assert_arrived(finished)
        self.assertEqual(finished.result()["downloaded_bytes"], server.sent)

    def make_v2_release(self):
        if not self.has_libtorrent():
            self.skipTest("python3-libtorrent is not installed")
        self.prepare()
        self.torrent = self.folder / "v2.torrent"
        command(DEBIANS_PYTHON, "-c", MAKE_V2_TORRENT, self.release, self.folder, self.torrent)

    def test_a_mirror_of_a_v2_release(self):
        self.make_v2_release()
        server = self.serve()
        finished = self.fetch(self.wanter, self.torrent, *self.options(server))
        self.assert_arrived(finished)
        self.assertIsNone(finished.result()["infohash_v1"])

    def test_a_web_seed_of_a_v2_magnet_once_its_piece_layers_are_known(self):
        """They come from a peer that is far too slow for the rest."""
        self.make_v2_release()
        server = self.serve(files=read_release(self.release, "model/"))
        self.published["torrent"] = self.torrent
        self.share("50K/s")
        listed = self.fetch(self.wanter, self.torrent, "--dry-run", output="dry")
        magnet = (f"magnet:?xt=urn:btmh:1220{listed.result()['infohash_v2']}"
                  f"&ws=http://{self.web.address}:8080/")
        self.assert_arrived(self.fetch(self.wanter, magnet, *self.peer, *self.options()))
        self.assertGreater(server.sent, RELEASE_BYTES // 2)


class LyingMirrorTest(MirrorTest):
    def check(self, kind, *parts, files=None):
        """An honest peer is there, which alone would do."""
        self.prepare()
        server = self.serve(kind, files=files and files(self.release))
        self.share("1M/s")
        finished = self.fetch(self.wanter, self.published["torrent"], *self.peer, *self.options(server))
        self.assert_arrived(finished)
        self.assert_warned(finished, f"mirror {server.url}", *parts)
        return server

    def test_wrong_bytes(self):
        class Liar(WebServer):
            def change(self, status, headers, body):
                return status, headers, bytes(byte ^ 1 for byte in body)

        server = self.check(Liar, "is no longer used", "3 pieces were wrong")
        self.assertLess(server.sent, RELEASE_BYTES)

    def test_truncated_answers(self):
        class Truncating(WebServer):
            def change(self, status, headers, body):
                return status, {**headers, "Content-Length": len(body)}, body[:1000]

        self.check(Truncating, "the answer ends after")

    def test_another_file(self):
        self.check(WebServer, "'weights.bin' cannot be had from it: it has 1234567 bytes there",
                   files=lambda release: {**read_release(release), "weights.bin": bytes(1_234_567)})

    def test_a_server_that_knows_no_ranges(self):
        class Whole(WebServer):
            @staticmethod
            def honest_answer(content, range_asked):
                return WebServer.honest_answer(content, "")

        self.check(Whole, "the server does not send parts of it; files are read from their start")

    def test_a_redirect_to_a_private_address(self):
        """The mirror is at a public address; whom it names is not."""
        self.prepare()
        command("ip", "-n", self.web.name, "address", "add", f"{PUBLIC}/32", "dev", "eth0")
        inner = self.serve(machine=self.honest)
        target = inner.url

        class Redirecting(WebServer):
            def change(self, status, headers, body):
                return 302, {"Location": target + "/weights.bin"}, b""

        listener = self.web.new_socket()
        listener.bind((PUBLIC, 8080))
        listener.listen()
        server = Redirecting({}, listener)
        self.addCleanup(server.close)
        self.share("1M/s")
        finished = self.fetch_strictly(*self.peer, *self.options(server))
        self.assert_arrived(finished)
        self.assert_warned(finished, f"mirror http://{PUBLIC}:8080", "it redirects to a private address")
        self.assertGreater(server.connections, 0)
        self.assertEqual(inner.connections, 0)

    def fetch_strictly(self, *options):
        """Without --allow-private."""
        stdout, stderr = self.folder / "stdout", self.folder / "stderr"
        with open(stdout, "w") as out, open(stderr, "w") as err:
            process = self.start_on(self.wanter, PROGRAM, "fetch", self.published["torrent"], "-o",
                                    self.folder / "downloads", "--json", "--no-dht", "--no-lsd", *options,
                                    stdout=out, stderr=err)
        process.output = (stdout, stderr)
        return self.finish(process)


class HttpsTest(MirrorTest):
    def make_certificate(self, address):
        """Signed by itself. Returns its file and what a server needs."""
        certificate, key = self.folder / "certificate.pem", self.folder / "key.pem"
        try:
            command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=test",
                    "-addext", f"subjectAltName=IP:{address}")
        except FileNotFoundError:
            self.skipTest("openssl is not installed")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        return certificate, tls

    def test_a_mirror_whose_certificate_nobody_knows_is_left(self):
        self.prepare()
        _, tls = self.make_certificate(self.web.address)
        server = self.serve(tls=tls)
        self.share("1M/s")
        finished = self.fetch(self.wanter, self.published["torrent"], *self.peer, *self.options(server))
        self.assert_arrived(finished)
        self.assert_warned(finished, f"mirror {server.url} is no longer used", "certificate is not trusted",
                           "self-signed")
        self.assertEqual(server.asked, [])

    def test_a_mirror_whose_certificate_the_user_knows(self):
        self.prepare()
        certificate, tls = self.make_certificate(self.web.address)
        server = self.serve(tls=tls)
        self.environment["SSL_CERT_FILE"] = str(certificate)
        finished = self.fetch(self.wanter, self.published["torrent"], *self.options(server))
        self.assert_arrived(finished)
        self.assertEqual(self.warnings(finished), [])

    def test_a_certificate_for_another_server(self):
        self.prepare()
        certificate, tls = self.make_certificate(self.honest.address)
        server = self.serve(tls=tls)
        self.environment["SSL_CERT_FILE"] = str(certificate)
        self.share("1M/s")
        finished = self.fetch(self.wanter, self.published["torrent"], *self.peer, *self.options(server))
        self.assert_arrived(finished)
        self.assert_warned(finished, f"mirror {server.url} is no longer used", "certificate is not trusted")

    def test_a_torrent_by_https(self):
        self.prepare()
        certificate, tls = self.make_certificate(self.web.address)
        files = {**read_release(self.release), "x.torrent": (self.folder / "model.torrent").read_bytes()}
        server = self.serve(files=files, tls=tls)
        finished = self.fetch(self.wanter, server.url + "/x.torrent", *self.options(server))
        self.assertEqual(finished.code, 6, str(finished))
        self.assertIn("certificate is not trusted", finished.error()["message"])
        self.environment["SSL_CERT_FILE"] = str(certificate)
        self.assert_arrived(self.fetch(self.wanter, server.url + "/x.torrent", *self.options(server)))

    def start_https_tracker(self):
        peer = socket.inet_aton(self.honest.address) + PORT.to_bytes(2, "big")

        class Tracker(WebServer):
            def change(self, status, headers, body):
                return 200, {}, bencode({b"interval": 60, b"peers": peer})

        self.certificate, tls = self.make_certificate(self.web.address)
        return self.serve(Tracker, tls=tls)

    def test_a_tracker_whose_certificate_nobody_knows(self):
        self.prepare()
        tracker = self.start_https_tracker()
        self.share("10M/s")
        finished = self.fetch(self.wanter, self.published["torrent"], "--tracker", tracker.url + "/announce",
                              "--timeout", "5")
        self.assertEqual(finished.code, 5, str(finished))
        self.assert_warned(finished, f"tracker {tracker.url}/announce", "certificate")
        self.assertEqual(tracker.asked, [])

    def test_a_tracker_whose_certificate_the_user_knows(self):
        self.prepare()
        tracker = self.start_https_tracker()
        self.share("10M/s")
        self.environment["SSL_CERT_FILE"] = str(self.certificate)
        self.assert_arrived(self.fetch(self.wanter, self.published["torrent"], "--tracker",
                                       tracker.url + "/announce", "--timeout", "20"))
        self.assertGreater(len(tracker.asked), 0)


if __name__ == "__main__":
    main()
