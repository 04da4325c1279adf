#!/usr/bin/python3
"""How fast a release comes over loopback from one seeder: sluice against stock libtorrent and aria2.

    tests/bench/fetch_speed.py build/sluice [--gib 2] [--rounds 3] [--hybrid]

Each round runs all three, one after the other, so that noise of the machine meets all of them. Printed are
medians of wall time, CPU seconds a GiB, the most resident memory of all its processes together, and the ratios. Needs aria2 and
python3-libtorrent. What is fetched is compared with the original once for each of them.
"""

import argparse
import filecmp
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

GIB = 1 << 30
DEBIANS_PYTHON = "/usr/bin/python3"  # the one for which python3-libtorrent is
LIMIT_S = 120

SEEDER = """
import libtorrent as lt, sys, time
session = lt.session({'listen_interfaces': '127.0.0.1:0', 'enable_dht': False, 'enable_lsd': False,
                      'enable_upnp': False, 'enable_natpmp': False})
session.add_torrent({'ti': lt.torrent_info(sys.argv[1]), 'save_path': sys.argv[2],
                     'flags': lt.torrent_flags.seed_mode})
while session.listen_port() == 0:
    time.sleep(0.05)
print(session.listen_port(), flush=True)
sys.stdin.read()
"""

# Default settings, but for what looks for peers elsewhere, and over TCP: over uTP it reached 6 MB/s here.
STOCK = """
import libtorrent as lt, sys, time
session = lt.session({'listen_interfaces': '127.0.0.1:0', 'enable_dht': False, 'enable_lsd': False,
                      'enable_upnp': False, 'enable_natpmp': False, 'enable_outgoing_utp': False})
handle = session.add_torrent({'ti': lt.torrent_info(sys.argv[1]), 'save_path': sys.argv[2]})
while not handle.status().is_seeding:
    if handle.status().num_peers == 0:  # until it has looked at the files it takes none
        handle.connect_peer(('127.0.0.1', int(sys.argv[3])))
    time.sleep(0.02)
"""


def commands(program, torrent, port):
    """What each client is called, given the folder to fetch into."""
    stock = [DEBIANS_PYTHON, "-c", STOCK, str(torrent)]
    return {
        "sluice": lambda out: [str(program), "fetch", str(torrent), "-o", str(out), "--peer",
                               f"127.0.0.1:{port}", "--no-dht", "--no-lsd", "--no-pex", "--quiet"],
        "libtorrent": lambda out: [*stock, str(out), str(port)],
        "aria2": lambda out: ["aria2c", "--enable-dht=false", "--enable-dht6=false", "--seed-time=0",
                              "--enable-peer-exchange=false", "--quiet", "--dir", str(out), str(torrent)],
    }


class Tracker:
    """aria2 takes peers from a tracker only; this one tells everybody of the one seeder."""

    def __init__(self, port):
        import http.server
        import threading
        peer = b"\x7f\x00\x00\x01" + port.to_bytes(2, "big")
        answer = b"d8:intervali60e5:peers6:" + peer + b"e"

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/announce"


def run(command):
    """Wall seconds and the peak of resident memory of its processes together."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    while process.poll() is None:
        if time.monotonic() - start > LIMIT_S:
            process.kill()
            raise SystemExit(f"{command[0]} took more than {LIMIT_S} s")
        peak = max(peak, resident_bytes(process.pid))
        time.sleep(0.02)
    wall = time.monotonic() - start
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {process.stderr.read().decode()[-500:]}")
    return wall, peak


def resident_bytes(pid):
    """Of a process and its children together, now."""
    total = 0
    try:
        with open(f"/proc/{pid}/statm") as statm:
            total = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                total += sum(resident_bytes(int(child)) for child in children.read().split())
    except (OSError, IndexError):
        pass  # it has just ended
    return total


def cpu_seconds():
    times = os.times()
    return times.children_user + times.children_system


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hybrid", action="store_true", help="aria2 is left out: pad files are real to it")
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=options.folder) as name:
        folder = Path(name)
        (folder / "release").mkdir()
        payload = folder / "release/consolidated.00.pth"
        with payload.open("wb") as file:
            for _ in range(int(options.gib * 64)):
                file.write(os.urandom(GIB // 64))
        torrent = folder / "release.torrent"
        make = [options.program, "publish", folder / "release", "-o", torrent, "--piece-size", "4MiB"]
        seeder = None
        try:
            subprocess.run([*make, *([] if options.hybrid else ["--v1-only"])], check=True,
                           stdout=subprocess.DEVNULL)
            seeder = subprocess.Popen([DEBIANS_PYTHON, "-c", SEEDER, str(torrent), str(folder)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            port = int(seeder.stdout.readline())
            tracker = Tracker(port)
            results = measure(options, folder, payload, commands(options.program, torrent, port), tracker)
        finally:
            if seeder:
                seeder.stdin.close()
                seeder.wait()
    report(results, options.gib)


def measure(options, folder, payload, clients, tracker):
    if options.hybrid:
        del clients["aria2"]
    results = {name: [] for name in clients}
    for turn in range(options.rounds):
        for name, command in clients.items():
            out = folder / f"out-{name}"
            out.mkdir()
            line = command(out)
            if name == "aria2":
                line.insert(-1, f"--bt-tracker={tracker.url}")
            cpu = cpu_seconds()
            wall, peak = run(line)
            results[name].append((wall, cpu_seconds() - cpu, peak))
            if turn == 0 and not filecmp.cmp(payload, out / "release" / payload.name, shallow=False):
                raise SystemExit(f"{name} fetched something else")
            shutil.rmtree(out)
    return results


def report(results, gib):
    print(f"{'':12}{'wall s':>9}{'MB/s':>8}{'CPU s/GiB':>11}{'resident MB':>13}")
    medians = {}
    for name, rows in results.items():
        wall, cpu, peak = (statistics.median(column) for column in zip(*rows))
        medians[name] = wall
        print(f"{name:12}{wall:9.2f}{gib * GIB / wall / 1e6:8.0f}{cpu / gib:11.2f}{peak / 1e6:13.0f}")
    for name in medians:
        if name != "sluice":
            print(f"sluice is {medians[name] / medians['sluice']:.2f} times as fast as {name}")


main()
