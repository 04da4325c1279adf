#!/usr/bin/python3
"""What containers lose that are made from quantized GGUF files, beside containers made from the released weights.

    tests/bench/gguf_types.py build/sluice --llama 'chroot ROOT' --models ROOT/models [--inside /models]
        [--release tests/data/stories-moe] [--text FILE] [--types Q4_K_M,...] [--check-values]

Exports the release as an F32 GGUF file, has llama-quantize (after the words of --llama) make every type of it, converts
each file to a bf16 and to a q4 container, and compares their predictions of the text with those of the bf16 container of
the release: KL divergence, agreement of the most probable token, perplexity. A bf16 container shows what the GGUF type
itself loses, a q4 container what both roundings lose together. Printed as well: the types that llama-quantize really
chose for the tensors, and that greedy generation runs. --models is the folder that llama.cpp sees as --inside.

--check-values compares every weight of every file with gguf-py (python3 and its package gguf, after --llama) bit for bit,
and the blocks of our own Q8_0 and Q4_0 exports with those of llama-quantize --pure.
"""

import argparse
import json
import shlex
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S",
         "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4_MOE", "F16", "BF16")
# Prints a digest of the values of every tensor, as gguf-py decodes them.
DIGESTS = """
import hashlib, json, sys
import numpy
from gguf import GGUFReader, dequantize
for tensor in GGUFReader(sys.argv[1]).tensors:
    values = numpy.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype="<f4")
    print(json.dumps([tensor.name, hashlib.sha256(values.tobytes()).hexdigest()]))
"""
# Prints type and digest of the stored bytes of every tensor.
BLOCKS = """
import hashlib, json, sys
from gguf import GGUFReader
for tensor in GGUFReader(sys.argv[1]).tensors:
    print(json.dumps([tensor.name, [tensor.tensor_type.name, hashlib.sha256(tensor.data.tobytes()).hexdigest()]]))
"""


class Bench:
    def __init__(self, options):
        self.options = options
        self.work = options.models
        # The tokenizer of a GGUF file becomes another tokenizer.model with the same ids, and eval compares models of
        # the same tokenizer only, so containers made of GGUF files have a reference of their own.
        self.references = {kind: self.work / f"gguf-types-{kind}.sluice" for kind in ("released", "exported")}

    def sluice(self, *arguments):
        words = [str(self.options.sluice), *map(str, arguments), "--json"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip().splitlines()
            return None, said[-1] if said else f"exit {done.returncode}"
        return json.loads(done.stdout.splitlines()[-1]), ""

    def llama(self, *arguments):
        return subprocess.run([*shlex.split(self.options.llama), *map(str, arguments)], capture_output=True, text=True)

    def evaluate(self, name, source, quant, reference):
        """A row of numbers for the container of one source."""
        container = self.work / "gguf-types.sluice"
        made, problem = self.sluice("convert", source, "--quant", quant, "-o", container)
        if made is None:
            print(f"{name:12} {quant:5} {problem}", flush=True)
            return
        result, problem = self.sluice("eval", container, self.options.text, "--reference", self.references[reference])
        if result is None:
            print(f"{name:12} {quant:5} {problem}", flush=True)
            return
        ran, problem = self.sluice("run", container, "-p", "Once upon a time", "-n", "16", "--temperature", "0")
        text = problem if ran is None else ran["text"]
        print(f"{name:12} {quant:5} KL {result['kl_divergence']:.6f}  top-1 {result['top1_agreement']:.4f}  "
              f"perplexity {result['perplexity']:.4f}  {text!r}", flush=True)

    def check_values(self, name, model):
        """Compares with gguf-py: an F32 GGUF file of ours has the values as Sluice decodes them."""
        wide = self.work / "gguf-types-wide.gguf"
        _, problem = self.sluice("convert", model, "--to", "gguf", "--quant", "f32", "-o", wide)
        if problem:
            print(f"{name:12} {problem}")
            return
        digests = [self.digests(DIGESTS, file) for file in (model, wide)]
        equal = sum(digests[0][key] == digests[1].get(key) for key in digests[0])
        print(f"{name:12} {equal} of {len(digests[0])} tensors have the values that gguf-py gives", flush=True)

    def digests(self, script, file):
        inside = Path(self.options.inside) / file.name
        return dict(map(json.loads, self.llama("python3", "-c", script, inside).stdout.splitlines()))

    def check_exports(self, source):
        ours, theirs = self.work / "gguf-types-ours.gguf", self.work / "gguf-types-theirs.gguf"
        inside = Path(self.options.inside)
        for name in ("Q8_0", "Q4_0"):
            self.sluice("convert", source, "--to", "gguf", "--quant", name.lower(), "-o", ours)
            self.llama("llama-quantize", "--pure", inside / source.name, inside / theirs.name, name)
            own, other = self.digests(BLOCKS, ours), self.digests(BLOCKS, theirs)
            compared = [key for key in own if own[key][0] == other[key][0] == name]
            equal = sum(own[key] == other[key] for key in compared)
            print(f"export {name}: {equal} of {len(compared)} tensors have the blocks of llama-quantize", flush=True)

    def run(self):
        self.work.mkdir(exist_ok=True)
        release = self.options.release
        self.sluice("convert", release, "--quant", "bf16", "-o", self.references["released"])
        for quant in ("bf16", "q8", "q4"):
            self.evaluate("released", release, quant, "released")
        source = self.work / "gguf-types-f32.gguf"
        self.sluice("convert", release, "--to", "gguf", "--quant", "f32", "-o", source)
        self.sluice("convert", source, "--quant", "bf16", "-o", self.references["exported"])
        if self.options.check_values:
            self.check_exports(source)
        model = self.work / "gguf-types-quantized.gguf"
        for name in self.options.types.split(","):
            inside = Path(self.options.inside)
            made = self.llama("llama-quantize", inside / source.name, inside / model.name, name)
            if made.returncode != 0:
                print(f"{name:12} is not made by llama-quantize: {made.stderr.strip().splitlines()[-1]}")
                continue
            kinds, problem = self.sluice("inspect", model)
            print(f"{name:12} {model.stat().st_size:,} bytes  "
                  f"{kinds['dtypes'] if kinds else problem}", flush=True)
            if self.options.check_values:
                self.check_values(name, model)
            for quant in ("bf16", "q4"):
                self.evaluate(name, model, quant, "exported")
            model.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sluice", type=Path)
    parser.add_argument("--llama", required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--inside", default="/models")
    parser.add_argument("--release", type=Path, default=HERE.parent / "data" / "stories-moe")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--check-values", action="store_true")
    Bench(parser.parse_args()).run()


if __name__ == "__main__":
    main()
