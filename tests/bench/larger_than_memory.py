#!/usr/bin/python3
"""Decoding with a model that is larger than the memory: against llama.cpp, the plain page cache and the disk.

    tests/bench/larger_than_memory.py build/sluice MODEL.sluice [--limit 1536] [--rounds 5] [-n 16]
        [--llama ROOT --gguf /models/F.gguf]

In each round everything runs once, one after the other, so that noise of the machine meets all alike: the program as it
is, the program told to leave all to the page cache (--memory 1TiB), llama.cpp, each under a memory control group of --limit
MiB and with the file out of the page cache when it begins; then the program without a limit with the file in it, and
plain reads of the file past the page cache, 4 MiB at a time by two threads, as the program reads. Printed are medians, and
what counts:

- the ratio to llama.cpp;
- the time of a token against the bound: the bytes that it had to read, at the rate of the plain reads. The time that the
  program takes for a token when all is in memory is told beside it.

ROOT (or the environment's SLUICE_LLAMA_CPP) is a Debian system with llama.cpp's llama-bench, which is called there by
chroot; /proc is mounted in it. F.gguf is a path in it. MODEL.sluice is best one of tests/bench/random_container.cpp. Needs
root, for the group.
"""

import argparse
import json
import mmap
import os
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import memory_group
from page_cache import forget, read_once

MIB = 1 << 20
READ_BYTES = 4 * MIB
READS = 256


def disk_rate(path):
    """Bytes a second of plain reads by two threads, from places all over the file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    blocks = os.fstat(descriptor).st_size // READ_BYTES
    places = iter([i // 16 * 977 % (blocks - 16) + i % 16 for i in range(READS)])  # runs of 64 MiB, about an expert's length

    def read(buffer):
        done = 0
        for block in places:
            done += os.preadv(descriptor, [memoryview(buffer)[:READ_BYTES]], block * READ_BYTES)
        return done

    # As the program's: a read into small pages has a third of the rate on a virtual disk.
    buffers = [mmap.mmap(-1, 2 * READ_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(2)]
    for buffer in buffers:
        buffer.madvise(mmap.MADV_HUGEPAGE)
    with ThreadPoolExecutor(len(buffers)) as pool:
        begin = time.monotonic()
        assert sum(pool.map(read, buffers)) == READS * READ_BYTES
        seconds = time.monotonic() - begin
    os.close(descriptor)
    return READS * READ_BYTES / seconds


def run_json(command, group=None):
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              preexec_fn=group.enter if group else None)
    if finished.returncode != 0:
        print(f"  {command[0]}: exit {finished.returncode}: {finished.stderr[-300:]}")
        return None
    return finished.stdout


class Bench:
    def __init__(self, options):
        self.options = options
        self.files = [options.model]
        if options.gguf:
            self.files.append(Path(options.llama) / options.gguf.lstrip("/"))

    def sluice(self, group, *more):
        o = self.options
        text = run_json([o.sluice, "bench", o.model, "-p", str(o.prompt), "-n", str(o.n), "-r", "1",
                         "--threads", str(o.threads), "--json", *more], group)
        return json.loads(text.splitlines()[-1]) if text else None

    def llama(self, group):
        o = self.options
        text = run_json(["chroot", o.llama, "llama-bench", "-m", o.gguf, "--repack", "0", "-t", str(o.threads), "-p", "0",
                         "-n", str(o.n), "-r", "1", "-o", "json"], group)
        return json.loads(text)[0]["avg_ts"] if text else None

    def limited(self, measure):
        for file in self.files:
            forget(file)
        with memory_group.MemoryGroup(self.options.limit * MIB) as group:
            result = measure(group)
            print(f"    peak of the group {group.peak_bytes() / MIB:.0f} MiB")
            return result

    def round(self):
        row = {}
        streamed = self.limited(lambda group: self.sluice(group))
        memory = streamed["memory"]
        row["sluice tokens/s"] = streamed["decode_tokens_per_s"]
        row["sluice prefill tokens/s"] = streamed["prefill_tokens_per_s"]
        row["sluice peak RSS MiB"] = streamed["peak_rss_bytes"] / MIB
        if memory["streams"]:
            row["hit rate"] = memory["hit_rate"]
            row["MB read a token"] = memory["bytes_read"] / self.options.n / 1e6
            row["stall share"] = memory["stall_s"] * streamed["decode_tokens_per_s"] / self.options.n
        if not self.options.only_sluice:
            cached = self.limited(lambda group: self.sluice(group, "--memory", "1TiB"))
            row["page cache tokens/s"] = cached["decode_tokens_per_s"] if cached else 0
            if self.options.gguf:
                row["llama.cpp tokens/s"] = self.limited(self.llama) or 0
            read_once(self.options.model)
            row["sluice unlimited tokens/s"] = self.sluice(None)["decode_tokens_per_s"]
        row["disk GB/s"] = disk_rate(self.options.model) / 1e9
        return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sluice")
    parser.add_argument("model")
    parser.add_argument("--limit", type=int, default=1536, help="MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-n", type=int, default=16)
    parser.add_argument("-p", "--prompt", type=int, default=4)
    parser.add_argument("--llama", default=os.environ.get("SLUICE_LLAMA_CPP"))
    parser.add_argument("--gguf")
    parser.add_argument("--only-sluice", action="store_true")
    options = parser.parse_args()
    bench = Bench(options)
    rows = []
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        rows.append(bench.round())
        for key, value in rows[-1].items():
            print(f"    {key:28} {value:10.3f}", flush=True)
    median = {key: statistics.median(row[key] for row in rows if key in row) for key in rows[0]}
    print("medians")
    for key, value in median.items():
        print(f"    {key:28} {value:10.3f}")
    if median.get("llama.cpp tokens/s"):
        print(f"    ratio to llama.cpp           {median['sluice tokens/s'] / median['llama.cpp tokens/s']:10.3f}")
    if "MB read a token" in median:
        times = [row["disk GB/s"] * 1e3 / row["MB read a token"] / row["sluice tokens/s"] for row in rows]
        print(f"    time of a token / bound      {statistics.median(times):10.3f}")


if __name__ == "__main__":
    main()
