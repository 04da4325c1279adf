"""A network of the test's own: one namespace a machine, joined by a bridge in a further one.

Nothing of it is in the machine's own network, so addresses need not be free there and tests can run side by
side. Names carry the process id; `close()` removes everything, and ends only what was started here.
"""

import contextlib
import ctypes
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))
import sluice_program  # noqa: E402
from sluice_program import PROGRAM, Finished, main, wait_until  # noqa: E402, F401

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
DEBIANS_PYTHON = "/usr/bin/python3"  # the one for which python3-libtorrent is


TOLD_ONLY = ("--no-dht", "--no-lsd", "--allow-private")  # a fetch that knows only who is named, and whom these know


class NoNetwork(Exception):
    """Namespaces cannot be made here."""


def command(*arguments):
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


class Machine:
    """A namespace with an IPv4 and an IPv6 address. Everything done here is done in it."""

    def __init__(self, name, address, address6=None):
        self.name, self.address, self.address6 = name, address, address6

    @contextlib.contextmanager
    def inside(self):
        """The calling thread's new sockets belong to this machine."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            if LIBC.setns(there.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if LIBC.setns(home.fileno(), CLONE_NEWNET) != 0:
                    os.abort()  # all that follows would happen on the wrong machine

    def new_socket(self, kind=socket.SOCK_STREAM, family=socket.AF_INET):
        with self.inside():
            return socket.socket(family, kind)

    def listen(self, port, kind=socket.SOCK_STREAM, family=socket.AF_INET):
        listener = self.new_socket(kind, family)
        if kind == socket.SOCK_STREAM:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.address if family == socket.AF_INET else self.address6, port))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        return listener

    def connect(self, address, timeout_s=10):
        connection = self.new_socket()
        connection.settimeout(timeout_s)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection

    def lose(self, percent):
        """Drops so many of a hundred packets that come in, whole packets of the wire's size."""
        command("ip", "-n", self.name, "link", "set", "eth0", "gso_max_segs", "1")
        rules = ("add table inet bad; "
                 "add chain inet bad in { type filter hook input priority 0; }; "
                 f"add rule inet bad in iif eth0 numgen random mod 100 < {percent} counter drop")
        command("ip", "netns", "exec", self.name, "nft", rules)

    def lost_packets(self):
        words = command("ip", "netns", "exec", self.name, "nft", "list", "table", "inet", "bad").split()
        return int(words[words.index("packets") + 1])

    def limit_line(self, rate="20mbit"):
        command("ip", "netns", "exec", self.name, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf",
                "rate", rate, "burst", "64kb", "latency", "100ms")

    def delayed_packets(self):
        words = command("ip", "netns", "exec", self.name, "tc", "-s", "qdisc", "show", "dev", "eth0").split()
        return int(words[words.index("overlimits") + 1])

    def cut_off(self):
        """As by a pulled cable: nobody is told."""
        command("ip", "-n", self.name, "link", "set", "eth0", "down")


class Network:
    """Machines at 10.77.0.1 and fd77::1, .2 and ::2, ... on one bridge."""

    count = 0

    def __init__(self):
        Network.count += 1
        self.prefix = f"sluice-{os.getpid()}-{Network.count}"
        self.hub = f"{self.prefix}-hub"
        self.machines = []
        self.namespaces = []
        if os.geteuid() != 0:
            raise NoNetwork("network namespaces need root")
        try:
            self._add_namespace(self.hub)
            command("ip", "-n", self.hub, "link", "add", "name", "bridge", "type", "bridge")
            command("ip", "-n", self.hub, "link", "set", "bridge", "up")
        except (OSError, RuntimeError) as error:
            self.close()
            raise NoNetwork(str(error)) from error

    def _add_namespace(self, name):
        command("ip", "netns", "add", name)
        self.namespaces.append(name)
        command("ip", "-n", name, "link", "set", "lo", "up")

    def machine(self, address=None):
        """`address`: another one of 10.77.0.0/16."""
        number = len(self.machines) + 1
        machine = Machine(f"{self.prefix}-{number}", address or f"10.77.0.{number}", f"fd77::{number}")
        self._add_namespace(machine.name)
        command("ip", "-n", self.hub, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0",
                "netns", machine.name)
        command("ip", "-n", self.hub, "link", "set", f"port{number}", "master", "bridge", "up")
        command("ip", "-n", machine.name, "address", "add", f"{machine.address}/16", "dev", "eth0")
        command("ip", "-n", machine.name, "address", "add", f"{machine.address6}/64", "dev", "eth0", "nodad")
        command("ip", "-n", machine.name, "link", "set", "eth0", "up")
        command("ip", "-n", machine.name, "route", "add", "default", "dev", "eth0")
        self.machines.append(machine)
        return machine

    def close(self):
        for name in reversed(self.namespaces):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        self.namespaces.clear()


class NetTest(sluice_program.ProgramTest):
    """A test with a network of its own. The program is started on one of its machines."""

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)  # opentracker reads its list as nobody
        try:
            self.network = Network()
        except NoNetwork as problem:
            self.skipTest(str(problem))
        self.addCleanup(self.network.close)

    def start_on(self, machine, *arguments, **options):
        """A process on this machine; ended with the test. stdout is a pipe unless told otherwise."""
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.DEVNULL)
        process = subprocess.Popen(
            ["ip", "netns", "exec", machine.name, *map(str, arguments)], cwd=self.folder, text=True,
            env={**self.environment, **options.pop("environment", {})}, stdin=subprocess.DEVNULL, **options)
        self.addCleanup(self.end, process)
        return process

    def start_fetch(self, machine, source, *options, output="downloads", discovery=TOLD_ONLY, **more):
        """stdout and stderr go to files, so that it never waits for a reader."""
        stdout, stderr = self.folder / f"{output}.stdout", self.folder / f"{output}.stderr"
        with open(stdout, "w") as out, open(stderr, "w") as err:
            process = self.start_on(machine, PROGRAM, "fetch", source, "-o", self.folder / output, "--json",
                                    *discovery, *options, stdout=out, stderr=err, **more)
        process.output = (stdout, stderr)
        return process

    def finish(self, process, limit_s=90):
        try:
            process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on after {limit_s} s:\n{self.told(process)}") from None
        return self.told(process)

    @staticmethod
    def told(process):
        stdout, stderr = (path.read_text() for path in process.output)
        return Finished(process.returncode, stdout, stderr)

    def fetch(self, machine, source, *options, limit_s=90, **more):
        return self.finish(self.start_fetch(machine, source, *options, **more), limit_s)

    def wait_until_bytes(self, process, folder, count):
        """Until so many bytes of the release are on the disk of a fetch that still runs."""
        def arrived():
            self.assertIsNone(process.poll(), str(self.told(process)))
            return used_bytes(folder) >= count
        wait_until(arrived, 60)

    def start_seed(self, machine, torrent, folder, *options, discovery=("--no-dht", "--no-lsd"), **more):
        """`sluice seed`, once it listens; its port is 6881."""
        process = self.start_on(machine, PROGRAM, "seed", torrent, folder, "--port", "6881", "--json", *discovery,
                                *options, **more)
        line = process.stdout.readline()
        self.assertIn('"listening"', line)
        threading.Thread(target=process.stdout.read, daemon=True).start()
        return process

    @staticmethod
    def has_libtorrent():
        return subprocess.run([DEBIANS_PYTHON, "-c", "import libtorrent"], capture_output=True).returncode == 0

    def make_release(self, sizes=None, name="model"):
        """Files of random content: one large, some small and crooked, one in a folder, an empty one."""
        folder = self.folder / name
        sizes = sizes or {"consolidated.safetensors": 3_000_001, "params.json": 312, "tokenizer/tokenizer.model": 70_001,
                          "empty": 0}
        for path, count in sizes.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(os.urandom(count))
        return folder

    def publish_version(self, folder, version, *options):
        return self.publish(folder, "--piece-size", "64KiB", *options, *(["--v1-only"] if version == "v1" else []))

    def start_tracker(self, machine, *published):
        """opentracker; Debian's knows only the info-hashes it is told. Returns its announce URL."""
        if not has_program("opentracker"):
            self.skipTest("opentracker is not installed")
        folder = self.folder / "tracker"
        folder.mkdir(exist_ok=True)
        hashes = [value[:40] for result in published
                  for value in (result["infohash_v1"], result["infohash_v2"]) if value]
        (folder / "hashes").write_text("".join(value + "\n" for value in hashes))
        self.start_on(machine, "opentracker", "-i", machine.address, "-p", "6969", "-P", "6969", "-d", folder,
                      "-u", "nobody", "-w", "hashes", stdout=subprocess.DEVNULL)
        wait_until(lambda: self.is_open(machine, 6969))
        return f"http://{machine.address}:6969/announce"

    @staticmethod
    def is_open(machine, port):
        try:
            machine.connect((machine.address, port), 1).close()
            return True
        except OSError:
            return False

    def tracker_knows(self, machine, infohash):
        """True once a seed of it has announced itself."""
        with machine.connect((machine.address, 6969)) as connection:
            query = "".join(f"%{infohash[i:i + 2]}" for i in range(0, 40, 2))
            connection.sendall(f"GET /scrape?info_hash={query} HTTP/1.0\r\n\r\n".encode())
            answer = b""
            while part := connection.recv(4096):
                answer += part
        return b"8:completei0e" not in answer and b"8:completei" in answer


def has_program(name):
    return any((Path(folder) / name).exists() for folder in os.environ["PATH"].split(":") + ["/usr/sbin"])


def used_bytes(folder):
    """What the files below take on the disk: sparse ones count by what is written."""
    total = 0
    for path in Path(folder).rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512 if path.is_file() else 0
    return total


def read_files(folder):
    """Paths and contents, without pad files."""
    folder = Path(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and ".pad" not in path.relative_to(folder).parts}


def children_of(process):
    """Process ids of its fetch workers."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == process.pid and b"fetch-worker" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return found


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


class Relay:
    """Passes TCP connections on and holds every byte back for a while, in both directions."""

    def __init__(self, machine, port, target, delay_s):
        self.machine, self.target, self.delay_s = machine, target, delay_s
        self.bytes = 0
        self.open = [machine.listen(port)]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.open[0].accept()
                self.open.append(near)
                far = self.machine.connect(self.target)
                far.settimeout(None)
                self.open.append(far)
                for source, sink in ((near, far), (far, near)):
                    under_way = queue.SimpleQueue()
                    for work in ((self._receive, source, under_way), (self._send, sink, under_way)):
                        threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    def _receive(self, source, under_way):
        data = b"x"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            self.bytes += len(data)
            under_way.put((time.monotonic() + self.delay_s, data))

    @staticmethod
    def _send(sink, under_way):
        with contextlib.suppress(OSError):
            while True:
                due, data = under_way.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    return sink.shutdown(socket.SHUT_WR)
                sink.sendall(data)

    def close(self):
        close_all(self.open)


def close_all(sockets):
    """Also ends the threads that wait on them."""
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
