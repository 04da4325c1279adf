"""Hostile pickles, made by Python's own pickler: told in words, refused, never executed."""

import os
import pickle
import pickletools
import unittest
import zipfile

from sluice_program import ProgramTest, main


class Evil:
    """Makes a file when it is loaded."""

    def __init__(self, marker):
        self.command = f"touch {marker}"

    def __reduce__(self):
        return os.system, (self.command,)


class PicklesTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.marker = self.folder / "executed"
        self.evil = Evil(self.marker)

    def tearDown(self):
        self.assertFalse(self.marker.exists())

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def told(self, content, offset=0):
        calls = [at for opcode, _, at in pickletools.genops(content) if opcode.name == "REDUCE"]
        return f"would call posix.system at offset {calls[-1] + offset} with ('touch {self.marker}')"

    def check_refused(self, path, told):
        for command in ("inspect", "verify", "convert"):
            self.fail_with(9, "malformed", told, command, path)

    def test_bare_pickles_of_every_protocol(self):
        (self.folder / "params.json").write_text((self.copy_release() / "params.json").read_text())
        (self.folder / "tokenizer.model").write_bytes(b"x")
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            content = pickle.dumps({"w": self.evil}, protocol)
            self.check_refused(self.write("evil.pkl", content), self.told(content))

    def test_torch_files(self):
        release = self.copy_release().rename(self.folder / "strange")  # of which no manifest speaks
        (release / "RELEASE").unlink()
        content = pickle.dumps(self.evil, 2)
        evil = release / "consolidated.00.pth"
        with zipfile.ZipFile(evil, "w") as file:
            file.writestr("archive/data.pkl", content)
            file.writestr("archive/version", "3\n")
        told = "data.pkl " + self.told(content)
        self.check_refused(evil, told)
        self.fail_with(9, "malformed", told, "inspect", release)
        self.fail_with(9, "malformed", told, "convert", release)

        # In torch's format from before 1.6: a magic number, a protocol, the system, the dict, its keys.
        start = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
        legacy = self.write("legacy.pth", start + content + pickle.dumps([], 2) + b"\0" * 8)
        self.check_refused_by_two(legacy, self.told(content, len(start)))

    def check_refused_by_two(self, path, told):
        self.fail_with(9, "malformed", told, "inspect", path)
        self.fail_with(9, "malformed", told, "verify", path)

    def test_a_proven_release_with_a_hostile_file_is_refused(self):
        release = self.copy_release()
        content = pickle.dumps(self.evil, 4)
        (release / "training_args.bin").write_bytes(content)
        torrent = self.publish(release)["torrent"]
        self.fail_with(9, "malformed", self.told(content), "verify", release, "--torrent", torrent)
        told = self.sluice("verify", release, "--torrent", torrent)
        self.assertIn("= training_args.bin", told.stdout)
        (release / "README.md").write_text("other")
        damaged = self.sluice("verify", release, "--torrent", torrent)
        self.assertEqual(damaged.code, 1)
        self.assertIn(self.told(content), damaged.stderr)

    def test_what_is_not_scanned_to_its_end_is_not_clean(self):
        folder = self.folder / "files"
        folder.mkdir()
        path = folder / "x.pkl"
        path.write_bytes(b"\x80\x02" + b"N" * 300000 + pickle.dumps(self.evil, 2))
        self.succeed("verify", folder, "--write-sums")
        self.fail_with(9, "malformed", "x.pkl: cannot be scanned: it is not known what loading it with Python would "
                       "execute, because the scan gave up at a limit: more than 262144 values wait on its stack. "
                       "Do not load it with pickle or torch.load; ask its publisher for safetensors",
                       "verify", folder)

    def test_a_compressed_torch_file_is_scanned(self):
        content = pickle.dumps(self.evil, 2)
        with zipfile.ZipFile(self.folder / "m.pth", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("archive/data.pkl", content)
        self.fail_with(9, "malformed", "data.pkl " + self.told(content), "verify", self.folder / "m.pth")

    def test_what_executes_nothing_is_not_accused(self):
        release = self.copy_release()
        (release / "numbers.pkl").write_bytes(pickle.dumps({"a": [1, 2.5, "x"], "b": (None, True)}, 4))
        torrent = self.publish(release)["torrent"]
        self.succeed("verify", release, "--torrent", torrent)
        self.fail_with(9, "malformed", "is a bare pickle, not a torch zip file", "inspect",
                       release / "numbers.pkl")


if __name__ == "__main__":
    main()
