#!/usr/bin/env python3
"""What each group of tensors costs in each type: KL divergence to the bf16 container, and bits.

    sensitivity.py [BUILD] [TEXT]

Containers with mixed types are made by BUILD/tests/mixed_types out of the demo release, and evaluated with
`sluice eval --reference` on TEXT (tests/data/stories-moe/valid.txt). The first table has all other tensors in bf16, the second the
types of `--quant q4` but for one group.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
RELEASE = HERE.parent.parent / "manifests/stories-moe"
GROUPS = ["experts", "attention", "head", "embedding", "router"]
TYPES = ["q8", "q6", "q4"]
EXACT = dict.fromkeys(GROUPS, "bf16")
CHOSEN = EXACT | {"experts": "q4", "attention": "q6", "head": "q6"}


class Bench:
    def __init__(self, build, text, folder):
        self.build, self.text, self.folder = build, text, folder
        self.reference = self.convert(EXACT, "reference")

    def convert(self, types, name):
        output = self.folder / f"{name}.sluice"
        program = self.build / "tests/mixed_types"
        subprocess.run([program, RELEASE, self.folder / "release", output, *(types[g] for g in GROUPS)], check=True)
        return output

    def kl_divergence(self, types):
        model = self.convert(types, "model")
        out = subprocess.run([self.build / "sluice", "eval", model, self.text, "--context", "256", "--reference",
                              self.reference, "--json"], check=True, capture_output=True, text=True).stdout
        return json.loads(out.splitlines()[-1])["kl_divergence"]


def show(bench, title, start, trials):
    print(f"{title}: {bench.kl_divergence(start):.5f}", flush=True)
    for group, types in trials.items():
        for kind in types:
            print(f"  {group:10} {kind:5} {bench.kl_divergence(start | {group: kind}):.5f}", flush=True)


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parent.parent / "build")
    text = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else HERE.parent / "data/stories-moe/valid.txt")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(build, text, pathlib.Path(folder))
        show(bench, "all other tensors bf16", EXACT,
             dict.fromkeys(GROUPS, TYPES))
        show(bench, "types of --quant q4, but for", CHOSEN,
             {"attention": ["bf16", "q8", "q4"], "head": ["bf16", "q8", "q4"], "embedding": TYPES, "router": TYPES})
        print("types of --quant q4, with a head that is the embedding")
        for kind in TYPES:
            print(f"  {kind:5} {bench.kl_divergence(CHOSEN | {'head': kind, 'embedding': kind}):.5f}", flush=True)


if __name__ == "__main__":
    main()
