"""What `run` proves on first use, what it remembers, and what a wrong bit does."""

import json
import os
import unittest

from sluice_program import ProgramTest, main

PROMPT = ("-p", "Once upon a time", "-n", "6", "--temperature", "0", "--threads", "2")


class ProofsTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "m.sluice"
        self.succeed("convert", self.copy_release(), "-o", self.model, "--quant", "q4")
        self.record = self.folder / ".sluice" / "m.sluice.proofs"

    def run_model(self, *options, **how):
        return self.succeed("run", self.model, *PROMPT, "--stats", "--json", *options, **how).result()

    def tensors(self):
        lines = self.succeed("inspect", self.model, "--tensors", "*", "--json").lines()
        return {line["name"]: line for line in lines if line["event"] == "tensor"}

    def flip(self, offset):
        with open(self.model, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 8]))

    def test_second_start_proves_nothing(self):
        first = self.run_model()
        self.assertGreater(first["proofs"]["experts_proven"], 0)
        self.assertGreater(first["proofs"]["bytes"], 0)
        self.assertTrue(self.record.exists())
        second = self.run_model()
        self.assertEqual(second["proofs"]["bytes"], 0)
        self.assertEqual(second["proofs"]["experts_known"], first["proofs"]["experts_proven"])
        off = self.run_model("--verify", "off")
        self.assertEqual(off["proofs"]["experts_proven"], 0)
        full = self.run_model("--verify", "full")
        self.assertEqual(full["proofs"]["experts_proven"], full["proofs"]["experts"])
        for other in (second, off, full):
            self.assertEqual(other["ids"], first["ids"])
        people = self.succeed("run", self.model, *PROMPT, "--stats")
        self.assertIn("proofs: 0 of 32 experts and 0 of", people.stderr)
        self.assertIn("known from before: 32 and", people.stderr)

    def test_wrong_bit_in_a_used_expert_prints_no_token(self):
        trace = self.folder / "trace"
        self.succeed("run", self.model, *PROMPT, "--trace", trace, "--verify", "off")
        used = json.loads(trace.read_text().splitlines()[0])
        layer, expert = used["layer"], used["experts"][0]
        name = f"layers.{layer}.feed_forward.experts.{expert}.w2.weight"
        self.flip(self.tensors()[name]["offset"] + 10)
        failed = self.sluice("run", self.model, *PROMPT, "--json")
        self.assertEqual(failed.code, 1, str(failed))
        self.assertEqual([line["event"] for line in failed.lines()], ["error"])
        people = self.sluice("run", self.model, *PROMPT)
        self.assertEqual(people.code, 1, str(people))
        self.assertEqual(people.stdout, "Once upon a time\n")
        self.assertTrue(people.stderr.startswith("sluice: "), str(people))
        self.assertIn(f"layer {layer}, expert {expert}: tensor '{name}' does not match its digest",
                      failed.error()["message"])
        self.fail_with(1, "verification", name, "run", self.model, *PROMPT, "--verify", "full")

    def test_embedding_and_norm(self):
        tensors = self.tensors()
        for name in ("tok_embeddings.weight", "norm.weight", "output.weight"):
            self.flip(tensors[name]["offset"] + 4)
            self.fail_with(1, "verification", f"tensor '{name}' does not match its digest", "run", self.model,
                           *PROMPT)
            self.flip(tensors[name]["offset"] + 4)

    def test_change_under_the_old_time_is_seen(self):
        self.run_model("--verify", "full")
        before = os.stat(self.model)
        self.flip(self.tensors()["norm.weight"]["offset"])
        os.utime(self.model, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.fail_with(1, "verification", "tensor 'norm.weight'", "run", self.model, *PROMPT)

    def test_cache_folder_when_the_place_is_read_only(self):
        (self.folder / ".sluice").write_text("a file where the folder would be")
        self.environment["XDG_CACHE_HOME"] = str(self.folder / "cache")
        self.run_model()
        self.assertEqual(self.run_model()["proofs"]["bytes"], 0)
        self.assertEqual(len(list((self.folder / "cache/sluice/proofs").iterdir())), 1)

    def test_bench_and_eval_take_the_option(self):
        text = self.folder / "text"
        text.write_text("Once upon a time there was a little girl.")
        self.succeed("bench", self.model, "-p", "4", "-n", "2", "-r", "1", "--verify", "full")
        self.assertEqual(self.run_model()["proofs"]["experts_known"], 32)
        self.succeed("eval", self.model, text, "--verify", "off")
        self.flip(self.tensors()["norm.weight"]["offset"])
        self.fail_with(1, "verification", "norm.weight", "eval", self.model, text)
        self.fail_with(2, "usage", "--verify", "run", self.model, *PROMPT, "--verify", "sometimes")


if __name__ == "__main__":
    main()
