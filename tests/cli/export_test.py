"""Exports of the demo model, compared with the released weights by readers that know nothing of Sluice, and run
by llama.cpp where that is installed."""

import array
import hashlib
import json
import math
import os
import shutil
import struct
import subprocess
import unittest
from pathlib import Path

from sluice_program import RELEASE, ProgramTest, main
from weight_files import bf16_to_f32, read_gguf, read_pth, read_safetensors

GOLDEN = Path(__file__).parent.parent / "data" / "stories-moe" / "golden.json"
TOP_NAMES = {"tok_embeddings.weight": "token_embd.weight", "norm.weight": "output_norm.weight",
             "output.weight": "output.weight"}
LAYER_NAMES = {"attention_norm": "attn_norm", "attention.wq": "attn_q", "attention.wk": "attn_k",
               "attention.wv": "attn_v", "attention.wo": "attn_output", "ffn_norm": "ffn_norm",
               "feed_forward.gate": "ffn_gate_inp"}
EXPERT_NAMES = {"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}


def released_as_gguf(released, layers, experts):
    """{name of GGUF: (shape, bf16 bytes)} of the released tensors."""
    expected = {gguf: released[native] for native, gguf in TOP_NAMES.items()}
    for layer in range(layers):
        for native, gguf in LAYER_NAMES.items():
            expected[f"blk.{layer}.{gguf}.weight"] = released[f"layers.{layer}.{native}.weight"]
        for matrix, gguf in EXPERT_NAMES.items():
            parts = [released[f"layers.{layer}.feed_forward.experts.{e}.{matrix}.weight"] for e in range(experts)]
            expected[f"blk.{layer}.{gguf}.weight"] = ([experts, *parts[0][0]], "BF16",
                                                      b"".join(part[2] for part in parts))
    return expected


def decode_q8_0(data):
    values = []
    for at in range(0, len(data), 34):
        scale, = struct.unpack_from("<e", data, at)
        values += [scale * code for code in struct.unpack_from("<32b", data, at + 2)]
    return values


class ExportCase(ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.params = json.loads((RELEASE / "params.json").read_text())
        cls.released = read_pth(RELEASE / "consolidated.00.pth")

    def export(self, path, to, *options):
        result = self.succeed("convert", path, "--to", to, "--overwrite", *options, "--json").result()
        written = self.folder / result["files"][0]["path"]
        content = written.read_bytes()
        self.assertEqual(result["file_sha256"], hashlib.sha256(content).hexdigest())
        self.assertEqual(result["bytes"], len(content))
        self.assertLess(result["peak_rss_bytes"], 512 << 20)
        return result

    def container(self, quant):
        self.succeed("convert", RELEASE, "--quant", quant, "-o", f"{quant}.sluice")
        return f"{quant}.sluice"


class ExportTest(ExportCase):
    def test_pth_to_container_to_safetensors_gives_the_released_tensors_back(self):
        result = self.export(self.container("bf16"), "safetensors", "-o", "out.safetensors")
        tensors = read_safetensors(self.folder / "out.safetensors")
        self.assertEqual(tensors, self.released)
        self.assertEqual(result["tensors"], len(self.released))
        direct = self.export(RELEASE, "safetensors", "-o", "direct.safetensors")
        self.assertEqual(direct["file_sha256"], result["file_sha256"])

    def test_a_folder_becomes_a_release_of_the_same_root(self):
        self.export(self.container("bf16"), "safetensors")
        folder = self.folder / "bf16-safetensors"
        self.assertEqual({path.name for path in folder.iterdir()},
                         {"consolidated.safetensors", "params.json", "tokenizer.model"})
        for name in ("params.json", "tokenizer.model"):
            self.assertEqual((folder / name).read_bytes(), (RELEASE / name).read_bytes())
        roots = {self.succeed("convert", path, "--quant", "q8", "-o", "m", "--json").result()["root_sha256"]
                 for path in (RELEASE, folder)}
        self.assertEqual(len(roots), 1)

    def test_gguf_holds_the_released_values(self):
        expected = released_as_gguf(self.released, self.params["n_layers"], self.params["moe"]["num_experts"])
        source = self.container("bf16")
        for quant, dtype in (("f32", "F32"), ("bf16", "BF16")):
            self.export(source, "gguf", "--quant", quant, "-o", "m.gguf")
            _, tensors = read_gguf(self.folder / "m.gguf")
            self.assertEqual(set(tensors), set(expected))
            for name, (shape, found_dtype, data) in tensors.items():
                plain = "norm" in name or "gate_inp" in name
                self.assertEqual((shape, found_dtype), (expected[name][0], "F32" if plain else dtype), name)
                released = expected[name][2]
                self.assertTrue(data == (bf16_to_f32(released) if found_dtype == "F32" else released), name)

    def test_q8_0_decodes_to_within_half_a_step(self):
        expected = released_as_gguf(self.released, self.params["n_layers"], self.params["moe"]["num_experts"])
        self.export(RELEASE, "gguf", "--quant", "q8", "-o", "m.gguf")
        _, tensors = read_gguf(self.folder / "m.gguf")
        for name in ("token_embd.weight", "blk.1.ffn_down_exps.weight", "blk.2.attn_q.weight"):
            shape, dtype, data = tensors[name]
            self.assertEqual((shape, dtype), (expected[name][0], "Q8_0"))
            released = array.array("f", bf16_to_f32(expected[name][2]))
            decoded = decode_q8_0(data)
            self.assertEqual(len(decoded), len(released))
            for at in range(0, len(decoded), 32):
                greatest = max(map(abs, released[at:at + 32]))
                # Half a step, and the f16 rounding of the scale on a code of up to 127.
                bound = greatest / 127 * 0.5001 + greatest * 2**-11
                worst = max(abs(a - b) for a, b in zip(decoded[at:at + 32], released[at:at + 32]))
                self.assertLessEqual(worst, bound, f"{name} at {at}")

    def test_q4_0_has_embedding_and_head_in_q8_0(self):
        result = self.export(RELEASE, "gguf", "--quant", "q4_0")
        self.assertEqual((Path(result["output"]).name, result["type"]), (f"{RELEASE.name}-q4.gguf", "q4"))
        pairs, tensors = read_gguf(self.folder / result["output"])
        self.assertEqual(pairs["general.file_type"], 2)
        types = {name: dtype for name, (_, dtype, _) in tensors.items()}
        self.assertEqual({types["output.weight"], types["token_embd.weight"]}, {"Q8_0"})
        self.assertEqual({types["blk.0.attn_q.weight"], types["blk.2.ffn_up_exps.weight"]}, {"Q4_0"})
        self.assertEqual({types["blk.0.ffn_gate_inp.weight"], types["output_norm.weight"]}, {"F32"})
        # What is written is read again.
        self.succeed("convert", result["output"], "--quant", "q8", "-o", "back.sluice")

    def test_codes_are_exported_as_what_they_stand_for(self):
        for quant in ("q8", "q4"):
            source = self.container(quant)
            self.export(source, "safetensors", "-o", "exact.safetensors")
            tensors = read_safetensors(self.folder / "exact.safetensors")
            name = "layers.1.feed_forward.experts.3.w1.weight"
            self.assertEqual((tensors[name][1], tensors["norm.weight"][1]), ("F32", "BF16"))
            self.assertEqual(tensors["norm.weight"], self.released["norm.weight"])
            decoded = array.array("f", tensors[name][2])
            released = array.array("f", bf16_to_f32(self.released[name][2]))
            error = math.sqrt(sum((a - b) ** 2 for a, b in zip(decoded, released)) / sum(b * b for b in released))
            self.assertLess(error, 0.01 if quant == "q8" else 0.09)
            rows, cols = self.released[name][0]
            row = decoded[cols:2 * cols]
            steps = sorted({abs(value) for value in row if value})
            whole = [value / steps[-1] * 127 for value in steps]
            if quant == "q8":  # every weight is a whole multiple of the row's scale
                self.assertTrue(all(abs(x - round(x)) < 1e-3 for x in whole))

    def test_gguf_says_all_that_llama_cpp_asks_for(self):
        self.export(self.container("q4"), "gguf", "--quant", "bf16", "-o", "m.gguf")
        pairs, _ = read_gguf(self.folder / "m.gguf")
        params, moe = self.params, self.params["moe"]
        expected = {"general.architecture": "llama", "general.file_type": 32,
                    "llama.vocab_size": params["vocab_size"], "llama.context_length": 32768,
                    "llama.embedding_length": params["dim"], "llama.block_count": params["n_layers"],
                    "llama.feed_forward_length": params["hidden_dim"],
                    "llama.attention.head_count": params["n_heads"],
                    "llama.attention.head_count_kv": params["n_kv_heads"],
                    "llama.rope.dimension_count": params["head_dim"], "llama.rope.freq_base": 1e6,
                    "llama.expert_count": moe["num_experts"],
                    "llama.expert_used_count": moe["num_experts_per_tok"],
                    "tokenizer.ggml.model": "llama", "tokenizer.ggml.bos_token_id": 1,
                    "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
                    "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_space_prefix": True}
        self.assertEqual({key: pairs.get(key) for key in expected}, expected)
        self.assertAlmostEqual(pairs["llama.attention.layer_norm_rms_epsilon"], params["norm_eps"], delta=1e-11)
        self.assertNotIn("llama.attention.sliding_window", pairs)
        tokens, types = pairs["tokenizer.ggml.tokens"], pairs["tokenizer.ggml.token_type"]
        self.assertEqual(len(tokens), params["vocab_size"])
        self.assertEqual(len(pairs["tokenizer.ggml.scores"]), params["vocab_size"])
        self.assertEqual(tokens[:3] + [tokens[13]], ["<unk>", "<s>", "</s>", "<0x0A>"])
        self.assertEqual(types[:4], [2, 3, 3, 6])
        prompt = json.loads(GOLDEN.read_text())
        prompt = (prompt["prompts"] if isinstance(prompt, dict) else prompt)[0]
        self.assertEqual([tokens[i] for i in prompt["ids"]], prompt["pieces"])

    def test_what_cannot_be_written_is_refused(self):
        for quant in ("q8", "q4_0"):
            self.fail_with(2, "usage", f"writes f32 or bf16, not {quant}", "convert", RELEASE, "--to", "safetensors",
                           "--quant", quant)
        for quant in ("f32", "q8_0"):
            self.fail_with(2, "usage", f"not {quant}", "convert", RELEASE, "--quant", quant)
        copy = self.copy_release()
        self.fail_with(2, "usage", "a folder of its own", "convert", copy, "--to", "safetensors", "-o", f"{copy}/")
        damaged = self.folder / self.container("q8")
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        self.fail_with(1, "verification", "is not what its digest says", "convert", damaged, "--to", "gguf",
                       "-o", "m.gguf")
        self.assertFalse((self.folder / "m.gguf").exists())


class LlamaCppTest(ExportCase):
    def test_llama_cpp_gives_the_same_greedy_text(self):
        # The root of another Debian, in which llama.cpp is installed, can stand in for one that is installed here.
        root = os.environ.get("SLUICE_LLAMA_CPP")
        program = shutil.which("llama-completion")
        if program is None and root is None:
            self.skipTest("llama-completion is not installed")
        self.export(RELEASE, "gguf", "--quant", "f32", "-o", "m.gguf")
        container = self.container("bf16")
        model, command = str(self.folder / "m.gguf"), [program]
        if root is not None:
            inside = Path(root) / "models" / f"sluice-{os.getpid()}.gguf"
            shutil.copy(model, inside)
            self.addCleanup(inside.unlink)
            model, command = f"/models/{inside.name}", ["chroot", root, "llama-completion"]
        golden = json.loads(GOLDEN.read_text())
        for case in golden["prompts"] if isinstance(golden, dict) else golden:
            count = len(case["greedy_ids"])
            ran = subprocess.run([*command, "-m", model, "-p", case["prompt"], "-n", str(count), "--temp", "0",
                                  "-no-cnv", "--no-display-prompt", "-t", "2", "--no-warmup"],
                                 capture_output=True, timeout=120, check=True)
            own = self.succeed("run", container, "-p", case["prompt"], "-n", str(count), "--temperature", "0",
                               "--json").result()
            self.assertEqual(own["ids"], case["greedy_ids"])
            text = ran.stdout.decode().replace(" [end of text]", "")
            self.assertEqual(text.strip(), own["text"].strip())


if __name__ == "__main__":
    main()
