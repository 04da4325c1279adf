#!/usr/bin/python3
"""How fast a release in the page cache is converted: against llama-quantize, and against a plain copy.

    tests/bench/convert_speed.py build/sluice [--layers 2] [--rounds 3] [--folder /tmp]
        [--llama-quantize 'COMMAND' --gguf MODELS/IN.gguf [--inside /models]]

Makes a release in Mixtral's shapes (mixtral_checkpoint.py, 5.7 GB) as .pth, then as safetensors, and in each round runs
everything, one after the other, so that noise of the machine meets all alike. Printed are medians of the input
rate in GB/s, and the ratios that count: of q4 to llama-quantize's Q4_0, of q8 and bf16 to the plain copy.

The plain copy reads the checkpoint, hashes it with SHA-256 (OpenSSL's, one chain) and writes it, in three threads with a
queue of 8 MiB buffers between them, so that the slowest of the three decides; it ends with fdatasync, as a conversion
does. "in one thread" is the same without threads, and "not synced" without fdatasync.

COMMAND is llama-quantize, whatever stands before it; IN.gguf is its f16 input (of two layers, in the same shapes), which
COMMAND finds in the folder --inside when it runs in another root. Needs room for the release, its copy and IN.gguf.
"""

import argparse
import hashlib
import json
import os
import queue
import shlex
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import mixtral_checkpoint
from page_cache import read_once

BUFFER_BYTES = 8 << 20
BUFFERS = 4
CORES = len(os.sched_getaffinity(0))


def plain_copy(source, target, threads=True, sync=True):
    """Seconds for read, SHA-256 and write of a file."""
    begin = time.monotonic()
    digest = hashlib.sha256()
    with open(source, "rb", buffering=0) as read, open(target, "wb", buffering=0) as written:
        if threads:
            pipeline(read, digest, written)
        else:
            buffer = memoryview(bytearray(BUFFER_BYTES))
            while count := read.readinto(buffer):
                digest.update(buffer[:count])
                written.write(buffer[:count])
        if sync:
            os.fdatasync(written.fileno())
    return time.monotonic() - begin


def pipeline(read, digest, written):
    free, full, hashed = queue.Queue(), queue.Queue(), queue.Queue()
    for _ in range(BUFFERS):
        free.put(memoryview(bytearray(BUFFER_BYTES)))

    def hash_all():
        while (item := full.get()) is not None:
            digest.update(item[0][: item[1]])
            hashed.put(item)
        hashed.put(None)

    def write_all():
        while (item := hashed.get()) is not None:
            written.write(item[0][: item[1]])
            free.put(item[0])

    workers = [threading.Thread(target=work) for work in (hash_all, write_all)]
    for worker in workers:
        worker.start()
    while True:
        buffer = free.get()
        count = read.readinto(buffer)
        if count == 0:
            break
        full.put((buffer, count))
    full.put(None)
    for worker in workers:
        worker.join()


def convert(program, release, target, quant):
    command = [str(program), "convert", str(release), "-o", str(target), "--quant", quant, "--json", "--quiet"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def llama_quantize(options):
    """Seconds, and bytes of its input."""
    source, target = options.gguf, options.gguf.with_suffix(".q4_0.gguf")
    names = [str(options.inside / path.name) if options.inside else str(path) for path in (source, target)]
    begin = time.monotonic()
    subprocess.run([*shlex.split(options.llama_quantize), *names, "Q4_0", str(CORES)], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - begin
    target.unlink()
    return seconds, source.stat().st_size


def measure(options, release, checkpoint):
    """Rates in GB/s and the most resident memory, by what ran."""
    rates, memory = {}, {}
    target = options.folder / "convert_speed.out"

    def note(name, count, seconds):
        rates.setdefault(name, []).append(count / seconds / 1e9)
        target.unlink(missing_ok=True)
        os.sync()

    for _ in range(options.rounds):
        if options.llama_quantize:
            read_once(options.gguf)
            seconds, count = llama_quantize(options)
            note("llama-quantize Q4_0", count, seconds)
        read_once(checkpoint)
        size = checkpoint.stat().st_size
        for quant in ("q4", "q8", "bf16"):
            result = convert(options.program, release, target, quant)
            memory[quant] = max(memory.get(quant, 0), result["peak_rss_bytes"])
            note(quant, result["input_bytes_per_s"] * result["seconds"], result["seconds"])
        note("plain copy", size, plain_copy(checkpoint, target))
        note("plain copy in one thread", size, plain_copy(checkpoint, target, threads=False))
        note("plain copy, not synced", size, plain_copy(checkpoint, target, sync=False))
    return {name: statistics.median(values) for name, values in rates.items()}, memory


def report(layout, rates, memory):
    print(layout)
    for name, rate in rates.items():
        resident = f"   {memory[name] >> 20} MiB resident" if name in memory else ""
        print(f"  {name:26} {rate:6.3f} GB/s{resident}")
    if "llama-quantize Q4_0" in rates:
        print(f"  q4 is {rates['q4'] / rates['llama-quantize Q4_0']:.2f} x llama-quantize")
    for plain in ("plain copy", "plain copy in one thread", "plain copy, not synced"):
        print(f"  q8 is {rates['q8'] / rates[plain]:.2f} x, bf16 {rates['bf16'] / rates[plain]:.2f} x the {plain}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    parser.add_argument("--formats", nargs="+", default=["pth", "safetensors"], choices=["pth", "safetensors"])
    parser.add_argument("--llama-quantize")
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--inside", type=Path)
    options = parser.parse_args()
    for layout in options.formats:
        release = Path(tempfile.mkdtemp(prefix="convert_speed-", dir=options.folder))
        try:
            mixtral_checkpoint.write_release(release, options.layers, layout)
            os.sync()
            checkpoint = next(release.glob("consolidated*"))
            report(layout, *measure(options, release, checkpoint))
        finally:
            shutil.rmtree(release)


if __name__ == "__main__":
    main()
