"""What a release is verified against: found, named, and made by --write-sums."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from sluice_program import ProgramTest, main


class SumsCase(ProgramTest):
    def setUp(self):
        super().setUp()
        self.release = self.folder / "deep" / "above" / "my-model"
        (self.release / "sub").mkdir(parents=True)
        (self.release / "weights.bin").write_bytes(bytes(range(256)) * 300)
        (self.release / "sub" / "notes.txt").write_text("some words\n")
        (self.release / "empty").write_text("")
        self.files = ["empty", "sub/notes.txt", "weights.bin"]

    def list_of(self, prefix="", algorithm="sha256"):
        def line(path):
            content = (self.release / path).read_bytes()
            return f"{hashlib.new(algorithm, content).hexdigest()}  {prefix}{path}\n"
        return "".join(map(line, self.files))

    def states(self, *arguments, code=0):
        verified = self.sluice("verify", *arguments, "--json")
        self.assertEqual(verified.code, code, str(verified))
        return {line["path"]: line["state"] for line in verified.lines() if line["event"] == "file"}


class FoundTest(SumsCase):
    def test_lists_are_found_in_beside_and_above_the_folder(self):
        all_ok = dict.fromkeys(self.files, "ok")
        above = self.release.parent
        for algorithm in ("sha256", "md5"):
            for list_path, prefix in ((self.release / "SHA256SUMS", ""), (self.release / "RELEASE", "./"),
                                      (above / "my-model.SHA256SUMS", ""), (above / "SHA256SUMS", "my-model/"),
                                      (above / "RELEASE", "my-model/"),
                                      (above.parent / "SHA256SUMS", "above/my-model/")):
                with self.subTest(str(list_path.relative_to(self.folder))):
                    list_path.write_text(self.list_of(prefix, algorithm) + "0" * 32 + "  elsewhere/file\n"
                                         if prefix.endswith("model/") else self.list_of(prefix, algorithm))
                    self.assertEqual(self.states(self.release, "--strict"), all_ok)
                    self.assertEqual(self.states(f"{self.release}/", "--strict"), all_ok)
                    verified = subprocess.run([os.environ["SLUICE_PROGRAM"], "verify", ".", "--strict", "--quiet"],
                                              cwd=self.release, env=self.environment, capture_output=True, text=True)
                    self.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)
                    # What it says counts.
                    with open(self.release / "weights.bin", "r+b") as weights:
                        weights.write(b"\x01")
                    self.assertEqual(self.states(self.release, code=1)["weights.bin"], "damaged")
                    with open(self.release / "weights.bin", "r+b") as weights:
                        weights.write(b"\x00")
                    list_path.unlink()

    def test_a_list_above_that_does_not_speak_of_the_folder_does_not_count(self):
        (self.release.parent / "SHA256SUMS").write_text(self.list_of("other-model/"))
        self.fail_with(1, "verification", "nothing to verify against", "verify", self.release)
        (self.release.parent / "SHA256SUMS").write_text(self.list_of(""))
        self.fail_with(1, "verification", "nothing to verify against", "verify", self.release)

    def test_a_named_list_may_lie_above_too(self):
        sums = self.release.parent.parent / "sums.txt"
        sums.write_text(self.list_of("above/my-model/"))
        self.assertEqual(self.states(self.release, "--sums", sums, "--strict"), dict.fromkeys(self.files, "ok"))
        sums.write_text(self.list_of())
        self.assertEqual(self.states(self.release, "--sums", sums, "--strict"), dict.fromkeys(self.files, "ok"))

    def test_one_file_of_a_release_is_verified_alone(self):
        weights = self.release / "weights.bin"
        notes = self.release / "sub" / "notes.txt"
        published = self.publish(self.release)
        for option in ([], ["--torrent", published["torrent"]], ["--manifest", published["manifest"]],
                       ["--sums", published["sums"]]):
            self.assertEqual(self.states(weights, *option), {"weights.bin": "ok"})
        self.assertEqual(self.states(notes), {"sub/notes.txt": "ok"})
        with open(weights, "r+b") as file:
            file.write(b"\x01")
        self.assertEqual(self.states(weights, code=1), {"weights.bin": "damaged"})
        for file in ("torrent", "manifest", "sums"):
            os.unlink(published[file])
        self.fail_with(1, "verification", "nothing to verify against", "verify", notes)
        (self.release / "sub" / "SHA256SUMS").write_text(hashlib.sha256(b"some words\n").hexdigest()
                                                         + "  notes.txt\n")
        self.assertEqual(self.states(notes), {"notes.txt": "ok"})

    def test_a_single_file_release_is_verified_by_its_own_torrent_and_manifest(self):
        weights = self.release / "weights.bin"
        published = self.publish(weights)
        self.assertEqual(self.states(weights), {"weights.bin": "ok"})
        os.unlink(published["torrent"])
        self.assertEqual(self.states(weights), {"weights.bin": "ok"})
        os.unlink(published["manifest"])
        self.assertEqual(self.states(weights), {"weights.bin": "ok"})
        self.assertEqual(self.sluice("verify", "weights.bin", "--quiet").code, 2)

    def test_what_has_no_digest_is_unproven_and_never_ok(self):
        manifest = self.folder / "sizes.json"
        files = [{"path": path, "bytes": (self.release / path).stat().st_size} for path in self.files]
        manifest.write_text(json.dumps({"manifest": 1, "name": "m", "files": files}))
        states = self.states(self.release, "--manifest", manifest, code=1)
        self.assertEqual(states["weights.bin"], "unproven")
        self.assertEqual(states["sub/notes.txt"], "unproven")
        people = self.sluice("verify", self.release, "--manifest", manifest)
        self.assertIn("? weights.bin", people.stdout)
        self.assertNotIn("= weights.bin", people.stdout)
        # One proven file does not prove the others; --strict says so.
        files[2]["sha256"] = hashlib.sha256((self.release / "weights.bin").read_bytes()).hexdigest()
        manifest.write_text(json.dumps({"manifest": 1, "name": "m", "files": files}))
        self.assertEqual(self.states(self.release, "--manifest", manifest)["sub/notes.txt"], "unproven")
        self.states(self.release, "--manifest", manifest, "--strict", code=1)
        people = self.succeed("verify", self.release, "--manifest", manifest)
        self.assertIn("proven by sha256; 1 unproven", people.stdout)

    def test_extra_files_are_told_and_fail_with_strict(self):
        self.publish(self.release)
        (self.release / "extra").write_text("x")
        self.assertEqual(self.states(self.release)["extra"], "extra")
        self.assertEqual(self.states(self.release, "--strict", code=1)["extra"], "extra")


class WriteSumsTest(SumsCase):
    def write(self, *arguments):
        return self.succeed("verify", *arguments, "--write-sums", "--json").result()

    def test_it_writes_what_verify_and_sha256sum_accept(self):
        result = self.write(self.release)
        stem = str(self.release)
        self.assertEqual((result["sums"], result["manifest"]), (stem + ".SHA256SUMS", stem + ".manifest.json"))
        self.assertEqual((result["files"], result["proven_by"]), (3, []))
        checked = subprocess.run(["sha256sum", "--strict", "-c", "../my-model.SHA256SUMS"], cwd=self.release,
                                 capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.assertEqual(self.states(self.release, "--strict"), dict.fromkeys(self.files, "ok"))
        os.unlink(result["manifest"])
        self.assertEqual(self.states(self.release, "--strict"), dict.fromkeys(self.files, "ok"))
        self.assertEqual(sorted(os.listdir(self.release)), ["empty", "sub", "weights.bin"])

    def test_nothing_to_compare_with_is_never_ok(self):
        people = self.succeed("verify", self.release, "--write-sums")
        self.assertIn("? weights.bin", people.stdout)
        self.assertNotIn("= ", people.stdout)
        self.assertIn("nothing to verify it against", people.stdout)

    def test_the_same_folder_gives_the_same_bytes_wherever_it_lies(self):
        self.write(self.release)
        first = {name: (self.release.parent / name).read_bytes() for name in os.listdir(self.release.parent)
                 if name != "my-model"}
        shutil.copytree(self.release, self.folder / "elsewhere" / "my-model")
        self.write(self.folder / "elsewhere" / "my-model", "-o", self.folder / "elsewhere" / "copy")
        for kind in (".SHA256SUMS", ".manifest.json"):
            self.assertEqual((self.folder / "elsewhere" / ("copy" + kind)).read_bytes(), first["my-model" + kind])
        self.write(self.release)  # again: nothing differs, nothing is refused

    def test_it_does_not_bless_damage_nor_overwrite(self):
        result = self.write(self.release)
        with open(self.release / "weights.bin", "r+b") as weights:
            weights.write(b"\x01")
        before = Path(result["sums"]).read_text()
        self.fail_with(1, "verification", "nothing is written", "verify", self.release, "--write-sums",
                       "--overwrite")
        os.unlink(result["manifest"])
        self.fail_with(1, "verification", "nothing is written", "verify", self.release, "--write-sums")
        self.assertEqual(Path(result["sums"]).read_text(), before)
        other = self.folder / "other"
        (self.folder / "other.SHA256SUMS").write_text("something else\n")
        os.unlink(result["sums"])
        self.fail_with(2, "usage", "--overwrite replaces it", "verify", self.release, "--write-sums", "-o", other)
        self.assertFalse((self.folder / "other.manifest.json").exists())
        self.write(self.release, "-o", other, "--overwrite")
        self.fail_with(2, "usage", "inside the folder", "verify", self.release, "--write-sums", "-o",
                       self.release / "inside")
        self.fail_with(2, "usage", "--write-sums", "verify", self.release, "--licence", "MIT")

    def test_with_a_key_nothing_is_put_down_that_it_did_not_sign(self):
        self.succeed("keygen", "-o", "alice", "--no-password")
        self.fail_with(1, "verification", "--key", "verify", self.release, "--write-sums", "--key", "alice.pub")
        self.publish(self.release)
        self.fail_with(8, "untrusted", "is not signed", "verify", self.release, "--write-sums", "-o", "out",
                       "--key", "alice.pub")
        self.assertEqual(sorted(os.listdir(self.folder)), ["alice.key", "alice.pub", "deep"])

    def test_what_was_proven_is_bound_to_its_torrent(self):
        published = self.publish(self.release)
        result = self.write(self.release, "-o", self.folder / "out", "--licence", "MIT", "--source", "a test")
        self.assertIn("v1", result["proven_by"])
        manifest = json.loads(Path(result["manifest"]).read_text())
        self.assertEqual(manifest["torrent"]["infohash_v1"], published["infohash_v1"])
        self.assertEqual(manifest["torrent"]["infohash_v2"], published["infohash_v2"])
        self.assertEqual((manifest["licence"], manifest["source"]), ("MIT", "a test"))

    def test_odd_names_are_escaped_in_the_list_and_have_no_manifest(self):
        odd = ["a\nb", "back\\slash", "both\n\\n", "plain"]
        folder = self.folder / "odd"
        folder.mkdir()
        for name in odd:
            (folder / name).write_text(name)
        self.fail_with(9, "malformed", "no manifest for", "verify", folder, "--write-sums")
        self.assertEqual(sorted(os.listdir(self.folder)), ["deep", "odd", "odd.SHA256SUMS"])
        checked = subprocess.run(["sha256sum", "--strict", "-c", "../odd.SHA256SUMS"], cwd=folder,
                                 capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        theirs = subprocess.run(["sha256sum", *odd], cwd=folder, capture_output=True, text=True).stdout
        self.assertEqual((self.folder / "odd.SHA256SUMS").read_text(), theirs)
        self.assertEqual(self.states(folder, "--strict"), dict.fromkeys(odd, "ok"))
        (folder / "a\nb").write_text("changed")
        self.assertEqual(self.states(folder, code=1)["a\nb"], "damaged")

    def test_a_single_file_is_put_down_alone(self):
        weights = self.release / "weights.bin"
        result = self.write(weights)
        self.assertEqual(result["files"], 1)
        self.assertEqual(self.states(weights), {"weights.bin": "ok"})
        checked = subprocess.run(["sha256sum", "--strict", "-c", "weights.bin.SHA256SUMS"], cwd=self.release,
                                 capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)


class TensorTest(ProgramTest):
    def test_tensors_and_container_roots_are_bound(self):
        release = self.copy_release()
        made = self.succeed("convert", release, "-o", "demo.sluice", "--quant", "q8", "--json").result()
        result = self.succeed("verify", release, "--write-sums", "-o", "demo", "--container", "demo.sluice",
                              "--json").result()
        self.assertEqual(result["tensors"], 127)
        manifest = json.loads((self.folder / "demo.manifest.json").read_text())
        self.assertEqual(manifest["tensor_count"], 127)
        self.assertEqual(manifest["licence"], "Apache-2.0")
        self.assertEqual(manifest["containers"],
                         [{"name": "demo.sluice", "quant": "q8", "root": made["root_sha256"],
                           "tensors_sha256": made["tensors_sha256"]}])
        # The container was made from tensors with these digests: its directory says so.
        directory = (self.folder / "demo.sluice").read_bytes()
        for tensor in manifest["tensors"]:
            self.assertIn(f'"source_digest":"{tensor["digest"]}"'.encode(), directory, tensor["name"])
        pinned = self.succeed("verify", "demo.sluice", "--manifest", "demo.manifest.json")
        self.assertIn("is pinned by demo.manifest.json", pinned.stdout)
        told = self.succeed("verify", "demo.sluice", "--manifest", "demo.manifest.json", "--json").result()
        self.assertEqual((told["root_pinned_by"], told["pinned"], told["proven_by"]),
                         ("demo.manifest.json", "everything", ["container"]))
        # A manifest that lists the file proves it by its digest.
        self.succeed("verify", "demo.sluice", "--write-sums", "-o", "file")
        told = self.succeed("verify", "demo.sluice", "--manifest", "file.manifest.json", "--json").result()
        self.assertIn("sha256", told["proven_by"])
        self.succeed("convert", release, "-o", "other.sluice", "--quant", "q4")
        self.fail_with(1, "verification", "is none of the 1 root that", "verify", "other.sluice", "--manifest",
                       "demo.manifest.json")
        published = self.publish(release, "--container", "demo.sluice", "--licence", "Apache-2.0")
        again = json.loads(Path(published["manifest"]).read_text())
        self.assertEqual((again["tensors"], again["containers"]), (manifest["tensors"], manifest["containers"]))


class FetchTest(ProgramTest):
    """The manifest is judged before the first byte of payload."""

    def setUp(self):
        super().setUp()
        self.environment["XDG_CONFIG_HOME"] = str(self.folder / "config")
        release = self.copy_release("my-model")
        self.published = self.publish(release)
        self.succeed("keygen", "-o", "alice", "--no-password")
        _, port = self.seed(self.published["torrent"], self.folder)
        self.peer = self.from_peer(port)
        self.manifest = self.folder / "shelf" / "my-model.manifest.json"
        self.manifest.parent.mkdir()
        shutil.copy(self.published["manifest"], self.manifest)

    def sign(self):
        self.succeed("sign", self.manifest, "--key", "alice.key")

    def nothing_came(self):
        found = [path for path in (self.folder / "downloads").rglob("*") if path.is_file()]
        sizes = {path.name: path.stat().st_size for path in found if path.suffix != ".torrent"}
        self.assertFalse((self.folder / "downloads" / "my-model").exists(), sizes)
        self.assertLess(sum(sizes.values()), 1000, sizes)  # a lock, a journal of nothing

    def fetch_fails(self, code, kind, part, source, *arguments):
        self.fail_with(code, kind, part, "fetch", source, "-o", "downloads", *self.peer, *arguments)
        self.nothing_came()

    def test_a_signed_manifest_lets_its_own_torrent_through(self):
        self.sign()
        fetched = self.succeed("fetch", self.published["magnet"], "-o", "downloads", *self.peer, "--manifest",
                               self.manifest, "--key", "alice.pub", "--json").result()
        self.assertEqual(fetched["signature"]["state"], "valid")
        self.assertTrue((self.folder / "downloads" / "my-model" / "consolidated.00.pth").exists())

    def test_what_is_not_signed_as_asked_for_is_8(self):
        magnet = self.published["magnet"]
        self.fetch_fails(8, "untrusted", "is not signed", magnet, "--manifest", self.manifest, "--key", "alice.pub")
        self.fetch_fails(8, "untrusted", "no signed manifest", magnet, "--key", "alice.pub")
        self.sign()
        self.fetch_fails(8, "untrusted", "which you do not trust", magnet, "--manifest", self.manifest)
        with self.manifest.open("a") as manifest:
            manifest.write(" ")
        self.fetch_fails(8, "untrusted", "bad signature", magnet, "--manifest", self.manifest, "--key", "alice.pub")

    def test_the_manifest_beside_the_torrent_is_judged_too(self):
        self.succeed("sign", self.published["manifest"], "--key", "alice.key")
        self.fetch_fails(8, "untrusted", "which you do not trust", self.published["torrent"])
        self.succeed("trust", "alice.pub", "--yes")
        self.succeed("fetch", self.published["torrent"], "-o", "downloads", *self.peer)

    def test_another_torrent_than_the_manifests_is_1(self):
        text = json.loads(self.manifest.read_text())
        for key, length in (("infohash_v1", 40), ("infohash_v2", 64)):
            changed = dict(text, torrent=dict(text["torrent"], **{key: "0" * length}))
            self.manifest.write_text(json.dumps(changed))
            self.sign()
            self.fetch_fails(1, "verification", "not the torrent that the manifest names", self.published["magnet"],
                             "--manifest", self.manifest, "--key", "alice.pub")
        del changed["torrent"]
        self.manifest.write_text(json.dumps(changed))
        self.sign()
        self.fetch_fails(1, "verification", "names no info-hash of this torrent", self.published["magnet"],
                         "--manifest", self.manifest, "--key", "alice.pub")


if __name__ == "__main__":
    main()
