"""Keys and signatures go both ways between the program and Debian's minisign."""

import shutil
import subprocess
import unittest

from sluice_program import ProgramTest, main


@unittest.skipUnless(shutil.which("minisign"), "minisign is missing (Debian package minisign)")
class MinisignTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.file = self.folder / "file"
        self.file.write_bytes(bytes(range(256)) * 5000)

    def minisign(self, *arguments, text_in=None):
        done = subprocess.run(["minisign", *map(str, arguments)], cwd=self.folder, env=self.environment,
                              input=text_in, text=True, capture_output=True, timeout=50)
        return done.returncode, done.stdout + done.stderr

    def minisign_verifies(self, key="alice.pub"):
        code, text = self.minisign("-V", "-p", key, "-m", self.file)
        self.assertEqual(code, 0, text)
        return text

    def sluice_verifies(self, key="alice.pub"):
        """As a checksum list, which is what it signs best for a file of any kind."""
        sums = self.folder / "SHA256SUMS"
        with sums.open("w") as output:
            subprocess.run(["sha256sum", "file"], cwd=self.folder, stdout=output, check=True)
        return self.sluice("verify", "file", "--sums", sums, "--key", key, "--json")

    def test_minisign_believes_what_the_program_signs(self):
        self.succeed("keygen", "-o", "alice", "--no-password")
        self.succeed("sign", self.file, "--key", "alice.key", "--comment", "words of alice")
        self.assertIn("words of alice", self.minisign_verifies())
        self.succeed("sign", self.file, "--key", "alice.key")
        self.assertIn("file:file", self.minisign_verifies())
        with self.file.open("ab") as file:
            file.write(b"x")
        self.assertNotEqual(self.minisign("-V", "-p", "alice.pub", "-m", self.file)[0], 0)

    def test_minisign_signs_with_the_programs_keys(self):
        self.succeed("keygen", "-o", "alice", "--no-password")
        self.succeed("keygen", "-o", "bob", "--password-stdin", text_in="secret\n")
        for name, password in (("alice", None), ("bob", "secret\n")):
            for legacy in ([], ["-l"]):
                sums = self.folder / "SHA256SUMS"
                self.sluice_verifies(f"{name}.pub")  # writes the list
                code, text = self.minisign("-S", *legacy, "-s", f"{name}.key", "-m", sums, text_in=password)
                self.assertEqual(code, 0, text)
                verified = self.sluice_verifies(f"{name}.pub")
                self.assertEqual(verified.code, 0, str(verified))
                self.assertEqual(verified.result()["signature"]["state"], "valid")

    def test_the_program_signs_with_minisigns_keys(self):
        self.assertEqual(self.minisign("-G", "-W", "-p", "alice.pub", "-s", "alice.key")[0], 0)
        self.assertEqual(self.minisign("-G", "-p", "bob.pub", "-s", "bob.key", text_in="secret\nsecret\n")[0], 0)
        self.succeed("sign", self.file, "--key", "alice.key")
        self.minisign_verifies("alice.pub")
        self.succeed("sign", self.file, "--key", "bob.key", "--password-stdin", "--overwrite", text_in="secret\n")
        self.minisign_verifies("bob.pub")
        self.fail_with(9, "malformed", "the password is wrong", "sign", self.file, "--key", "bob.key",
                       "--password-stdin", text_in="wrong\n")


if __name__ == "__main__":
    main()
