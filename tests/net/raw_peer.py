"""A peer written by hand, message by message (BEP 3, 6, 9, 10, 52), so that it can say what no client would.

It listens, has all pieces and serves each connection in a thread. What it says is up to the methods below, which a
hostile peer overrides. It knows neither choking nor rates.
"""

import contextlib
import hashlib
import os
import struct
import threading

from network import close_all

BLOCK = 16384
CHOKE, UNCHOKE, INTERESTED, HAVE, BITFIELD, REQUEST, PIECE = 0, 1, 2, 4, 5, 6, 7
HAVE_ALL, EXTENDED = 14, 20
HASH_REQUEST, HASHES, HASH_REJECT = 21, 22, 23
METADATA_ID = 3  # ours, for ut_metadata
EXTENSIONS, V2, FAST = (5, 0x10), (7, 0x10), (7, 0x04)  # byte and bit of the handshake's reserved eight


def bdecode(data, at=0):
    """The value at `at` and where it ends."""
    kind = data[at:at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1:end]), end + 1
    if kind in (b"l", b"d"):
        values = []
        at += 1
        while data[at:at + 1] != b"e":
            value, at = bdecode(data, at)
            values.append(value)
        return (values if kind == b"l" else dict(zip(values[::2], values[1::2]))), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1:end], end


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


class SharedRelease:
    """A .torrent and the folder it is of, as one string of bytes with the pad files' zeros."""

    def __init__(self, torrent, folder):
        self.info = bdecode(torrent.read_bytes())[0][b"info"]
        self.metadata = bencode(self.info)
        self.piece_bytes = self.info[b"piece length"]
        self.infohash_v1 = hashlib.sha1(self.metadata).digest()
        self.infohash_v2 = hashlib.sha256(self.metadata).digest() if b"meta version" in self.info else None
        self.data = b""
        for file in self.info[b"files"]:
            if file.get(b"attr") == b"p":
                self.data += bytes(file[b"length"])
                continue
            self.data += (folder / os.fsdecode(b"/".join(file[b"path"]))).read_bytes()


class RawPeer:
    reserved = [EXTENSIONS, FAST]
    metadata_is_known = True  # it offers the metadata
    metadata_bytes = None  # as it says; None: as it is

    def __init__(self, machine, port, release):
        self.machine, self.release = machine, release
        self.connections = 0
        self.blocks_sent = 0
        self.hash_requests = 0
        self.problems = []
        self.listener = machine.listen(port)
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        close_all([self.listener, *self.open])

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                threading.Thread(target=self._run, args=[self.serve, connection], daemon=True).start()

    def _run(self, work, connection):
        try:
            work(Wire(connection))
        except (OSError, EOFError):
            pass
        except Exception as problem:  # told by the test
            self.problems.append(repr(problem))
        finally:
            connection.close()

    # ---- What a hostile peer overrides ----

    def serve(self, wire):
        if not wire.read(20).startswith(b"\x13BitTorrent"):
            return  # encrypted; it comes back in plain text
        infohash = wire.read(28)[8:]
        if V2 in self.reserved and self.release.infohash_v2:
            infohash = self.release.infohash_v2[:20]  # BEP 52: so a connection goes over to version 2
        wire.read(20)
        self.greet(wire, infohash)
        self.talk(wire)

    def call(self, address):
        """Connects by itself and says that it is about the v1 info-hash."""
        connection = self.machine.connect(address)
        connection.settimeout(None)
        self.open.append(connection)
        self._run(self.talk_first, connection)

    def talk_first(self, wire):
        self.greet(wire, self.release.infohash_v1)
        wire.read(68)
        self.talk(wire)

    def greet(self, wire, infohash):
        reserved = bytearray(8)
        for byte, bit in self.reserved:
            reserved[byte] |= bit
        wire.write(b"\x13BitTorrent protocol" + bytes(reserved) + infohash + b"-RW0001-" + os.urandom(12))

    def talk(self, wire):
        self.connections += 1
        self.after_handshake(wire)
        while True:
            self.handle(wire, *wire.read_message())

    def after_handshake(self, wire):
        ours = {b"m": {b"ut_metadata": METADATA_ID}}
        if self.metadata_is_known:
            ours[b"metadata_size"] = self.metadata_bytes or len(self.release.metadata)
        wire.send(EXTENDED, b"\0" + bencode(ours))
        self.tell_pieces(wire)
        wire.send(UNCHOKE)

    def tell_pieces(self, wire):
        wire.send(HAVE_ALL)

    def handle(self, wire, kind, payload):
        if kind == EXTENDED:
            self.handle_extended(wire, payload)
        elif kind == REQUEST:
            piece, offset, count = struct.unpack(">III", payload)
            self.blocks_sent += 1
            wire.send(PIECE, struct.pack(">II", piece, offset) + self.block(piece, offset, count))
        elif kind == HASH_REQUEST:
            self.hash_requests += 1
            self.answer_hash_request(wire, payload)

    def handle_extended(self, wire, payload):
        if payload[0] == 0:
            wire.their_metadata_id = bdecode(payload, 1)[0].get(b"m", {}).get(b"ut_metadata", 0)
        elif payload[0] == METADATA_ID and self.metadata_is_known:
            asked = bdecode(payload, 1)[0]
            if asked[b"msg_type"] == 0:
                piece = asked[b"piece"]
                told = {b"msg_type": 1, b"piece": piece, b"total_size": len(self.release.metadata)}
                wire.send(EXTENDED, bytes([wire.their_metadata_id]) + bencode(told) +
                          self.release.metadata[piece * BLOCK:(piece + 1) * BLOCK])

    def block(self, piece, offset, count):
        start = piece * self.release.piece_bytes + offset
        return self.release.data[start:start + count]

    def answer_hash_request(self, wire, payload):
        """BEP 52: the request's 48 bytes come back in front of the hashes, or of nothing."""
        wire.send(HASH_REJECT, payload)


class Wire:
    """Messages of a connection."""

    def __init__(self, connection):
        self.connection = connection
        self.buffer = b""
        self.their_metadata_id = 0

    def read(self, count):
        while len(self.buffer) < count:
            part = self.connection.recv(65536)
            if not part:
                raise EOFError
            self.buffer += part
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def write(self, data):
        self.connection.sendall(data)

    def read_message(self):
        while True:
            count, = struct.unpack(">I", self.read(4))
            if count:
                message = self.read(count)
                return message[0], message[1:]

    def send(self, kind, payload=b""):
        self.write(struct.pack(">IB", len(payload) + 1, kind) + payload)


def hashes_asked(payload):
    """Pieces root, base layer, index, count and proof layers of a hash request."""
    return struct.unpack(">32sIIII", payload)
