#!/usr/bin/python3
"""Prefill, decoding and the time to the first token: against llama.cpp and against what the machine shows.

    tests/bench/run_speed.py build/sluice MODEL.sluice [--rounds 5] [--threads 2] [-n 32] [--prompts 512,128]
        [--llama ROOT --gguf /models/F.gguf]

In each round everything runs once, one after the other, so that noise of the machine meets all alike; printed are medians
and the ratios of medians. MODEL.sluice is one of tests/bench/random_container.cpp, F.gguf the same shapes in the type that
llama.cpp is to be measured with. Both are read once before, so that they are in the page cache.

The first token is that of `sluice run` on a text of 16 tokens, from the start of the process to the line that tells the token,
with the proofs of an earlier run beside the file; told with it are the process' end, and the time that what it has touched (the
file without the embedding and the experts that no token went to) would take at the rate of plain reads in huge pages that the
same round measured.

ROOT (or the environment's SLUICE_LLAMA_CPP) is a Debian system with llama.cpp's llama-bench, which is called there by
chroot; /proc is mounted in it. F.gguf is a path in it.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

from page_cache import read_once

TURNS = 3  # within a round, of both programs' decoding: what the memory gives may change within seconds


def output_of(command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout


class Bench:
    def __init__(self, options):
        self.options = options
        self.prompts = [int(p) for p in options.prompts.split(",")]
        read_once(options.model)
        if options.gguf:
            read_once(Path(options.llama) / options.gguf.lstrip("/"))

    def sluice(self, row):
        o = self.options
        for prompt in self.prompts:
            text = output_of([o.sluice, "bench", o.model, "-p", str(prompt), "-n", str(o.n), "-r", "1", "--threads",
                              str(o.threads), "--json"])
            result = json.loads(text.splitlines()[-1])
            row[f"sluice prefill of {prompt}, tokens/s"] = result["prefill_tokens_per_s"]
            row[f"sluice prefill of {prompt}, share of the int8 peak"] = result["prefill_peak_fraction"]
            row[f"sluice decode after {prompt}, tokens/s"] = result["decode_tokens_per_s"]
            row[f"sluice decode after {prompt}, share of plain reads"] = result["decode_bandwidth_fraction"]
            row[f"sluice decode after {prompt}, share of reads in huge pages"] = result["decode_bandwidth_huge_fraction"]
            row["plain reads, GB/s"] = result["read_bandwidth_gb_per_s"]
            row["plain reads in huge pages, GB/s"] = result["read_bandwidth_huge_gb_per_s"]

    def tensor_bytes(self, pattern):
        lines = output_of([self.options.sluice, "inspect", self.options.model, "--tensors", pattern, "--json"]).splitlines()
        return sum(line["bytes"] for line in map(json.loads, lines) if line["event"] == "tensor")

    def touched_bytes(self, result):
        shares = [share for layer in result["routing"] for share in layer]
        experts_bytes = self.tensor_bytes("*.experts.*")
        others_bytes = self.options.model.stat().st_size - experts_bytes - self.tensor_bytes("tok_embeddings.*")
        return others_bytes + experts_bytes * sum(share > 0 for share in shares) // len(shares)

    def first_token(self, row):
        o = self.options
        begin = time.monotonic()
        with subprocess.Popen([o.sluice, "run", o.model, "-p", o.text, "-n", "1", "--temperature", "0", "--threads",
                               str(o.threads), "--stats", "--json"], stdout=subprocess.PIPE, text=True) as process:
            while '"event":"token"' not in (line := process.stdout.readline()):
                assert line, "no token was told"
            first = time.monotonic()
            result = json.loads(process.stdout.read().splitlines()[-1])
        row["first token, ms"] = (first - begin) * 1e3
        row["first token's process, ms"] = (time.monotonic() - begin) * 1e3
        row["first token's prompt, tokens"] = len(result["prompt_ids"])
        row["its bytes at the rate of reads in huge pages, ms"] = (
            self.touched_bytes(result) / row["plain reads in huge pages, GB/s"] / 1e6)

    def llama(self, row):
        o = self.options
        text = output_of(["chroot", o.llama, "llama-bench", "-m", o.gguf, "-t", str(o.threads), "-p", o.prompts, "-n",
                          str(o.n), "-r", "1", "-o", "json"])
        for result in json.loads(text):
            prompt = result["n_prompt"]
            row[f"llama.cpp prefill of {prompt}, tokens/s" if prompt else "llama.cpp decode, tokens/s"] = result["avg_ts"]

    def decode_by_turns(self, row):
        o = self.options
        ours, theirs = [], []
        for _ in range(TURNS):
            text = output_of([o.sluice, "bench", o.model, "-p", "16", "-n", "64", "-r", "1", "--threads", str(o.threads), "--json"])
            ours.append(json.loads(text.splitlines()[-1])["decode_tokens_per_s"])
            text = output_of(["chroot", o.llama, "llama-bench", "-m", o.gguf, "-t", str(o.threads), "-p", "0", "-n", "64", "-r",
                              "1", "-o", "json"])
            theirs.append(json.loads(text)[0]["avg_ts"])
        row["sluice decode by turns, tokens/s"] = statistics.median(ours)
        row["llama.cpp decode by turns, tokens/s"] = statistics.median(theirs)

    def round(self):
        row = {}
        self.sluice(row)
        self.first_token(row)
        if self.options.gguf:
            self.llama(row)
            self.decode_by_turns(row)
        return row


def show(values):
    for key, value in values.items():
        print(f"    {key:52} {value:10.3f}", flush=True)


def ratios(median):
    result = {}
    for key in [key for key in median if key.startswith("llama.cpp")]:
        ours = key.replace("llama.cpp", "sluice")
        if ours in median:
            result[ours.removesuffix(", tokens/s") + " / llama.cpp"] = median[ours] / median[key]
        else:
            for decode in [k for k in median if k.startswith("sluice decode after") and k.endswith("tokens/s")]:
                result[decode.removesuffix(", tokens/s") + " / llama.cpp"] = median[decode] / median[key]
    result["first token / (2.5 x its bytes + 50 ms)"] = median["first token, ms"] / (
        2.5 * median["its bytes at the rate of reads in huge pages, ms"] + 50)
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sluice")
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--prompts", default="512,128")
    parser.add_argument("--text", default="once upon a time there was a small dog who had a big red ball")
    parser.add_argument("--llama", default=os.environ.get("SLUICE_LLAMA_CPP"))
    parser.add_argument("--gguf")
    options = parser.parse_args()
    bench = Bench(options)
    rows = []
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        rows.append(bench.round())
        show(rows[-1])
    median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    print("medians")
    show(median)
    print("ratios of medians")
    show(ratios(median))


if __name__ == "__main__":
    main()
