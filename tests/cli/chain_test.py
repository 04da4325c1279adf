"""The chain from a release to a .sluice file: what verify checks of it, and what inspect tells."""

import hashlib
import json
import shutil
import struct
import unittest

from sluice_program import ProgramTest, main


FOOTER_BYTES = 128
WEIGHTS_ONLY = "pins the weights only; model parameters and tokenizer are not pinned"


def write_as_version_1(container, older):
    """As programs wrote it before container version 2 (docs/container.md)."""
    content = container.read_bytes()
    at, length = struct.unpack_from("<QQ", content, len(content) - FOOTER_BYTES)
    directory = content[at:at + length].replace(b'{"version":2,', b"{", 1)
    lines = sorted("{name} {type} {layout} {} {digest}\n".format(json.dumps(tensor["shape"]), **tensor)
                   for tensor in json.loads(directory)["tensors"])
    root = hashlib.sha256("".join(lines).encode()).digest()
    footer = struct.pack("<QQQ", at, len(directory), at + len(directory) + FOOTER_BYTES) + root
    footer += hashlib.sha256(directory).digest()
    footer += hashlib.sha256(footer).digest() + b"SLUICEnd"
    older.write_bytes(content[:8] + b"\1" + content[9:at] + directory + footer)
    return root.hex()


class ChainTest(ProgramTest):
    def setUp(self):
        super().setUp()
        # A name that no known release has, so that only what lies here counts.
        self.release = self.copy_release("tales")
        self.published = self.publish(self.release)
        self.model = self.folder / "m.sluice"
        self.succeed("convert", self.release, "-o", self.model, "--quant", "q8")

    def states(self, code=0, *options):
        finished = self.sluice("verify", self.model, "--json", *options)
        self.assertEqual(finished.code, code, str(finished))
        return {link["link"]: link["state"] for link in finished.result()["chain"]}

    def flip(self, path, offset):
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))

    def test_all_at_hand(self):
        self.assertEqual(self.states(), {"release": "=", "files": "=", "file content": "=", "tensors": "=",
                                         "tokenizer": "=", "parameters": "=", "recipe": "?", "root": "?"})
        people = self.succeed("verify", self.model)
        self.assertIn(f"= release: tales, infohash_v1 {self.published['infohash_v1']}", people.stdout)
        self.assertIn("= files: the digests of 5 files are those of", people.stdout)
        self.assertIn("= tensors: 127 tensors were made from those of", people.stdout)
        self.assertIn("no manifest or signature at hand names it", people.stdout)

    def test_nothing_at_hand(self):
        away = self.folder / "away" / "deep"
        away.mkdir(parents=True)
        self.model = shutil.move(self.model, away / "m.sluice")
        self.assertEqual(self.states(), {"release": "?", "files": "?", "file content": "?", "tensors": "?",
                                         "tokenizer": "?", "parameters": "?", "recipe": "?", "root": "?"})
        # Torrent or manifest named: the first links can be checked.
        for option in ("torrent", "manifest"):
            states = self.states(0, f"--{option}", self.published[option])
            self.assertEqual((states["release"], states["files"], states["tensors"]), ("=", "=", "?"))
            # A torrent has no SHA-256 of whole files.
            known = "=" if option == "manifest" else "?"
            self.assertEqual((states["tokenizer"], states["parameters"]), (known, known))

    def test_another_release_of_the_name(self):
        other = self.folder / "other" / "tales"
        shutil.copytree(self.release, other)
        (other / "README.md").write_text("another edition")
        torrent = self.publish(other)["torrent"]
        states = self.states(1, "--torrent", torrent)
        self.assertEqual((states["release"], states["files"]), ("*", "*"))

    def test_changed_source_files(self):
        weights = self.release / "consolidated.00.pth"
        lines = self.succeed("inspect", weights, "--tensors", "norm.weight", "--json").lines()
        tensor = next(line for line in lines if line["event"] == "tensor")
        self.flip(weights, tensor["offset"] + 7)
        states = self.states(1)
        self.assertEqual((states["files"], states["file content"], states["tensors"]), ("=", "*", "*"))
        self.assertIn("first 'norm.weight'", self.sluice("verify", self.model).stdout)
        self.flip(weights, tensor["offset"] + 7)
        (self.release / "README.md").unlink()
        states = self.states(1)
        self.assertEqual((states["file content"], states["tensors"]), ("*", "="))

    def test_v1_only(self):
        shutil.rmtree(self.release)
        for file in self.folder.glob("tales.*"):
            file.unlink()
        self.copy_release("tales")
        self.publish(self.release, "--v1-only")
        (self.folder / "tales.manifest.json").unlink()
        (self.folder / "tales.SHA256SUMS").unlink()
        self.succeed("convert", self.release, "-o", self.model, "--quant", "q8")
        states = self.states()
        self.assertEqual((states["release"], states["files"], states["file content"], states["tensors"]),
                         ("=", "?", "=", "="))

    def test_inspect(self):
        found = self.succeed("inspect", self.model, "--json").result()
        states = {link["link"]: link["state"] for link in found["chain"]}
        self.assertEqual(states, {"release": "=", "files": "=", "file content": "?", "tensors": "?",
                                  "tokenizer": "=", "parameters": "=", "recipe": "?", "root": "?"})
        people = self.succeed("inspect", self.model).stdout
        sums = json.loads((self.folder / "tales.manifest.json").read_text())["files"]
        for text in (self.published["infohash_v1"], self.published["infohash_v2"], found["root_sha256"],
                     *(file["sha256"] for file in sums), "? root: " + found["root_sha256"], "recipe.quant"):
            self.assertIn(text, people)

    def test_a_container_of_version_1_says_what_its_root_does_not_pin(self):
        older = self.folder / "older.sluice"
        root = write_as_version_1(self.model, older)
        found = self.succeed("inspect", older, "--json").result()
        self.assertEqual((found["format_version"], found["tensors_sha256"]), (1, root))
        self.assertEqual(found["root_sha256"], self.succeed("inspect", self.model, "--json").result()["root_sha256"])
        told = f"the root of this file of version 1, {root}, {WEIGHTS_ONLY}"
        for command in ("inspect", "verify"):
            self.assertIn(told, self.succeed(command, older).stdout)
        prompt = ("-p", "Once upon a time", "-n", "4", "--temperature", "0", "--json")
        self.assertEqual(self.succeed("run", older, *prompt).result()["ids"],
                         self.succeed("run", self.model, *prompt).result()["ids"])
        # A manifest from that time names that root.
        manifest = self.folder / "old.json"
        manifest.write_text(json.dumps({"manifest": 1, "name": "tales", "containers": [
            {"name": "m.sluice", "quant": "q8", "root": root}]}))
        for model in (older, self.model):
            arguments = ("verify", model, "--manifest", manifest)
            self.assertIn(f"{manifest} names {root}, a root of container version 1: it {WEIGHTS_ONLY}",
                          self.succeed(*arguments).stdout)
            self.assertEqual(self.succeed(*arguments, "--json").result()["pinned"], "weights")

    def test_container_as_a_file_of_a_release(self):
        folder = self.folder / "packed"
        folder.mkdir()
        model = shutil.copy(self.model, folder / "m.sluice")
        torrent = self.publish(folder)["torrent"]
        result = self.succeed("verify", model, "--torrent", torrent, "--json").result()
        self.assertIn("v2", result["proven_by"])
        self.assertNotIn("chain", result)


if __name__ == "__main__":
    main()
