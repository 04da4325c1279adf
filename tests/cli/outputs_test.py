"""No output destroys what the user has: every command that writes a file, on everything that can have its name."""

import hashlib
import os
import shutil
import stat
import subprocess

from sluice_program import PROGRAM, ProgramTest, main

NOBODY = 65534
GREEDY = ("-p", "Once", "-n", "1", "--temperature", "0", "--threads", "1")


class Writer:
    """A command that writes `ending` files. `command(path)` are the arguments for the output `path`."""

    def __init__(self, command, source, ending, natural=None, overwrite=True):
        self.command, self.source, self.ending = command, source, ending
        self.natural = natural      # the name in a folder that is given as the output; None: folders are refused
        self.overwrite = overwrite  # whether it takes --overwrite


class OutputsTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.release = self.copy_release("rel")
        self.model = self.folder / "m.sluice"
        self.key = self.folder / "alice.key"
        self.letter = self.folder / "letter"
        self.letter.write_text("Dear Lily")
        self.succeed("convert", self.release, "-o", self.model, "-q")
        self.succeed("keygen", "-o", "alice", "--no-password")
        self.signed = self.folder / "signed"
        self.signed.mkdir()
        os.chmod(self.folder, 0o755)

    def writers(self):
        release, model = self.release, self.model
        params = release / "params.json"
        return {
            "convert": Writer(lambda path: ("convert", release, "-o", path), params, ".sluice", "rel-q4.sluice"),
            "gguf": Writer(lambda path: ("convert", model, "--to", "gguf", "-o", path), model, ".gguf", "m.gguf"),
            "safetensors": Writer(lambda path: ("convert", model, "--to", "safetensors", "-o", path), model,
                                  ".safetensors", "consolidated.safetensors"),
            "publish": Writer(lambda path: ("publish", release, "-o", path), params, ".torrent", "rel.torrent"),
            "trace": Writer(lambda path: ("run", model, *GREEDY, "--trace", path), model, ".jsonl"),
            "prompt cache": Writer(lambda path: ("run", model, *GREEDY, "--prompt-cache", path), model, ".kv"),
            "write-sums": Writer(lambda path: ("verify", release, "--manifest", "stories-moe", "--write-sums", "-o",
                                               path.with_suffix("")), params, ".SHA256SUMS"),
            "sign": Writer(self.sign, self.key, ".minisig"),
            "keygen": Writer(lambda path: ("keygen", "--no-password", "-o", path.with_suffix("")), self.key, ".key",
                             overwrite=False),
        }

    def sign(self, path):
        """The output's name follows from the signed file's, so each output has a file of its own."""
        file = path.with_suffix("")
        if not file.exists() and os.access(file.parent, os.W_OK):
            file.write_text("signed")
        return ("sign", file, "--key", self.key)

    def state(self):
        """Everything below the folder: kinds, links' targets and contents."""
        state = {}
        for root, folders, files in os.walk(self.folder):
            for path in (os.path.join(root, name) for name in folders + files):
                kind = stat.S_IFMT(os.lstat(path).st_mode)
                content = os.readlink(path) if kind == stat.S_IFLNK else None
                if kind == stat.S_IFREG:
                    with open(path, "rb") as file:
                        content = hashlib.sha256(file.read()).hexdigest()
                state[path] = (kind, content)
        return state

    def refuse(self, code, part, *command, **options):
        """It fails at once, says so in one line, and nothing has changed."""
        before = self.state()
        ran = self.sluice(*command, **options)
        self.assertEqual(ran.code, code, f"{command}: {ran}")
        self.assertIn(part, ran.stderr, command)
        self.assertEqual(self.state(), before, command)

    def each(self, name):
        """A fresh name for each writer."""
        for kind, writer in self.writers().items():
            yield kind, writer, self.folder / (name + "-" + kind.replace(" ", "-") + writer.ending)

    def overwriting(self, writer, path):
        return (*writer.command(path), *(["--overwrite"] if writer.overwrite else []))

    def test_an_input_is_refused_under_every_name(self):
        for link in (os.link, os.symlink):
            for kind, writer, path in self.each(link.__name__):
                command = self.overwriting(writer, path)
                link(writer.source, path)
                told = "is an input of this command"
                if kind == "keygen":  # which has no inputs and refuses every name that is taken
                    told = "is there already"
                elif kind == "publish" and link is os.symlink:
                    told = "lies inside the folder that is published"
                self.refuse(2, told, *command)
                os.unlink(path)
        for kind, writer, _ in self.each("self"):
            if kind not in ("write-sums", "sign", "keygen"):
                self.refuse(2, "lies inside the folder" if kind == "publish" else "is an input of this command",
                            *self.overwriting(writer, writer.source))
        self.refuse(2, "is an input", "convert", self.release, "--calibrate", "letter", "-o", "letter", "--overwrite")
        self.refuse(2, "is an input", "run", self.model, "-f", "letter", "--trace", "letter", "--overwrite")
        self.refuse(2, "name the same file", "run", self.model, *GREEDY, "--trace", "both", "--prompt-cache", "./both")
        # The weights lie beside the parameters that are named by the file.
        self.refuse(2, "is an input", "convert", self.release / "consolidated.00.pth", "--overwrite", "-o",
                    self.release / "params.json")

    def test_devices_pipes_and_folders_are_never_replaced(self):
        makers = [("pipe", os.mkfifo)]
        if os.geteuid() == 0:
            makers.append(("device", lambda path: os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))))
        for thing, make in makers:
            for kind, writer, path in self.each(thing):
                command = self.overwriting(writer, path)
                make(path)
                self.refuse(2, "is there already" if kind == "keygen" else f"is a {thing}; only a regular file",
                            *command)
        for kind, writer, path in self.each("folder"):
            command = writer.command(path)
            path.mkdir()
            if writer.natural is None:
                self.refuse(2, "is there already" if kind == "keygen" else "is a folder", *command)
            else:
                self.succeed(*command)
                self.assertTrue((path / writer.natural).is_file(), os.listdir(path))

    def test_a_foreign_file_needs_overwrite(self):
        for kind, writer, path in self.each("foreign"):
            command = writer.command(path)
            path.write_text("precious")
            self.refuse(2, f"{path.name}: is there already", *command)
            if writer.overwrite:
                self.succeed(*command, "--overwrite")
                self.assertNotEqual(path.read_bytes(), b"precious")
                self.assertEqual([name for name in os.listdir(self.folder) if ".part" in name], [])

    def test_a_folder_that_cannot_be_written_or_is_not_there_is_told_before_the_work(self):
        closed = self.folder / "closed"
        closed.mkdir()
        (closed / "x").write_text("signed")
        closed.chmod(0o555)
        self.addCleanup(closed.chmod, 0o755)
        user = {}
        if os.geteuid() == 0:  # root is refused nothing
            user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            self.key.chmod(0o644)
            if subprocess.run([PROGRAM, "--version"], capture_output=True, check=False, **user).returncode != 0:
                self.skipTest("others may not run the program")
        for kind, writer, _ in self.each("closed"):
            self.refuse(10, "cannot write into the folder", *writer.command(closed / ("x" + writer.ending)), **user)
        for kind, writer, _ in self.each("absent"):
            if kind != "sign":
                self.refuse(2, "does not exist; create it first",
                            *writer.command(self.folder / "new/deep" / ("x" + writer.ending)))

    def test_a_link_of_the_user_is_followed_and_stays(self):
        disk = self.folder / "disk"
        disk.mkdir()
        for kind, writer, path in self.each("link"):
            if kind == "keygen":
                continue
            command = writer.command(path)
            path.symlink_to(disk / path.name)
            self.succeed(*command)
            self.assertTrue(path.is_symlink())
            self.assertGreater((disk / path.name).stat().st_size, 0)

    def test_what_the_same_command_made_is_made_again(self):
        for kind, writer, path in self.each("again"):
            if kind in ("gguf", "safetensors", "keygen"):
                continue
            command = writer.command(path)
            self.succeed(*command)
            first = path.read_bytes()
            self.succeed(*command)
            if kind != "sign":  # whose comment has the time
                self.assertEqual(path.read_bytes(), first)

    def test_a_container_in_the_release_s_folder_is_made_again(self):
        """It is no part of the release, though it lies in a folder that the command reads."""
        for _ in range(2):
            self.succeed("convert", self.release, "-o", self.release / "own.sluice", "-q")
        self.fail_with(2, "usage", "is there already", "convert", self.release, "--quant", "q8", "-o",
                       self.release / "own.sluice")
        self.fail_with(2, "usage", "params.json", "convert", self.release, "-o", self.release / "params.json",
                       "--overwrite")

    def test_what_a_like_command_made_needs_overwrite(self):
        model, other = self.model, self.folder / "tuned"
        self.refuse(2, "m.sluice: is there already and holds other types", "convert", self.release, "-o", model,
                    "--quant", "q8")
        self.refuse(2, "was made with another calibration", "convert", self.release, "-o", model, "--calibrate",
                    self.letter)
        # A fine-tune: one weight differs.
        shutil.copytree(self.release, other)
        with open(other / "consolidated.00.pth", "r+b") as checkpoint:
            checkpoint.seek(3168768)
            byte = checkpoint.read(1)
            checkpoint.seek(3168768)
            checkpoint.write(bytes([byte[0] ^ 1]))
        self.refuse(2, "was made of other weights; --overwrite replaces it", "convert", other, "-o", model)
        (self.folder / "n.sluice.calibration").write_text("precious")
        self.refuse(2, "n.sluice.calibration: is there already", "convert", self.release, "-o", "n.sluice",
                    "--calibrate", self.letter)
        self.publish(self.release)
        tracked = ("publish", self.release, "--tracker", "udp://tracker.example.org:1/announce")
        self.refuse(2, "says something else; --overwrite replaces it", *tracked)
        self.succeed(*tracked, "--overwrite")
        self.succeed("sign", self.letter, "--key", self.key)
        self.succeed("keygen", "-o", "bob", "--no-password")
        self.refuse(2, "was made with another key", "sign", self.letter, "--key", "bob.key")
        self.succeed("sign", self.letter, "--key", "bob.key", "--overwrite")
        self.refuse(2, "--overwrite needs", "run", model, *GREEDY, "--overwrite")

    def test_a_slash_makes_a_folder(self):
        self.succeed("convert", self.release, "-o", "new/")
        self.assertEqual(os.listdir(self.folder / "new"), ["rel-q4.sluice"])
        self.succeed("keygen", "--no-password", "-o", "keys/")
        self.assertEqual(sorted(os.listdir(self.folder / "keys")), ["sluice.key", "sluice.pub"])
        self.assertEqual((self.folder / "keys/sluice.key").stat().st_mode & 0o777, 0o600)
        self.refuse(2, "does not exist; create it first", "convert", self.release, "-o", "a/b/")
        self.succeed("convert", self.model, "--to", "safetensors", "-o", "out/")
        self.refuse(2, "is there already", "convert", self.model, "--to", "safetensors", "-o", "out/")
        self.succeed("convert", self.model, "--to", "safetensors", "-o", "out/", "--overwrite")


if __name__ == "__main__":
    main()
