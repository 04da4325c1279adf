"""convert --calibrate with the real program."""

import hashlib

from sluice_program import RELEASE, SANITIZED, ProgramTest, main

TEXT = RELEASE.parent.parent / "tests" / "data" / "stories-moe" / "calibration.txt"


class CalibrateTest(ProgramTest):
    def calibrate(self, text, output, threads):
        return self.succeed("convert", RELEASE, "--calibrate", text, "-o", output, "--threads", threads,
                            "--json").result()

    def test_the_bytes_do_not_depend_on_the_threads_and_the_report_is_kept(self):
        text = self.folder / "text.txt"
        text.write_bytes(TEXT.read_bytes()[:8000])
        counts = (1, 3) if SANITIZED else (1, 2, 3)  # under TSan one takes minutes
        results = [self.calibrate(text, f"{threads}.sluice", threads) for threads in counts]
        self.assertEqual(len({result["file_sha256"] for result in results}), 1)
        self.assertEqual(sorted(path.name for path in self.folder.glob("*.sluice*")),
                         [f"{threads}.sluice" for threads in counts])
        recipe = self.succeed("inspect", "1.sluice", "--json").result()["recipe"]
        calibration = recipe["calibration"]
        self.assertEqual(calibration["text_sha256"], hashlib.sha256(text.read_bytes()).hexdigest())
        # Every token goes to two of the eight experts of each of four layers; so few leave some starved.
        self.assertEqual([sum(layer) for layer in calibration["expert_tokens"]], [2 * calibration["tokens"]] * 4)
        few = sum(tokens < 1024 for layer in calibration["expert_tokens"] for tokens in layer)
        self.assertGreater(few, 0)
        self.assertEqual(calibration["starved"], few)
        self.assertEqual(len(recipe["quality"]["tensors"]), 4 * (4 + 8 * 3) + 1)
        self.assertEqual(len(recipe["quality"]["worst_experts"]), 5)

    def test_a_calibrated_container_cannot_be_mended_where_the_text_went_in(self):
        text = self.folder / "text.txt"
        text.write_bytes(TEXT.read_bytes()[:2000])
        self.calibrate(text, "m.sluice", 2)
        model = self.folder / "m.sluice"
        content = model.read_bytes()
        lines = self.succeed("inspect", model, "--tensors", "layers.1.*", "--json").lines()
        offsets = {line["name"]: line["offset"] for line in lines if line["event"] == "tensor"}

        def damage(offset):
            damaged = bytearray(content)
            damaged[offset] ^= 1
            model.write_bytes(damaged)
            return bytes(damaged)

        repair = ("verify", model, "--repair", "--release", RELEASE)
        expert = "layers.1.feed_forward.experts.3.w1.weight"
        damaged = damage(offsets[expert] + 70)
        self.fail_with(1, "verification",
                       f"m.sluice: tensor '{expert}': was rounded with a calibration text, which a repair does not "
                       "have: convert again with --calibrate", *repair)
        self.assertEqual(model.read_bytes(), damaged)
        # All else is as in any container.
        for offset in (offsets["layers.1.attention.wq.weight"] + 70, 3):
            damage(offset)
            self.succeed(*repair)
            self.assertEqual(model.read_bytes(), content)

    def test_only_q4_is_calibrated(self):
        self.fail_with(2, "usage", "only q4", "convert", RELEASE, "--calibrate", TEXT, "--quant", "q8")


if __name__ == "__main__":
    main()
