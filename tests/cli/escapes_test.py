"""Control sequences in every text that comes from others: none reaches the terminal, and none begins a line.

Each command runs with a terminal on stdin, stdout and stderr. What the terminal gets may hold the sequences that the
program itself writes, and no others."""

import concurrent.futures
import hashlib
import http.server
import json
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path
from urllib.parse import quote

import bencode
from gguf_input_test import write_gguf
from sluice_program import LIMIT_S, PROGRAM, RELEASE, ProgramTest, main

# A window title, a colour that the program never uses, C1 controls, a mark that reverses the direction of writing, a
# carriage return, and a line of its own.
EVIL = "e\x1b]0;owned\x07\x1b[35m\u009b35m\u202ev\rC\nFORGED\u2066\x7f"
# File names hold no slash, and torrents no name with control characters at all.
EVIL_BYTES = EVIL.encode() + b"\xff\x9b35m"
# The styles of cli/styled_text.h, the live line, line ends and tabs.
OWN = re.compile(rb"\x1b\[(0|31|32|33|48;5;[0-9]+;38;5;15)m|\r\x1b\[K|\r?\n|\t")
FOREIGN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u061c\ufeff]")
ALONE = ["--no-dht", "--no-lsd", "--no-pex"]


class EvilServer:
    """Answers everything with an error whose status line, headers and body hold EVIL; a tracker's answer fails."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if "announce" in self.path:
                    body = bencode.encode({"failure reason": EVIL_BYTES})
                    head = b"HTTP/1.0 200 OK\r\n"
                else:
                    body = EVIL_BYTES
                    head = b"HTTP/1.0 404 e\x1b]0;owned\x07\r\nServer: e\x1b[35m\r\n"
                self.wfile.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def edit_container(source, target, edit):
    """Changes the directory of a .sluice file and seals it again (docs/container.md)."""
    data = source.read_bytes()
    footer = data[-128:]
    offset, length, _ = struct.unpack_from("<QQQ", footer)
    directory = json.loads(data[offset:offset + length])
    edit(directory)
    text = json.dumps(directory, separators=(",", ":"), ensure_ascii=False).encode()
    footer = struct.pack("<QQQ", offset, len(text), offset + len(text) + 128) + footer[24:56]
    footer += hashlib.sha256(text).digest()
    footer += hashlib.sha256(footer).digest() + b"SLUICEv2"
    target.write_bytes(data[:offset] + text + footer)
    return target


def write_safetensors(path, header):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))


class EscapesTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.environment["TERM"] = "xterm-256color"
        (self.folder / "share/manifests").mkdir(parents=True)
        self.environment["SLUICE_DATA_DIR"] = str(self.folder / "share")
        self.environment["XDG_CONFIG_HOME"] = str(self.folder / "config")

    def on_terminal(self, *arguments, environment=None):
        leader, follower = pty.openpty()
        process = subprocess.Popen([PROGRAM, *arguments], cwd=self.folder, stdin=follower, stdout=follower,
                                   stderr=follower, env={**self.environment, **(environment or {})})
        os.close(follower)
        received = b""
        try:
            while True:
                self.assertTrue(select.select([leader], [], [], LIMIT_S)[0], f"{arguments} says nothing")
                part = os.read(leader, 65536)
                if not part:
                    break
                received += part
        except OSError:  # the program has closed its end
            pass
        finally:
            os.close(leader)
            process.kill() if process.poll() is None and not received else None
            process.wait(timeout=LIMIT_S)
        return process.returncode, received

    def check(self, arguments, environment=None):
        """Returns what was wrong or nothing, and whether anything was replaced."""
        arguments = [os.fsencode(part) if isinstance(part, (str, Path)) else part for part in arguments]
        code, received = self.on_terminal(*arguments, environment=environment)
        rest = OWN.sub(b"\n", received)
        found = None
        try:
            found = FOREIGN.search(rest.replace(b"\n", b"").decode())
        except UnicodeDecodeError as error:
            found = error
        forged = re.search(rb"^FORGED", rest, re.MULTILINE)
        if found or forged or not received or code < 0:
            return f"{arguments}: exit {code}: {received[:600]!r}", True
        return None, b"\xef\xbf\xbd" in rest or rb"\u001b" in rest

    def check_all(self, commands, replaced_min):
        """At least `replaced_min` commands must have come to print what was planted."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda one: self.check(*one), commands))
        problems = [problem for problem, _ in results if problem]
        self.assertEqual(problems, [], "\n".join(problems))
        self.assertGreaterEqual(sum(replaced for _, replaced in results), replaced_min)

    # ---- Fields, as commands that print them ----

    def container_commands(self):
        self.environment.pop("SLUICE_DATA_DIR", None)
        self.succeed("convert", RELEASE, "-o", "m.sluice", "--quiet")
        original = self.folder / "m.sluice"

        def recipe_key(directory):
            directory["recipe"][EVIL] = "yes"
            directory["recipe"]["quality"] = {"kinds": [{"name": EVIL, "type": EVIL, "bits_per_weight": 1.5,
                                                         "relative_error": 0.5}]}

        def recipe_value(directory):
            directory["recipe"]["quant"] = EVIL
            directory["recipe"]["list"] = [EVIL]
            directory["recipe"]["folder"] = {EVIL: {EVIL: EVIL}}

        def provenance(directory):
            directory["provenance"] = {"release": EVIL, "infohash_v1": EVIL, "licence": EVIL, EVIL: EVIL,
                                       "files": [{"path": EVIL, "sha256": EVIL, "pieces_root": EVIL}]}

        def tensor_name(directory):
            directory["tensors"][0]["name"] = EVIL

        def section_name(directory):
            directory["sections"][0]["name"] = EVIL

        def unknown_key(directory):
            directory[EVIL] = EVIL

        for number, edit in enumerate((recipe_key, recipe_value, provenance, tensor_name, section_name, unknown_key)):
            path = edit_container(original, self.folder / f"edited{number}.sluice", edit)
            for command in (["inspect", path, "--tensors", "*"], ["inspect", path, "--json"], ["verify", path],
                            ["run", path, "-p", "Once", "-n", "1"],
                            ["convert", path, "--to", "gguf", "-o", self.folder / f"{number}.gguf"]):
                yield command, None

    def store_commands(self):
        """A model in the store whose record and release bear the name."""
        models = self.folder / "data/sluice/models"
        models.mkdir(parents=True)
        (models / "x-q4-0.sluice").write_bytes((self.folder / "m.sluice").read_bytes()[:100])
        (models / "x-q4-0.json").write_text(json.dumps(
            {"name": EVIL, "quant": EVIL, "identity": EVIL, "container_version": 1, "root_sha256": EVIL, "files": []}))
        (models / "y-q4-0.sluice").write_bytes(b"")
        (models / "y-q4-0.json").write_text(json.dumps({EVIL: EVIL}))
        yield ["models"], None
        yield ["models", "--json"], None
        yield ["run", EVIL.replace("\n", ""), "-p", "x"], None

    def manifest_commands(self):
        share = self.folder / "share/manifests"
        good = json.loads((RELEASE.parent / "mixtral-8x7b.json").read_text())
        data = {"SLUICE_DATA_DIR": str(self.folder / "share")}
        release = self.folder / "rel"
        for number, key in enumerate(["name", "description", "licence", "source", "unsupported", EVIL, "files"]):
            text = dict(good)
            text[key] = [{"path": EVIL, "bytes": 1}] if key == "files" else EVIL
            path = self.folder / f"share/manifests/{number}.json"
            path.write_text(json.dumps(text))
            yield ["inspect", path], None
            yield ["verify", release, "--manifest", path], None
        yield ["releases"], data
        yield ["releases", "--json"], data
        yield ["fetch", "mixtral", "--list"], data

    def key_commands(self):
        trusted = self.folder / "config/sluice/trusted"
        trusted.mkdir(parents=True)
        self.succeed("keygen", "-o", "k", "--no-password")
        self.succeed("sign", "note", "--key", "k.key") if (self.folder / "note").write_text("x") else None
        public = (self.folder / "k.pub").read_text().splitlines()
        evil_key = self.folder / "evil.pub"
        evil_key.write_bytes(b"untrusted comment: " + EVIL_BYTES.replace(b"\n", b"") + b"\n" + public[1].encode() + b"\n")
        shutil.copy(evil_key, os.fsencode(trusted) + b"/" + EVIL_BYTES + b".pub")
        signature = (self.folder / "note.minisig").read_bytes().splitlines()
        (self.folder / "m.json").write_bytes((RELEASE.parent / "mixtral-8x7b.json").read_bytes())
        signature[0] = b"untrusted comment: " + EVIL_BYTES.replace(b"\n", b"")
        signature[2] = b"trusted comment: " + EVIL_BYTES.replace(b"\n", b"")
        (self.folder / "m.json.minisig").write_bytes(b"\n".join(signature) + b"\n")
        (self.folder / "broken.pub").write_bytes(EVIL_BYTES)
        yield ["trust"], None
        yield ["trust", "--json"], None
        yield ["trust", evil_key, "--as", EVIL, "--yes"], None
        yield ["trust", "broken.pub"], None
        yield ["trust", EVIL], None
        yield ["inspect", "m.json"], None
        yield ["verify", self.folder / "rel", "--manifest", "m.json"], None
        yield ["verify", self.folder / "rel", "--manifest", "m.json", "--key", evil_key], None
        yield ["sign", "note", "--key", "k.key", "--comment", EVIL], None
        yield ["sign", "note", "--key", evil_key], None

    def torrent_commands(self, server):
        info = {"length": 5, "name": "rel", "piece length": 16384, "pieces": hashlib.sha1(b"x").digest()}
        outside = {"comment": EVIL_BYTES, "created by": EVIL_BYTES, "encoding": EVIL_BYTES,
                   "announce": b"http://" + EVIL_BYTES, "url-list": [b"http://" + EVIL_BYTES], EVIL_BYTES: EVIL_BYTES}
        torrents = {"outside": {"info": info, **outside}}
        for name, change in (("name", {"name": EVIL_BYTES}), ("attr", {"attr": EVIL_BYTES}),
                             ("source", {"source": EVIL_BYTES, EVIL_BYTES: 1})):
            torrents[name] = {"info": {**info, **change}}
        files = {key: value for key, value in info.items() if key != "length"}
        torrents["path"] = {"info": {**files, "files": [{"length": 5, "path": [EVIL_BYTES]}]}}
        torrents["tracker"] = {"info": info, "announce": server.url + "/announce"}
        for name, content in torrents.items():
            path = self.folder / f"{name}.torrent"
            path.write_bytes(bencode.encode(content))
            yield ["inspect", path], None
            yield ["fetch", path, "--list", *ALONE], None
        yield ["fetch", self.folder / "tracker.torrent", "--allow-private", "--timeout", "1", "-o", "d1", *ALONE], None
        yield ["fetch", self.folder / "outside.torrent", "--timeout", "0.5", "-o", "d2", *ALONE], None
        yield ["seed", self.folder / "path.torrent"], None
        evil = quote(EVIL.encode())
        magnet = f"magnet:?xt=urn:btih:{'0123456789' * 4}&dn={evil}&tr=http://{evil}&x.pe={evil}&ws=http://{evil}&{evil}=1"
        yield ["fetch", magnet, "--timeout", "0.5", "-o", "d3", *ALONE], None
        yield ["run", magnet, "-p", "x", "--timeout", "0.5", *ALONE], None
        yield ["fetch", server.url + "/x.torrent", "-o", "d4", *ALONE], None
        yield ["fetch", self.folder / "source.torrent", "--mirror", server.url, "--timeout", "0.5", "-o", "d5",
               "--tracker", server.url + "/announce", *ALONE], None
        yield ["fetch", self.folder / "source.torrent", "--peer", EVIL, "--tracker", EVIL, "--mirror", EVIL, *ALONE], None

    def release_commands(self):
        """File names on the disk, and names in lists of checksums."""
        release = self.folder / "rel"
        release.mkdir()
        (release / "a").write_bytes(b"hello")
        Path(os.fsdecode(os.fsencode(release) + b"/" + EVIL_BYTES)).write_bytes(b"x")
        Path(os.fsdecode(os.fsencode(release) + b"/" + EVIL.encode())).write_bytes(b"x")
        sums = self.folder / "SUMS"
        sums.write_bytes(b"%s  a\n%s  %s\n" % (b"0" * 64, b"0" * 64, EVIL_BYTES.replace(b"\n", b"")))
        folder = self.folder / EVIL
        folder.mkdir()
        (folder / "params.json").write_text("{")
        (folder / "consolidated.00.pth").write_bytes(b"x")
        yield ["verify", release], None
        yield ["verify", release, "--sums", sums], None
        yield ["verify", release, "--json", "--sums", sums], None
        yield ["publish", release, "-o", self.folder / "out.torrent"], None
        yield ["verify", release, "--write-sums", "-o", self.folder / "stem"], None
        yield ["inspect", release], None
        for command in (["inspect"], ["verify"], ["convert"], ["run", "-p", "x"], ["publish"], ["bench"]):
            yield [*command, folder], None
        yield ["eval", folder, folder], None
        yield ["publish", self.folder / (EVIL + "/params.json")], None

    def checkpoint_commands(self):
        hub = self.folder / "hub"
        for number, change in enumerate(({"model_type": EVIL}, {"architectures": [EVIL]}, {EVIL: EVIL},
                                         {"hidden_act": EVIL}, {"torch_dtype": EVIL})):
            folder = self.folder / f"hub{number}"
            folder.mkdir()
            config = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu", **change}
            (folder / "config.json").write_text(json.dumps(config))
            write_safetensors(folder / "model.safetensors", {
                "__metadata__": {EVIL: EVIL}, EVIL: {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}})
            yield ["inspect", folder, "--tensors", "*"], None
            yield ["convert", folder, "-o", self.folder / "hub.sluice"], None
        write_safetensors(self.folder / "a.safetensors", {"x": {"dtype": EVIL, "shape": [4], "data_offsets": [0, 8]}})
        write_safetensors(self.folder / "b.safetensors", {EVIL: {EVIL: EVIL}})
        for number, pairs in enumerate(({"general.architecture": EVIL}, {"general.architecture": "llama",
                                        "general.name": EVIL, EVIL: EVIL, "tokenizer.ggml.model": EVIL,
                                        "tokenizer.ggml.tokens": [EVIL], "tokenizer.chat_template": EVIL})):
            write_gguf(self.folder / f"{number}.g.gguf", pairs, {EVIL: ([32], "F32", bytes(128))})
            yield ["inspect", f"{number}.g.gguf", "--tensors", "*"], None
            yield ["run", f"{number}.g.gguf", "-p", "x"], None
        yield ["inspect", "a.safetensors"], None
        yield ["inspect", "b.safetensors"], None
        # A pickle that calls a function with this name (protocol 0: GLOBAL ends its two names with newlines).
        (self.folder / "call.pth").write_bytes(b"c" + EVIL.replace("\n", "").encode() + b"\nsystem\n(S'x'\ntR.")
        yield ["inspect", "call.pth"], None
        yield ["verify", "call.pth"], None

    def word_commands(self):
        yield [EVIL], None
        yield ["--" + EVIL], None
        for command in ("run", "fetch", "inspect"):
            yield [command, "x", "--" + EVIL], None
            yield [command, EVIL], None
        yield ["run", "x", "--seed", EVIL], None
        yield ["run", "x", "--quant", EVIL], None
        yield ["fetch", "x", "--timeout", EVIL, "--limit-down", EVIL], None
        for name in ("SLUICE_ISA", "SLUICE_ENGINE"):
            yield ["run", self.folder / "m.sluice", "-p", EVIL, "-n", "1"], {name: EVIL}
        # A line end of the user's own prompt is shown.
        yield ["run", self.folder / "m.sluice", "-p", EVIL.replace("\n", ""), "-n", "1", "--stats"], None

    def test_no_control_sequence_of_others_reaches_the_terminal(self):
        server = EvilServer()
        self.addCleanup(server.close)
        commands = [*self.release_commands(), *self.container_commands(), *self.store_commands(),
                    *self.manifest_commands(), *self.key_commands(), *self.torrent_commands(server),
                    *self.checkpoint_commands(), *self.word_commands()]
        self.check_all(commands, 80)

    def test_generated_text_is_replaced_on_a_terminal_and_raw_in_a_pipe(self):
        release = self.copy_release("rel")
        tokenizer = release / "tokenizer.model"
        data = tokenizer.read_bytes()
        # Pieces keep their lengths, so that the file stays whole; 0x15 is the tag of the score behind a piece.
        for number, piece in enumerate(("\u2581and", "\u2581the", "\u2581was", "\u2581She")):
            self.assertEqual(data.count(piece.encode() + b"\x15"), 1)
            data = data.replace(piece.encode() + b"\x15", b"\x1b[35m%d\x15" % number)
        tokenizer.write_bytes(data)
        self.succeed("convert", release, "-o", "evil.sluice", "--quiet", "--allow-damaged")
        arguments = ["run", "evil.sluice", "-p", "Once", "-n", "60", "--temperature", "0"]
        self.assertIn("\x1b[35m", self.succeed(*arguments).stdout)
        self.check_all([(arguments, None), ([*arguments, "--json"], None)], 2)

    def test_nothing_but_the_console_writes_to_the_standard_streams(self):
        sources = Path(__file__).resolve().parents[2] / "cli"
        direct = re.compile(r"std::c(out|err|log)\b|\b(f?puts|f?printf|fwrite|putchar|perror)\(|::write\(STD")
        for path in sorted(sources.glob("*.cpp")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                # main.cpp escapes the message of a bug itself: there may be no console.
                if path.name != "main.cpp":
                    self.assertIsNone(direct.search(line), f"{path.name}:{number}: print through the Console")


if __name__ == "__main__":
    main()
