"""convert --calibrate with the real program."""

import hashlib

from sluice_program import RELEASE, ProgramTest, main

TEXT = RELEASE.parent.parent / "tests" / "data" / "stories-moe" / "calibration.txt"


class CalibrateTest(ProgramTest):
    def calibrate(self, text, output, threads):
        return self.succeed("convert", RELEASE, "--calibrate", text, "-o", output, "--threads", threads,
                            "--json").result()

    def test_the_bytes_do_not_depend_on_the_threads_and_the_report_is_kept(self):
        text = self.folder / "text.txt"
        text.write_bytes(TEXT.read_bytes()[:8000])
        results = [self.calibrate(text, f"{threads}.sluice", threads) for threads in (1, 2, 3)]
        self.assertEqual(len({result["file_sha256"] for result in results}), 1)
        self.assertEqual(sorted(path.name for path in self.folder.glob("*.sluice*")),
                         ["1.sluice", "2.sluice", "3.sluice"])
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

    def test_only_q4_is_calibrated(self):
        self.fail_with(2, "usage", "only q4", "convert", RELEASE, "--calibrate", TEXT, "--quant", "q8")


if __name__ == "__main__":
    main()
