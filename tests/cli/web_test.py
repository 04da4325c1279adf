"""Releases whose .torrent lies on a web server, and whose files do."""

import socket

from sluice_program import ProgramTest, main, wait_until
from web_server import WebServer, read_release

ALONE = ["--no-dht", "--no-lsd", "--no-pex", "--timeout", "20"]


class WebTest(ProgramTest):
    def serve(self, files, kind=WebServer):
        server = kind(files, socket.create_server(("127.0.0.1", 0)))
        self.addCleanup(server.close)
        return server

    def serve_demo(self):
        """The demo release, its files and its .torrent."""
        self.release = self.copy_release()
        self.published = self.publish(self.release)
        files = read_release(self.release, "files/")
        return self.serve({**files, "demo.torrent": (self.folder / "stories-moe.torrent").read_bytes()})

    def test_a_release_comes_from_a_web_server_alone(self):
        server = self.serve_demo()
        finished = self.succeed("fetch", server.url + "/demo.torrent", "-o", "downloads", "--mirror",
                                server.url + "/files", *ALONE, "--json")
        self.assertEqual(finished.result()["infohash_v2"], self.published["infohash_v2"])
        self.assertEqual(read_release(self.folder / "downloads/stories-moe"), read_release(self.release))

    def test_run_does_the_missing_steps_for_a_url_once(self):
        server = self.serve_demo()
        arguments = ["run", server.url + "/demo.torrent", "-p", "Once", "-n", "4", "--seed", "1", "--json",
                     "--mirror", server.url + "/files", *ALONE]
        text = self.succeed(*arguments).result()["text"]
        sent = server.sent
        self.assertEqual(self.succeed(*arguments).result()["text"], text)
        self.assertEqual(server.sent - sent, len(server.files["demo.torrent"]))

    def test_a_url_that_cannot_be_had_is_6(self):
        server = self.serve({})
        gone = socket.create_server(("127.0.0.1", 0))
        address = gone.getsockname()
        gone.close()
        self.fail_with(6, "network", "/x.torrent: cannot be downloaded: HTTP 404", "fetch", server.url + "/x.torrent")
        self.fail_with(6, "network", "the server cannot be reached", "run",
                       f"http://127.0.0.1:{address[1]}/x.torrent", "-p", "x")

    def test_a_url_of_something_else_is_9(self):
        server = self.serve({"x.torrent": b"<html>"})
        self.fail_with(9, "malformed", server.url + "/x.torrent", "fetch", server.url + "/x.torrent")

    def test_a_url_that_is_none_is_2(self):
        self.fail_with(2, "usage", "is not a usable URL", "fetch", "http://user@127.0.0.1/x.torrent")

    def test_ctrl_c_ends_the_wait_for_a_url(self):
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        silent.settimeout(20)
        process = self.start("fetch", f"http://127.0.0.1:{silent.getsockname()[1]}/x.torrent", "--json")
        connection, _ = silent.accept()
        self.addCleanup(connection.close)
        process.terminate()
        wait_until(lambda: process.poll() is not None)
        self.assertEqual(process.returncode, 7)


if __name__ == "__main__":
    main()
