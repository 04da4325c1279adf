#!/usr/bin/python3
"""How decoding grows with the context, and with the number of experts.

    tests/bench/growth.py build/sluice build/tests/random_container FOLDER [--rounds 3] [--threads 2] [-n 16]
        [--contexts 128,512,2048,8192,16384] [--experts 8,16,64] [--layers 4] [--experts-layers 1]

Containers of random weights in Mixtral 8x7B's shapes are written into FOLDER (one of 3.7 GB; one of 0.2 GB and 96 MB an expert
for each number of experts) and removed in the end. Two experts are chosen whatever their number, so that the same number of
weights is active; each token is a random one, and goes to other experts than the one before. In each round everything runs
once. Printed are medians of the time of a token, what it is relative to the first of its row, and every round's time with what
the memory gave in it.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

from page_cache import read_once


def numbers(text):
    return [int(n) for n in text.split(",") if n]


class Bench:
    def __init__(self, options):
        self.options = options

    def make(self, name, *arguments):
        path = self.options.folder / name
        subprocess.run([self.options.generator, path, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
        return path

    def token(self, model, prompt):
        """Milliseconds of a token, and GB/s of plain reads in huge pages beside them."""
        o = self.options
        read_once(model)  # the generator writes past the page cache, and the others may have taken its place
        text = subprocess.run([o.sluice, "bench", model, "-p", str(prompt), "-n", str(o.n), "-r", "1", "--threads",
                               str(o.threads), "--verify", "off", "--json"],
                              check=True, stdout=subprocess.PIPE, text=True).stdout
        result = json.loads(text.splitlines()[-1])
        return 1e3 / result["decode_tokens_per_s"], result["read_bandwidth_huge_gb_per_s"]


def show(title, rows):
    print(title)
    median = {key: statistics.median(row[key][0] for row in rows) for key in rows[0]}
    first = next(iter(median.values()))
    for key, value in median.items():
        rounds = ", ".join(f"{row[key][0]:.2f} ms at {row[key][1]:.0f} GB/s" for row in rows)
        print(f"    {key:8} {value:8.2f} ms {value / first:8.3f}    {rounds}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sluice")
    parser.add_argument("generator")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-n", type=int, default=16)
    parser.add_argument("--contexts", type=numbers, default=numbers("128,512,2048,8192,16384"))
    parser.add_argument("--experts", type=numbers, default=numbers("8,16,64"))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--experts-layers", type=int, default=1)
    options = parser.parse_args()
    bench = Bench(options)
    models = []
    try:
        if options.contexts:
            models.append(bench.make("contexts.sluice", "--layers", options.layers))
            rows = [{c: bench.token(models[0], c) for c in options.contexts} for _ in range(options.rounds)]
            show("tokens of context", rows)
        by_count = {}
        for count in options.experts:
            by_count[count] = bench.make(f"{count}.sluice", "--layers", options.experts_layers, "--experts", count)
            models.append(by_count[count])
        if by_count:
            rows = [{count: bench.token(model, 64) for count, model in by_count.items()} for _ in range(options.rounds)]
            show("experts", rows)
    finally:
        for model in models:
            model.unlink()


if __name__ == "__main__":
    main()
