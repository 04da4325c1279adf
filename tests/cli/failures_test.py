"""What goes wrong has its exit code, one sentence, and leaves nothing behind."""

import os
import subprocess

from sluice_program import RELEASE, ProgramTest, main


class ExitCodeTest(ProgramTest):
    def test_usage_is_2(self):
        self.fail_with(2, "usage", "did you mean fetch?", "fech")
        self.fail_with(2, "usage", "SOURCE", "fetch")
        self.fail_with(2, "usage", "--unknown", "run", "stories-moe", "--unknown")
        self.fail_with(2, "usage", "no-such-model", "run", "no-such-model", "-p", "x")
        self.fail_with(2, "usage", "'lots'", "convert", RELEASE, "--memory", "lots")
        self.fail_with(2, "usage", "q5", "convert", RELEASE, "--quant", "q5")
        self.fail_with(2, "usage", "'nan' is not a number from 0 to 100", "run", "stories-moe", "-p", "x",
                       "--temperature", "nan")
        self.fail_with(2, "usage", "--seed", "run", "stories-moe", "-p", "x", "--seed", "-2")
        self.fail_with(2, "usage", "is a folder", "fetch", RELEASE)
        self.fail_with(2, "usage", "--overwrite cannot be given together with --list", "fetch", "x.torrent", "--overwrite", "--list")
        self.fail_with(2, "usage", "--recheck cannot be given together with --dry-run", "fetch", "x.torrent", "--recheck", "--dry-run")
        self.fail_with(2, "usage", "does not exist", "verify", "nowhere")
        self.fail_with(2, "usage", "SLUICE_ISA", "run", "stories-moe", "-p", "x",
                       environment={"SLUICE_ISA": "mmx"})
        self.fail_with(2, "usage", "SLUICE_ENGINE is 'mkl', expected auto, own or onednn", "run", "stories-moe",
                       "-p", "x", environment={"SLUICE_ENGINE": "mkl"})

    def test_help_is_0_for_every_command(self):
        commands = [line.split()[0] for line in self.succeed("--help").stdout.splitlines()
                    if line.startswith("  ") and line[2:3].isalpha() and line.split()[0].islower()
                    and line.split()[0] != "sluice"]
        self.assertEqual(commands, ["fetch", "verify", "convert", "run", "publish", "seed", "keygen", "sign",
                                    "trust", "inspect", "bench", "eval", "releases", "models"])
        for command in commands:
            text = self.succeed(command, "--help").stdout
            self.assertRegex(text, "Examples?:\n  sluice " + command)

    def test_a_damaged_release_is_1_and_the_tensor_is_named(self):
        release = self.copy_release()
        with open(release / "consolidated.00.pth", "r+b") as checkpoint:
            checkpoint.seek(3168768)
            byte = checkpoint.read(1)
            checkpoint.seek(3168768)
            checkpoint.write(bytes([byte[0] ^ 1]))
        verified = self.sluice("verify", release, "--manifest", "stories-moe", "--json")
        self.assertEqual(verified.code, 1, str(verified))
        self.assertFalse(verified.result()["ok"])
        states = {line["path"]: line["state"] for line in verified.lines() if line["event"] == "file"}
        self.assertEqual(states["consolidated.00.pth"], "damaged")
        self.assertEqual(states["params.json"], "ok")
        people = self.sluice("verify", release, "--manifest", "stories-moe")
        self.assertIn("* consolidated.00.pth", people.stdout)
        # run does not use it either.
        self.fail_with(1, "verification", "verification FAILED", "run", release, "-p", "x")
        # Nor does convert, unless it is told to; then the container says so wherever it is looked at.
        self.fail_with(1, "verification", "consolidated.00.pth: damaged", "convert", release, "-o", "m.sluice")
        self.assertFalse((self.folder / "m.sluice").exists())
        self.succeed("convert", release, "-o", "m.sluice", "--allow-damaged", "--quiet")
        said = "made of a release that its references prove to be damaged (--allow-damaged): consolidated.00.pth"
        self.assertIn(said, self.succeed("inspect", "m.sluice").stdout)
        self.assertIn(said, self.succeed("verify", "m.sluice").stderr)
        self.assertIn(said, self.succeed("run", "m.sluice", "-p", "x", "-n", "1", "--stats").stderr)

    def test_nothing_to_verify_against_is_1(self):
        folder = self.folder / "some-folder"
        folder.mkdir()
        (folder / "file").write_text("content")
        self.fail_with(1, "verification", "nothing to verify against", "verify", folder)
        self.fail_with(1, "verification", "nothing to verify against", "verify", folder / "file")
        for path in (folder, folder / "file"):
            events = self.sluice("verify", path, "--json").lines()
            self.assertEqual([(line["path"], line["state"]) for line in events if line["event"] == "file"],
                             [("file", "unproven")])
            self.assertTrue(self.sluice("verify", path).stdout.startswith("? file"))

    def test_no_peer_is_5(self):
        magnet = "magnet:?xt=urn:btih:" + "0123456789" * 4
        self.fail_with(5, "no_peers", "", "fetch", magnet, "-o", "downloads", "--no-dht", "--no-lsd", "--no-pex",
                       "--timeout", "1")

    def test_malformed_input_is_9_and_nothing_is_written(self):
        release = self.copy_release()
        (release / "RELEASE").unlink()
        checkpoint = release / "consolidated.00.pth"
        os.truncate(checkpoint, checkpoint.stat().st_size - 100)
        self.fail_with(9, "malformed", "consolidated.00.pth", "convert", release, "-o", "out.sluice")
        self.assertEqual(sorted(os.listdir(self.folder)), ["stories-moe"])

    def test_a_cut_container_is_9(self):
        (self.folder / "cut.sluice").write_bytes(b"\x89SLUICE\n" + bytes(5000))
        for arguments in (["verify", "cut.sluice"], ["inspect", "cut.sluice"], ["run", "cut.sluice", "-p", "x"]):
            self.fail_with(9, "malformed", "cut.sluice", *arguments)

    def test_a_prompt_longer_than_the_context_is_9_with_the_numbers(self):
        self.fail_with(9, "malformed", "the context holds 3", "run", "stories-moe", "-p",
                       "Once upon a time there was a dog", "--context", "3")

    def test_files_of_no_known_kind_are_9(self):
        (self.folder / "file").write_text("just text")
        self.fail_with(9, "malformed", "neither", "inspect", "file")

    def test_an_unwritable_folder_is_10(self):
        # root is stopped by no permission, but nobody can make a folder below a file.
        (self.folder / "file").write_text("")
        self.fail_with(10, "io", "file", "convert", RELEASE, "-o", "file/out.sluice")
        published = self.publish(self.copy_release())
        self.fail_with(10, "io", "file", "fetch", published["torrent"], "-o", "file/downloads", "--no-dht",
                       "--no-lsd", "--no-pex")
        self.fail_with(10, "io", "file", "run", "stories-moe", "-p", "x",
                       environment={"XDG_DATA_HOME": str(self.folder / "file")})

    def test_a_full_standard_output_is_4(self):
        with open("/dev/full", "w") as full:
            finished = subprocess.run([os.environ["SLUICE_PROGRAM"], "releases"], stdout=full,
                                      stderr=subprocess.PIPE, text=True, env=self.environment)
        self.assertEqual(finished.returncode, 4, finished.stderr)


if __name__ == "__main__":
    main()
