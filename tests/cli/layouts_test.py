"""The demo model in the layouts of other releases: every command takes them as it takes the .pth file."""

import hashlib
import json
import os
import shutil
import struct
import unittest
from pathlib import Path

from sluice_program import RELEASE, ProgramTest, main

HUB_NAMES = [("attention_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm"),
             ("attention.wq", "self_attn.q_proj"), ("attention.wk", "self_attn.k_proj"),
             ("attention.wv", "self_attn.v_proj"), ("attention.wo", "self_attn.o_proj"),
             ("feed_forward", "block_sparse_moe")]


def hub_name(name):
    special = {"tok_embeddings.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight",
               "output.weight": "lm_head.weight"}
    if name in special:
        return special[name]
    for native, hub in HUB_NAMES:
        name = name.replace(native, hub)
    return "model." + name


def to_halves(rows, width):
    """The rows of each head: first those of even number, then the odd ones."""
    return [rows[head + 2 * i + j] for head in range(0, len(rows), width) for j in (0, 1) for i in range(width // 2)]


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (shape, payload) in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(payload)]}
        data += payload
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class LayoutsTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.params = json.loads((RELEASE / "params.json").read_text())
        weights = (RELEASE / "consolidated.00.pth").read_bytes()
        lines = self.succeed("inspect", RELEASE / "consolidated.00.pth", "--tensors", "*", "--json").lines()
        self.tensors = {}
        for line in lines:
            if line["event"] == "tensor":
                start = line["offset"]
                self.tensors[line["name"]] = (line["shape"], weights[start:start + line["bytes"]])

    def make_folder(self, name):
        folder = self.folder / name
        folder.mkdir()
        shutil.copy(RELEASE / "tokenizer.model", folder)
        return folder

    def make_native(self):
        folder = self.make_folder("native")
        shutil.copy(RELEASE / "params.json", folder)
        write_safetensors(folder / "consolidated.safetensors", self.tensors)
        return folder

    def make_hub(self):
        folder = self.make_folder("hub")
        tensors = {}
        for name, (shape, payload) in self.tensors.items():
            if name.endswith(("wq.weight", "wk.weight")):
                step = len(payload) // shape[0]
                rows = [payload[i:i + step] for i in range(0, len(payload), step)]
                payload = b"".join(to_halves(rows, self.params["head_dim"]))
            tensors[hub_name(name)] = (shape, payload)
        names = sorted(tensors)
        files = {}
        for shard in range(2):
            file = f"model-0000{shard + 1}-of-00002.safetensors"
            part = {name: tensors[name] for name in names[shard::2]}
            files.update(dict.fromkeys(part, file))
            write_safetensors(folder / file, part)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
        (folder / "config.json").write_text(json.dumps({
            "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu",
            "hidden_size": self.params["dim"], "num_hidden_layers": self.params["n_layers"],
            "num_attention_heads": self.params["n_heads"], "num_key_value_heads": self.params["n_kv_heads"],
            "head_dim": self.params["head_dim"], "intermediate_size": self.params["hidden_dim"],
            "num_local_experts": self.params["moe"]["num_experts"],
            "num_experts_per_tok": self.params["moe"]["num_experts_per_tok"],
            "rms_norm_eps": self.params["norm_eps"], "vocab_size": self.params["vocab_size"],
            "rope_theta": 1e6, "sliding_window": None, "tie_word_embeddings": False}))
        return folder

    def weights_of(self, source):
        made = self.succeed("convert", source, "-o", "m.sluice", "--overwrite", "--json").result()
        return made["tensors_sha256"]

    def test_convert_tells_the_layout_and_the_types(self):
        hub = self.make_hub()
        told = self.succeed("convert", hub, "-o", "m.sluice").stdout
        self.assertIn("layout: hugging-face tensors in 2 safetensors files\n", told)
        self.assertRegex(told, r"\n +experts w1 +q4 +4\.44 +0\.07")
        result = self.succeed("convert", hub, "-o", "m.sluice", "--json").result()
        self.assertEqual((result["layout"], result["checkpoint"], result["checkpoint_files"]),
                         ("hugging-face", "safetensors", 2))
        self.assertRegex(self.succeed("inspect", "m.sluice").stdout,
                         r"recipe\.quality\.head +q6, 6\.25 bits a weight, relative error 0\.02")

    def test_the_same_container_and_the_same_text(self):
        expected = self.weights_of(RELEASE)
        prompt = ["-p", "Once upon a time", "-n", "12", "--temperature", "0", "--json"]
        text = self.succeed("run", RELEASE, *prompt).result()["text"]
        hub = self.make_hub()
        for source in (self.make_native(), hub, hub / "model-00002-of-00002.safetensors"):
            self.assertEqual(self.weights_of(source), expected)
            self.assertEqual(self.succeed("run", source, *prompt).result()["text"], text)

    def test_every_end_id_stops_a_text_in_each_form_of_the_model(self):
        hub = self.make_hub()
        prompt = ["-p", "Once upon a time", "-n", "12", "--temperature", "0", "--json"]
        ids = self.succeed("run", hub, *prompt).result()["ids"]
        end = ids[4]
        expected = ids[:ids.index(end) + 1]
        config = json.loads((hub / "config.json").read_text())
        (hub / "config.json").write_text(json.dumps({**config, "eos_token_id": [2, end], "unsloth_version": "1"}))
        self.succeed("convert", hub, "-o", "m.sluice")
        self.succeed("convert", "m.sluice", "--to", "gguf", "-o", "m.gguf")
        self.succeed("convert", "m.sluice", "--to", "safetensors", "-o", "exported/")
        for model in ("m.sluice", "m.gguf", "exported"):
            result = self.succeed("run", model, *prompt).result()
            self.assertEqual((result["stop"], result["ids"][:len(expected)]), ("eos", expected[:len(result["ids"])]))

    def test_a_model_in_the_cache_of_the_hub(self):
        model = self.folder / "cache" / "models--org--name"
        snapshot = model / "snapshots" / "0123"
        snapshot.mkdir(parents=True)
        (model / "blobs").mkdir()
        for number, file in enumerate(("params.json", "tokenizer.model", "consolidated.00.pth")):
            shutil.copy(RELEASE / file, model / "blobs" / str(number))
            (snapshot / file).symlink_to(f"../../blobs/{number}")
        sums = [f"{hashlib.sha256((snapshot / file).read_bytes()).hexdigest()}  {file}\n"
                for file in sorted(os.listdir(snapshot))]
        (model / "snapshots" / "0123.SHA256SUMS").write_text("".join(sums))
        for path in (model, snapshot):
            self.assertEqual(self.succeed("verify", path, "--json").result()["proven_by"], ["sha256"])
        self.succeed("convert", model)
        self.assertTrue((self.folder / "name-q4.sluice").exists())

    def test_inspect(self):
        hub = self.make_hub()
        release = self.succeed("inspect", hub, "--json").result()
        self.assertEqual((release["kind"], release["checkpoint"], release["layout"], release["tensors"]),
                         ("release", "safetensors", "hugging-face", 127))
        self.assertEqual(release["checkpoint_files"],
                         ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
        self.assertEqual(release["params"]["dim"], self.params["dim"])
        shard = self.succeed("inspect", hub / "model-00001-of-00002.safetensors", "--json").result()
        self.assertEqual((shard["kind"], shard["tensors"], shard["dtypes"]), ("safetensors", 64, {"bf16": 64}))
        (hub / "tokenizer.model").unlink()
        self.assertIn("tokenizer.model is missing",
                      self.succeed("inspect", hub, "--json").result()["not_convertible"])

    def test_damage_is_named(self):
        hub = self.make_hub()
        self.publish(hub)
        shard = hub / "model-00002-of-00002.safetensors"
        lines = self.succeed("inspect", shard, "--tensors", "*q_proj*", "--json").lines()
        tensor = next(line for line in lines if line["event"] == "tensor")
        content = bytearray(shard.read_bytes())
        for offset, named in ((tensor["offset"] + 700, tensor["name"]), (20, "safetensors header")):
            damaged = bytearray(content)
            damaged[offset] ^= 1
            shard.write_bytes(damaged)
            verified = self.sluice("verify", hub)
            self.assertEqual(verified.code, 1, str(verified))
            self.assertIn(named, verified.stdout)

    def test_the_chain_reaches_the_tensors(self):
        hub = self.make_hub()
        manifest = json.loads(Path(self.folder / self.publish(hub)["manifest"]).read_text())
        released = json.loads(Path(self.folder / self.publish(self.copy_release("tales"))["manifest"]).read_text())
        self.assertEqual(manifest["tensors"], released["tensors"])
        self.succeed("convert", hub, "-o", "m.sluice", "--quant", "q8")
        chain = {link["link"]: link["state"] for link in self.succeed("verify", "m.sluice", "--json").result()["chain"]}
        self.assertEqual((chain["file content"], chain["tensors"]), ("=", "="))

    def test_a_repaired_container_comes_from_the_shards(self):
        hub = self.make_hub()
        self.publish(hub)
        self.succeed("convert", hub, "-o", "m.sluice", "--quant", "q8")
        model = self.folder / "m.sluice"
        content = bytearray(model.read_bytes())
        damaged = bytearray(content)
        damaged[len(content) // 2] ^= 1
        model.write_bytes(damaged)
        self.assertEqual(self.sluice("verify", model).code, 1)
        self.succeed("verify", model, "--repair")
        self.assertEqual(model.read_bytes(), content)

    def test_what_cannot_be_converted_says_why(self):
        # Said before anything is fetched.
        for name in ("pixtral-12b", "ling-3.0-tiny"):
            self.fail_with(9, "malformed", f"{name}: cannot be converted: ", "run", name, "-p", "x")
        grok = self.folder / "grok-1"
        (grok / "ckpt-0").mkdir(parents=True)
        (grok / "ckpt-0" / "tensor00000_000").write_bytes(
            b"\x80\x04\x95" + bytes(8) + b"\x8c\x15numpy.core.multiarray")
        self.fail_with(9, "malformed", "tensor00000_000: offset 34: the pickle ends early", "convert", grok)
        native = self.make_native()
        params = {**self.params, "vision_encoder": {"hidden_size": 1024}}
        (native / "params.json").write_text(json.dumps(params))
        self.fail_with(9, "malformed", 'key "vision_encoder"', "convert", native)
        (native / "params.json").write_text(json.dumps(self.params))
        os.rename(native / "tokenizer.model", native / "tekken.json")
        self.fail_with(9, "malformed", "tekken.json: is no JSON object, expected a tokenizer in JSON", "convert", native)


if __name__ == "__main__":
    main()
