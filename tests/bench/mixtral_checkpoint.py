#!/usr/bin/python3
"""A release with random weights in the shapes of Mixtral 8x7B, for measurements of speed.

    tests/bench/mixtral_checkpoint.py FOLDER [--layers 2] [--format pth|safetensors]

Writes consolidated.00.pth or consolidated.safetensors (bf16, native names, 2.6 GiB a layer and 0.5 GiB), params.json, and the
tokenizer of the demo release. Weights are N(0, 0.02^2), out of a stretch of noise that is begun anew at random
places. Streams: takes some 100 MiB of memory.
"""

import argparse
import array
import collections
import json
import pickle
import random
import shutil
import sys
import types
import zipfile
from pathlib import Path

DIM, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, EXPERTS, VOCABULARY = 4096, 14336, 32, 8, 128, 8, 32000
NOISE_VALUES = 1 << 22
STEP_VALUES = 1 << 20
TOKENIZER = Path(__file__).parents[2] / "manifests/stories-moe/tokenizer.model"


def shapes(layers):
    """Names and shapes in the order of the release."""
    found = {"tok_embeddings.weight": (VOCABULARY, DIM), "norm.weight": (DIM,), "output.weight": (VOCABULARY, DIM)}
    for layer in range(layers):
        prefix = f"layers.{layer}."
        found[prefix + "attention.wq.weight"] = (HEADS * HEAD_DIM, DIM)
        found[prefix + "attention.wk.weight"] = (KV_HEADS * HEAD_DIM, DIM)
        found[prefix + "attention.wv.weight"] = (KV_HEADS * HEAD_DIM, DIM)
        found[prefix + "attention.wo.weight"] = (DIM, HEADS * HEAD_DIM)
        found[prefix + "attention_norm.weight"] = (DIM,)
        found[prefix + "ffn_norm.weight"] = (DIM,)
        found[prefix + "feed_forward.gate.weight"] = (EXPERTS, DIM)
        for expert in range(EXPERTS):
            of_expert = f"{prefix}feed_forward.experts.{expert}."
            found[of_expert + "w1.weight"] = (HIDDEN, DIM)
            found[of_expert + "w2.weight"] = (DIM, HIDDEN)
            found[of_expert + "w3.weight"] = (HIDDEN, DIM)
    return found


def count(shape):
    values = 1
    for extent in shape:
        values *= extent
    return values


class Noise:
    def __init__(self):
        self.random = random.Random(1)
        floats = array.array("f", (self.random.gauss(0, 0.02) for _ in range(NOISE_VALUES)))
        bits = array.array("I", floats.tobytes())
        self.bytes = memoryview(array.array("H", ((b + 0x8000) >> 16 for b in bits)).tobytes())

    def pieces(self, values):
        while values > 0:
            some = min(values, STEP_VALUES)
            start = self.random.randrange(NOISE_VALUES - some + 1)
            yield self.bytes[2 * start : 2 * (start + some)]
            values -= some


class Storage:
    def __init__(self, key, values):
        self.key, self.values = key, values


class Tensor:
    """Pickled as torch pickles one: a call of torch._utils._rebuild_tensor_v2 that is never made."""

    def __init__(self, storage, shape):
        self.storage, self.shape = storage, shape

    def __reduce__(self):
        strides = tuple(count(self.shape[axis + 1 :]) for axis in range(len(self.shape)))
        arguments = (self.storage, 0, self.shape, strides, False, collections.OrderedDict())
        return sys.modules["torch._utils"]._rebuild_tensor_v2, arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        return ("storage", sys.modules["torch"].BFloat16Storage, value.key, "cpu", value.values)


def stand_in_for_torch():
    """The names that a pickle of tensors refers to."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch.BFloat16Storage = type("BFloat16Storage", (), {"__module__": "torch"})
    torch._utils = utils
    sys.modules["torch"], sys.modules["torch._utils"] = torch, utils


def write_pth(path, tensors, noise):
    stand_in_for_torch()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        state = collections.OrderedDict()
        for key, (name, shape) in enumerate(tensors.items()):
            state[name] = Tensor(Storage(str(key), count(shape)), shape)
        with archive.open("consolidated/data.pkl", "w") as out:
            Pickler(out, protocol=2).dump(state)
        for key, shape in enumerate(tensors.values()):
            with archive.open(f"consolidated/data/{key}", "w") as out:
                for piece in noise.pieces(count(shape)):
                    out.write(piece)
        archive.writestr("consolidated/version", "3\n")


def write_safetensors(path, tensors, noise):
    header, offset = {}, 0
    for name, shape in tensors.items():
        end = offset + 2 * count(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for shape in tensors.values():
            for piece in noise.pieces(count(shape)):
                out.write(piece)


def write_release(folder, layers, layout):
    folder.mkdir(parents=True, exist_ok=True)
    params = {"dim": DIM, "n_layers": layers, "head_dim": HEAD_DIM, "hidden_dim": HIDDEN, "n_heads": HEADS,
              "n_kv_heads": KV_HEADS, "norm_eps": 1e-05, "vocab_size": VOCABULARY,
              "moe": {"num_experts_per_tok": 2, "num_experts": EXPERTS}}
    (folder / "params.json").write_text(json.dumps(params))
    shutil.copyfile(TOKENIZER, folder / "tokenizer.model")
    if layout == "pth":
        write_pth(folder / "consolidated.00.pth", shapes(layers), Noise())
    else:
        write_safetensors(folder / "consolidated.safetensors", shapes(layers), Noise())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--format", choices=["pth", "safetensors"], default="pth")
    options = parser.parse_args()
    write_release(options.folder, options.layers, options.format)


if __name__ == "__main__":
    main()
