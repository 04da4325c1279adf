"""A full disk has its exit code; a conversion goes on when there is room."""

import os
import subprocess

from sluice_program import RELEASE, ProgramTest, main


class FullDiskTest(ProgramTest):
    def test_a_full_disk_is_4(self):
        small = self.folder / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "sluice-test", small],
                                 capture_output=True, text=True)
        if mounted.returncode != 0:
            self.skipTest("a small file system cannot be mounted here (root can): " + mounted.stderr.strip())
        self.addCleanup(subprocess.run, ["umount", small], check=True)
        self.fail_with(4, "no_space", "free", "convert", RELEASE, "-o", small / "out.sluice")
        self.assertEqual(os.listdir(small), [])  # it was known before the first byte
        published = self.publish(self.copy_release())
        _, port = self.seed(published["torrent"])
        self.fail_with(4, "no_space", "", "fetch", published["magnet"], "-o", small, *self.from_peer(port))


if __name__ == "__main__":
    main()
