"""The demo model as GGUF files of every form that is read: the same root where the values are the same."""

import array
import json
import math
import struct
import unittest

from sluice_program import RELEASE, ProgramTest, main
from weight_files import GGUF_NUMBERS, read_gguf

TYPE_NUMBERS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "BF16": 30}


def pack_string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def pack_value(value):
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, pack_string(value)
    kind = {str: 8, float: 6, int: 5}[type(value[0])]
    items = map(pack_string, value) if kind == 8 else (struct.pack("<" + GGUF_NUMBERS[kind], item) for item in value)
    return 9, struct.pack("<IQ", kind, len(value)) + b"".join(items)


def write_gguf(path, pairs, tensors, version=3):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    for key, value in pairs.items():
        kind, data = pack_value(value)
        head += pack_string(key) + struct.pack("<I", kind) + data
    body = b""
    for name, (shape, dtype, data) in tensors.items():
        head += pack_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1],
                                                TYPE_NUMBERS[dtype], len(body))
        body += data + bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + body)


def native_names(tensors):
    """llama.cpp's names and merged experts as the release has them; its tables, written down a second time."""
    top = {"token_embd": "tok_embeddings", "output_norm": "norm", "output": "output"}
    layer = {"attn_norm": "attention_norm", "ffn_norm": "ffn_norm", "attn_q": "attention.wq", "attn_k": "attention.wk",
             "attn_v": "attention.wv", "attn_output": "attention.wo", "ffn_gate_inp": "feed_forward.gate"}
    experts = {"ffn_gate_exps": "w1", "ffn_down_exps": "w2", "ffn_up_exps": "w3"}
    native = {}
    for name, (shape, data) in tensors.items():
        parts = name.split(".")
        if parts[0] != "blk":
            native[f"{top[parts[0]]}.weight"] = (shape, data)
        elif parts[2] in layer:
            native[f"layers.{parts[1]}.{layer[parts[2]]}.weight"] = (shape, data)
        else:
            step = len(data) // shape[0]
            for expert in range(shape[0]):
                native[f"layers.{parts[1]}.feed_forward.experts.{expert}.{experts[parts[2]]}.weight"] = (
                    shape[1:], data[expert * step:(expert + 1) * step])
    return native


class GgufInputTest(ProgramTest):
    def weights(self, path, quant="bf16"):
        result = self.succeed("convert", path, "--quant", quant, "-o", "out.sluice", "--overwrite",
                              "--json").result()
        return result["tensors_sha256"]

    def export(self, quant):
        self.succeed("convert", RELEASE, "--to", "gguf", "--quant", quant, "-o", f"{quant}.gguf", "--overwrite")
        return self.folder / f"{quant}.gguf"

    def test_f32_and_bf16_files_give_the_root_of_the_pth(self):
        for quant in ("bf16", "q4"):
            expected = self.weights(RELEASE, quant)
            for kind in ("f32", "bf16"):
                self.assertEqual(self.weights(self.export(kind), quant), expected, (quant, kind))

    def test_experts_one_by_one_and_fused_give_the_same_weights(self):
        expected = self.weights(RELEASE)
        pairs, tensors = read_gguf(self.export("bf16"))
        single, fused = {}, {}
        for name, (shape, dtype, data) in tensors.items():
            if not name.endswith("_exps.weight"):
                single[name] = fused[name] = (shape, dtype, data)
                continue
            step = len(data) // shape[0]
            for expert in range(shape[0]):
                part = data[expert * step:(expert + 1) * step]
                single[name.replace("_exps.", f".{expert}.")] = (shape[1:], dtype, part)
            if "ffn_down" in name:
                fused[name] = (shape, dtype, data)
            elif "ffn_gate" in name:
                up = tensors[name.replace("gate", "up")][2]
                both = b"".join(source[e * step:(e + 1) * step] for e in range(shape[0]) for source in (data, up))
                fused[name.replace("gate_exps", "gate_up_exps")] = ([shape[0], 2 * shape[1], shape[2]], dtype, both)
        for changed, version in ((single, 2), (fused, 3)):
            write_gguf(self.folder / "m.gguf", pairs, changed, version)
            self.assertEqual(self.weights("m.gguf"), expected)

    def test_shards_give_the_same_weights(self):
        expected = self.weights(RELEASE)
        pairs, tensors = read_gguf(self.export("bf16"))
        names = list(tensors)
        halves = ({name: tensors[name] for name in names[::2]}, {name: tensors[name] for name in names[1::2]})
        (self.folder / "split").mkdir()
        for number, (keys, shard) in enumerate(((pairs, halves[0]), ({}, halves[1]))):
            keys = {**keys, "split.no": number, "split.count": 2, "split.tensors.count": len(names)}
            write_gguf(self.folder / f"split/m-0000{number + 1}-of-00002.gguf", keys, shard)
        for path in ("split", "split/m-00001-of-00002.gguf", "split/m-00002-of-00002.gguf"):
            self.assertEqual(self.weights(path), expected, path)
        told = self.succeed("inspect", "split/m-00002-of-00002.gguf", "--json").result()
        self.assertEqual((told["tensors"], told["shards"], told["params"]["n_layers"]), (len(names), 2, 4))
        (self.folder / "split/m-00002-of-00002.gguf").unlink()
        self.fail_with(9, "malformed", "shard 2 of the checkpoint of 'm-00001-of-00002.gguf' is missing", "convert",
                       "split", "-o", "x")

    def test_a_quantized_source_is_told(self):
        model = self.export("q8")
        self.assertTrue(self.succeed("inspect", model, "--json").result()["lossy"])
        said = self.succeed("convert", model, "--quant", "q8", "-o", "out.sluice")
        self.assertIn("q8.gguf: its weights have been quantized before (tensors: 13 F32, 30 Q8_0)", said.stderr)
        recipe = self.succeed("inspect", "out.sluice", "--json").result()["recipe"]
        self.assertEqual((recipe["lossy_source"], recipe["source_types"]), (True, {"F32": 13, "Q8_0": 30}))
        said = self.succeed("run", "out.sluice", "-p", "Once", "-n", "1", "--stats")
        self.assertIn("source: quantized before the conversion, Q8_0 (lossy)", said.stdout + said.stderr)
        recipe = self.succeed("convert", self.export("bf16"), "-o", "out.sluice", "--quant", "q8", "--overwrite")
        self.assertNotIn("quantized before", recipe.stderr)
        self.assertNotIn("lossy_source", self.succeed("inspect", "out.sluice", "--json").result()["recipe"])

    def test_blocks_are_read_as_what_they_stand_for(self):
        pairs, tensors = read_gguf(self.export("q8"))
        q4 = dict(tensors)
        name = "blk.1.attn_q.weight"
        shape, _, data = tensors[name]
        halves = array.array("B", range(256))
        packed = b"".join(struct.pack("<e", 0.01 * (1 + i % 7)) + bytes(halves[(i * 5 + k * 37) % 256] for k in range(16))
                          for i in range(math.prod(shape) // 32))
        q4[name] = (shape, "Q4_0", packed)
        write_gguf(self.folder / "m.gguf", pairs, q4)  # all other matrices are Q8_0
        wide = {}
        for key, (extents, dtype, blocks) in q4.items():
            if dtype == "F32":
                wide[key] = (extents, dtype, blocks)
                continue
            values = array.array("f")
            size = 34 if dtype == "Q8_0" else 18
            for at in range(0, len(blocks), size):
                scale, = struct.unpack_from("<e", blocks, at)
                codes = blocks[at + 2:at + size]
                if dtype == "Q8_0":
                    values.extend(scale * code for code in struct.unpack("<32b", codes))
                else:
                    values.extend(scale * ((code & 15) - 8) for code in codes)
                    values.extend(scale * ((code >> 4) - 8) for code in codes)
            wide[key] = (extents, "F32", values.tobytes())
        write_gguf(self.folder / "wide.gguf", pairs, wide)
        self.assertEqual(self.weights("m.gguf", "q8"), self.weights("wide.gguf", "q8"))

    def test_the_tokenizer_gives_the_same_ids(self):
        self.weights(self.export("bf16"))
        self.succeed("convert", RELEASE, "--quant", "bf16", "-o", "released.sluice")
        for prompt in ("Once upon a time", "Caf\u00e9 \u2013 \u4f60\u597d \U0001f600", "  two  spaces\nand a line"):
            ids = [self.succeed("run", model, "-p", prompt, "-n", "8", "--temperature", "0", "--json").result()
                   for model in ("out.sluice", "released.sluice")]
            self.assertEqual(ids[0]["prompt_ids"], ids[1]["prompt_ids"])
            self.assertEqual(ids[0]["ids"], ids[1]["ids"])

    def test_inspect_tells_what_is_in_it(self):
        lines = self.succeed("inspect", self.export("q8"), "--tensors", "*", "--json").lines()
        result = lines[-1]
        self.assertEqual((result["kind"], result["tensors"]), ("gguf", 43))
        self.assertEqual(result["dtypes"], {"f32": 13, "q8_0": 30})
        _, tensors = read_gguf(self.folder / "q8.gguf")
        content = (self.folder / "q8.gguf").read_bytes()
        for line in lines[:-1]:
            shape, _, data = tensors[line["name"]]
            self.assertEqual(line["shape"], shape)
            self.assertEqual(content[line["offset"]:line["offset"] + line["bytes"]], data)

    def test_f16_gives_the_root_of_f16_safetensors(self):
        # The values are those that f16 has: the released ones, rounded.
        pairs, tensors = read_gguf(self.export("f32"))
        halves = {}
        for name, (shape, _, data) in tensors.items():
            values = array.array("f", data)
            halves[name] = (shape, struct.pack(f"<{len(values)}e", *values))
        write_gguf(self.folder / "m.gguf", pairs, {name: (shape, "F16", data) for name, (shape, data) in halves.items()})
        release = self.copy_release("f16")
        (release / "RELEASE").unlink()  # its checksums are those of the released file
        (release / "consolidated.00.pth").unlink()
        native = native_names(halves)
        header, body = {}, b""
        for name, (shape, data) in native.items():
            header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
            body += data
        text = json.dumps(header).encode()
        (release / "consolidated.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
        for quant in ("bf16", "q4"):
            self.assertEqual(self.weights("m.gguf", quant), self.weights(release, quant), quant)

    def test_damage_is_named(self):
        folder = self.folder / "release"
        folder.mkdir()
        model = self.export("q8").rename(folder / "model.gguf")
        self.publish(folder)
        lines = self.succeed("inspect", model, "--tensors", "*", "--json").lines()
        tensors = {line["name"]: line for line in lines if line["event"] == "tensor"}
        content = model.read_bytes()
        experts = tensors["blk.2.ffn_up_exps.weight"]  # [8, 512, 256]
        query = tensors["blk.1.attn_q.weight"]  # [256, 256]
        for offset, named in ((experts["offset"] + experts["bytes"] // 2, experts["name"]),
                              (query["offset"] + 3 * 272, query["name"]),
                              (content.index(b"tokenizer.ggml.scores") + 60, "GGUF head")):
            damaged = bytearray(content)
            damaged[offset] ^= 1
            model.write_bytes(damaged)
            people = self.sluice("verify", folder)
            self.assertEqual(people.code, 1, str(people))
            self.assertIn(named, people.stdout)
            told = self.sluice("verify", folder, "--json")
            file = next(line for line in told.lines() if line.get("path") == "model.gguf")
            names = [name for part in file["damaged"] for name in part["tensors"]]
            self.assertEqual(named in names, named in tensors)

    def test_other_models_are_refused_by_name(self):
        pairs, tensors = read_gguf(self.export("bf16"))
        write_gguf(self.folder / "m.gguf", {**pairs, "tokenizer.ggml.model": "gpt2"}, tensors)
        self.fail_with(9, "malformed", "key 'tokenizer.ggml.pre': is 'default', supported are qwen2", "convert", "m.gguf", "-o", "x")
        write_gguf(self.folder / "m.gguf", {**pairs, "general.architecture": "grok"}, tensors)
        self.fail_with(9, "malformed", "is 'grok', supported are llama, qwen3moe", "convert", "m.gguf", "-o", "x")
        write_gguf(self.folder / "m.gguf", pairs, {**tensors, "rope_freqs.weight": ([8], "F32", bytes(32))})
        self.fail_with(9, "malformed", "'rope_freqs.weight'", "convert", "m.gguf", "-o", "x")


if __name__ == "__main__":
    main()
