#!/usr/bin/python3
"""How fast a release in the page cache is proven: sluice against what people use, and against openssl speed.

    tests/bench/verify_speed.py build/sluice [--gib 4] [--rounds 5] [--cold]

Each round runs all of them, one after the other, so that noise of the machine meets all alike. Printed are
medians of wall time, CPU seconds a GiB and the most resident memory, and the ratios that count: of a check by torrent to what
all cores could hash by `openssl speed`. With --cold nothing is in the page cache when a check begins. Needs aria2
and python3-libtorrent.
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

GIB = 1 << 30
FILES = 4
PIECE_BYTES = 4 << 20
CORES = len(os.sched_getaffinity(0))
DEBIANS_PYTHON = "/usr/bin/python3"  # the one for which python3-libtorrent is

MAKE_TORRENT = """
import libtorrent as lt, os, sys
folder, out, piece_bytes, kind = sys.argv[1:]
files = lt.file_storage()
lt.add_files(files, folder)
flags = {'v1': lt.create_torrent.v1_only, 'v2': lt.create_torrent.v2_only, 'hybrid': 0}[kind]
made = lt.create_torrent(files, int(piece_bytes), flags)
lt.set_piece_hashes(made, os.path.dirname(folder))
open(out, 'wb').write(lt.bencode(made.generate()))
"""

# With as many threads as there are cores; by default it uses one.
RECHECK = """
import libtorrent as lt, sys, time
session = lt.session({'listen_interfaces': '', 'enable_dht': False, 'enable_lsd': False, 'enable_upnp': False,
                      'enable_natpmp': False, 'hashing_threads': int(sys.argv[3])})
handle = session.add_torrent({'ti': lt.torrent_info(sys.argv[1]), 'save_path': sys.argv[2]})
while not handle.status().is_seeding:
    time.sleep(0.005)
"""


def checks(program, folder, release):
    """What is run, by what it is called in the table."""
    files = [str(path) for path in sorted(release.iterdir())]
    sluice = [str(program), "verify", str(release), "--quiet"]
    recheck = [DEBIANS_PYTHON, "-c", RECHECK]
    return {
        "sluice, v1": [*sluice, "--torrent", f"{folder}/v1.torrent"],
        "sluice, v2": [*sluice, "--torrent", f"{folder}/v2.torrent"],
        "sluice, hybrid": [*sluice, "--torrent", f"{folder}/hybrid.torrent"],
        "sluice, SHA-256 of files": [*sluice, "--sums", f"{folder}/SHA256SUMS"],
        "sluice, MD5 of files": [*sluice, "--sums", f"{folder}/MD5SUMS"],
        "libtorrent recheck, v1": [*recheck, f"{folder}/v1.torrent", str(folder), str(CORES)],
        "libtorrent recheck, v2": [*recheck, f"{folder}/v2.torrent", str(folder), str(CORES)],
        "aria2c -V, v1": ["aria2c", "--check-integrity=true", "--hash-check-only=true", "--quiet", "--dir", str(folder),
                          "--enable-dht=false", "--enable-dht6=false", f"{folder}/v1.torrent"],
        "openssl dgst -sha1": ["openssl", "dgst", "-sha1", *files],
        "openssl dgst -sha256": ["openssl", "dgst", "-sha256", *files],
        "openssl dgst -md5": ["openssl", "dgst", "-md5", *files],
        "sha256sum": ["sha256sum", "-c", "--quiet", f"{folder}/SHA256SUMS"],
        "md5sum": ["md5sum", "-c", "--quiet", f"{folder}/MD5SUMS"],
    }


def make_release(folder, gib):
    release = folder / "release"
    release.mkdir()
    for i in range(FILES):
        with (release / f"consolidated.{i:02}.pth").open("wb") as file:
            for _ in range(int(gib * GIB / FILES) >> 24):
                file.write(os.urandom(1 << 24))
            file.flush()
            os.fsync(file.fileno())
    for kind in "v1", "v2", "hybrid":
        subprocess.run([DEBIANS_PYTHON, "-c", MAKE_TORRENT, release, folder / f"{kind}.torrent", str(PIECE_BYTES),
                        kind], check=True)
    for tool, name in ("sha256sum", "SHA256SUMS"), ("md5sum", "MD5SUMS"):
        with (folder / name).open("w") as sums:
            subprocess.run([tool, *sorted(path.name for path in release.iterdir())], cwd=release, stdout=sums,
                           check=True)
    return release


def set_cache(release, cold):
    """All of the release is in the page cache, or nothing."""
    for path in release.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        if cold:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            while os.read(descriptor, 1 << 22):
                pass
        os.close(descriptor)


def run(command, cwd):
    """Wall seconds, CPU seconds and the most resident bytes."""
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL)
    peak = 0
    # Not wait4's ru_maxrss: that counts what this program had before it became the other.
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        peak = max(peak, resident_bytes(process.pid))
        time.sleep(0.005)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed")
    return wall, ended[2].ru_utime + ended[2].ru_stime, peak


def resident_bytes(pid):
    """The most so far."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) << 10 if found else 0


def openssl_speed(algorithm, block_bytes, clock):
    """Bytes a second of one core; of wall time with -elapsed, else of CPU time."""
    out = subprocess.run(["openssl", "speed", *clock, "-seconds", "1", "-bytes", str(block_bytes), "-evp", algorithm],
                         check=True, capture_output=True, text=True).stdout
    return float(re.search(r"([\d.]+)k\s*$", out).group(1)) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--only", default="", help="names of the table that contain this")
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    options = parser.parse_args()
    options.program = options.program.resolve()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=options.folder) as name:
        folder = Path(name)
        release = make_release(folder, options.gib)
        commands = {name: command for name, command in checks(options.program, folder, release).items()
                    if options.only in name}
        times = {name: [] for name in commands}
        speeds = {"sha1": [], "sha256": [], "md5": []}
        for _ in range(options.rounds):
            for algorithm, block_bytes in ("sha1", 1 << 20), ("sha256", 1 << 14), ("md5", 1 << 20):
                speeds[algorithm].append([openssl_speed(algorithm, block_bytes, clock) for clock in (["-elapsed"], [])])
            for name, command in commands.items():
                set_cache(release, options.cold)
                times[name].append(run(command, release))
        report(times, {name: [statistics.median(column) for column in zip(*rows)] for name, rows in speeds.items()},
               options.gib)


def report(times, speeds, gib):
    print(f"{'':26}{'wall s':>8}{'GB/s':>7}{'CPU s/GiB':>11}{'resident MiB':>14}")
    medians = {}
    for name, rows in times.items():
        wall, cpu, peak = (statistics.median(column) for column in zip(*rows))
        medians[name] = gib * GIB / wall, gib * GIB / cpu
        print(f"{name:26}{wall:8.2f}{gib * GIB / wall / 1e9:7.2f}{cpu / gib:11.2f}{peak / (1 << 20):14.0f}")
    for name, (by_wall, by_cpu) in speeds.items():
        print(f"openssl speed -evp {name}: {by_wall / 1e9:.2f} GB/s, {by_cpu / 1e9:.2f} GB a CPU second")
    print(f"times as fast as {CORES} cores of openssl speed, by wall time and, for busy machines, by CPU time:")
    for check, algorithm in ("v1", "sha1"), ("v2", "sha256"), ("SHA-256 of files", "sha256"), ("MD5 of files", "md5"):
        if f"sluice, {check}" in medians:
            by_wall, by_cpu = medians[f"sluice, {check}"]
            print(f"  {check:24}{by_wall / speeds[algorithm][0] / CORES:6.2f}{by_cpu / speeds[algorithm][1]:6.2f}")


main()
