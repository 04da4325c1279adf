"""Signed manifests through the program: what is believed, what is not, and why."""

import base64
import hashlib
import json
import os
import pty
import shutil
import stat
import subprocess

from sluice_program import LIMIT_S, PROGRAM, RELEASE, ProgramTest, main


class SignatureTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.environment["XDG_CONFIG_HOME"] = str(self.folder / "config")
        self.release = self.folder / "my-model"
        self.release.mkdir()
        (self.release / "weights.bin").write_bytes(bytes(range(256)) * 300)
        (self.release / "notes.txt").write_text("some words\n")

    def keygen(self, name="alice"):
        return self.succeed("keygen", "-o", name, "--no-password", "--json").result()

    def sign(self, file, *options, key="alice.key"):
        return self.succeed("sign", file, "--key", key, "--json", *options).result()

    def signed_release(self):
        """A published release whose manifest alice signed; returns the manifest."""
        published = self.publish(self.release)
        self.keygen()
        self.sign(published["manifest"], "--comment", "my-model, first release")
        return self.folder / "my-model.manifest.json"

    def refused(self, part, state, *arguments):
        """Exit 8, in words and in the event before the error."""
        self.fail_with(8, "untrusted", part, *arguments)
        lines = self.sluice(*arguments, "--json").lines()
        self.assertEqual([line["signature"]["state"] for line in lines if line["event"] == "signature"], [state])


class KeygenTest(SignatureTest):
    def test_it_makes_a_pair_and_never_overwrites(self):
        result = self.keygen()
        secret, public = self.folder / "alice.key", self.folder / "alice.pub"
        self.assertEqual(stat.S_IMODE(secret.stat().st_mode), 0o600)
        self.assertEqual(public.read_text().splitlines()[1], result["key"])
        self.assertIn(result["key_id"], public.read_text())
        before = secret.read_bytes(), public.read_bytes()
        self.fail_with(2, "usage", "alice.key: is there already", "keygen", "-o", "alice", "--no-password")
        secret.unlink()
        self.fail_with(2, "usage", "alice.pub: is there already", "keygen", "-o", "alice", "--no-password")
        self.assertFalse(secret.exists())
        self.assertEqual(public.read_bytes(), before[1])
        self.assertEqual(sorted(os.listdir(self.folder)), ["alice.pub", "my-model"])

    def test_without_a_terminal_a_password_is_not_left_out_silently(self):
        self.fail_with(2, "usage", "--no-password", "keygen", "-o", "bob")
        self.fail_with(2, "usage", "the password is empty", "keygen", "-o", "bob", "--password-stdin", text_in="\n")
        self.assertEqual(sorted(os.listdir(self.folder)), ["my-model"])

    def test_a_locked_key_signs_with_its_password_only(self):
        self.succeed("keygen", "-o", "bob", "--password-stdin", text_in="secret\n")
        notes = self.release / "notes.txt"
        self.fail_with(9, "malformed", "bob.key: the password is wrong", "sign", notes, "--key", "bob.key",
                       "--password-stdin", text_in="Secret\n")
        self.fail_with(2, "usage", "no terminal", "sign", notes, "--key", "bob.key")
        self.assertFalse((self.release / "notes.txt.minisig").exists())
        self.succeed("sign", notes, "--key", "bob.key", "--password-stdin", text_in="secret\n")
        self.assertTrue((self.release / "notes.txt.minisig").exists())

    def test_a_cut_key_file_is_9(self):
        self.keygen()
        text = (self.folder / "alice.key").read_text()
        (self.folder / "cut.key").write_text(text[:len(text) // 2])
        self.fail_with(9, "malformed", "cut.key: line 2: expected the base64 of 158 bytes", "sign",
                       self.release / "notes.txt", "--key", "cut.key")
        self.fail_with(9, "malformed", "cut.key: line 2: expected the base64 of 42 bytes", "verify",
                       self.release, "--key", "cut.key")

    def test_comments_are_one_line(self):
        self.keygen()
        self.fail_with(2, "usage", "--comment is one line", "sign", self.release / "notes.txt", "--key",
                       "alice.key", "--comment", "a\nb")
        self.fail_with(2, "usage", "--comment has 5000 bytes", "sign", self.release / "notes.txt", "--key",
                       "alice.key", "--comment", "x" * 5000)


class VerifyTest(SignatureTest):
    def test_a_valid_signature_by_the_asked_key_is_told(self):
        manifest = self.signed_release()
        line = (self.folder / "alice.pub").read_text().splitlines()[1]
        for key in ("alice.pub", line):
            result = self.succeed("verify", self.release, "--key", key, "--json").result()
            self.assertTrue(result["ok"])
            self.assertEqual(result["signature"], {
                "state": "valid", "file": str(manifest), "key_id": result["signature"]["key_id"],
                "trusted_as": "--key", "comment": "my-model, first release"})
        people = self.succeed("verify", self.release, "--key", "alice.pub")
        self.assertIn("is signed by key " + result["signature"]["key_id"], people.stdout)
        self.assertIn("my-model, first release", people.stdout)
        one = self.succeed("verify", self.release / "notes.txt", "--key", "alice.pub", "--json").result()
        self.assertEqual((one["files"], one["signature"]["state"]), (1, "valid"))
        self.fail_with(2, "usage", "neither a key file nor", "verify", self.release, "--key", "alice.pup")

    def test_damage_is_found_under_a_valid_signature_too(self):
        self.signed_release()
        with open(self.release / "weights.bin", "r+b") as weights:
            weights.write(b"\xff")
        verified = self.sluice("verify", self.release, "--key", "alice.pub", "--json")
        self.assertEqual(verified.code, 1, str(verified))
        self.assertEqual(verified.result()["signature"]["state"], "valid")

    def test_a_changed_manifest_is_refused_before_it_is_read(self):
        manifest = self.signed_release()
        content = manifest.read_bytes()
        for position in range(0, len(content), 97):
            changed = bytearray(content)
            changed[position] ^= 1
            manifest.write_bytes(changed)
            verified = self.sluice("verify", self.release, "--key", "alice.pub", "--json")
            self.assertEqual((position, verified.code), (position, 8), str(verified))
            self.assertEqual(verified.error()["kind"], "untrusted")
        manifest.write_bytes(changed)
        self.refused("signature over this content", "bad", "verify", self.release, "--key", "alice.pub")

    def test_a_changed_signature_file_is_refused(self):
        manifest = self.signed_release()
        path = self.folder / "my-model.manifest.json.minisig"
        lines = path.read_text().splitlines()

        def with_line(index, text):
            path.write_text("\n".join([*lines[:index], text, *lines[index + 1:]]) + "\n")

        record = bytearray(base64.b64decode(lines[1]))
        record[40] ^= 1
        with_line(1, base64.b64encode(record).decode())
        self.refused("signature over this content", "bad", "verify", self.release, "--key", "alice.pub")
        with_line(2, "trusted comment: my-model, second release")
        self.refused("trusted comment is not the one", "bad", "verify", self.release, "--key", "alice.pub")
        for damaged in ("", path.read_text()[:100], "nonsense\n" * 4):
            path.write_text(damaged)
            self.refused("my-model.manifest.json.minisig: ", "bad", "verify", self.release, "--key", "alice.pub")
        # Without --key it is refused as well: it is there, and it is bad.
        self.refused("my-model.manifest.json.minisig: ", "bad", "verify", self.release)
        path.write_text("\n".join(lines) + "\n")
        self.succeed("verify", self.release, "--key", "alice.pub")
        self.assertTrue(manifest.exists())

    def test_another_key_and_no_signature_are_refused_where_a_key_is_asked_for(self):
        self.signed_release()
        self.keygen("mallory")
        self.refused("is signed by key", "unknown_key", "verify", self.release, "--key", "mallory.pub")
        # Mallory's key under alice's id.
        mine, other = ((self.folder / name).read_text().splitlines() for name in ("alice.pub", "mallory.pub"))
        forged = base64.b64decode(mine[1])[:10] + base64.b64decode(other[1])[10:]
        (self.folder / "forged.pub").write_text(other[0] + "\n" + base64.b64encode(forged).decode() + "\n")
        self.refused("has a bad signature", "bad", "verify", self.release, "--key", "forged.pub")
        (self.folder / "my-model.manifest.json.minisig").unlink()
        self.refused("is not signed", "none", "verify", self.release, "--key", "alice.pub")

    def test_an_unsigned_torrent_counts_only_through_a_signed_manifest(self):
        manifest = self.signed_release()
        text = json.loads(manifest.read_text())
        del text["torrent"]
        manifest.write_text(json.dumps(text))
        self.sign(manifest)
        self.fail_with(8, "untrusted", "no signed manifest names its info-hash", "verify", self.release, "--key",
                       "alice.pub")
        self.succeed("verify", self.release, "--key", "alice.pub", "--manifest", manifest)

    def test_lists_torrents_and_other_files_are_signed_the_same_way(self):
        published = self.publish(self.release)
        self.keygen()
        for option, file in (("--sums", published["sums"]), ("--torrent", published["torrent"])):
            self.sign(file)
            result = self.succeed("verify", self.release, option, file, "--key", "alice.pub", "--json").result()
            self.assertEqual((result["signature"]["state"], result["signature"]["file"]), ("valid", file))
            with open(file + ".minisig", "a") as signature:
                signature.write("x")
            self.refused(".minisig: ", "bad", "verify", self.release, option, file)


    def test_a_container_is_pinned_by_its_own_signature_or_by_a_signed_manifest(self):
        release = self.copy_release()
        self.succeed("convert", release, "-o", "demo.sluice", "--quant", "q8")
        self.keygen()
        people = self.succeed("verify", "demo.sluice")
        self.assertIn("no signature and no manifest vouches for its root", people.stdout)
        self.refused("is not signed", "none", "verify", "demo.sluice", "--key", "alice.pub")
        self.assertIn("signature: there is none", self.succeed("inspect", "demo.sluice").stdout)
        self.sign("demo.sluice")
        result = self.succeed("verify", "demo.sluice", "--key", "alice.pub", "--json").result()
        self.assertEqual(result["signature"]["state"], "valid")
        shown = self.succeed("inspect", "demo.sluice", "--json").result()["signature"]
        self.assertEqual(shown, {"state": "unchecked", "key_id": result["signature"]["key_id"]})
        people = self.succeed("verify", "demo.sluice", "--key", "alice.pub")
        self.assertNotIn("no signature", people.stdout)
        self.refused("which you do not trust", "unknown_key", "verify", "demo.sluice")

        self.succeed("verify", release, "--write-sums", "-o", "demo", "--container", "demo.sluice")
        arguments = ["verify", "demo.sluice", "--manifest", "demo.manifest.json", "--key", "alice.pub"]
        self.refused("is not signed", "none", *arguments)
        self.sign("demo.manifest.json")
        result = self.succeed(*arguments, "--json").result()
        self.assertEqual((result["signature"]["state"], result["root_pinned_by"]), ("valid", "demo.manifest.json"))
        with open(self.folder / "demo.sluice", "r+b") as container:
            container.seek(100000)
            container.write(b"\xff\x00\xff")
        self.assertEqual(self.sluice(*arguments).code, 1)
        self.refused("has a bad signature", "bad", "verify", "demo.sluice", "--key", "alice.pub")

    def test_the_signature_told_is_that_of_what_is_used(self):
        """A signed list beside it that speaks of something else lends nothing to an unsigned one."""
        self.keygen()
        self.succeed("trust", "alice.pub", "--yes")
        inner = self.folder / "shelf" / "my-model"
        inner.parent.mkdir()
        self.release.rename(inner)
        (self.folder / "shelf" / "SHA256SUMS").write_text("0" * 64 + "  other/file\n")
        self.sign(self.folder / "shelf" / "SHA256SUMS")
        lines = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  shelf/my-model/{path.name}\n"
                        for path in inner.iterdir())
        (self.folder / "SHA256SUMS").write_text(lines)
        result = self.succeed("verify", inner, "--json").result()
        self.assertEqual(result["signature"], {"state": "none", "file": str(self.folder / "SHA256SUMS")})
        # Of two that are used, the weaker one is told.
        signed = self.folder / "signed"
        signed.write_text(lines)
        self.sign(signed)
        manifest = self.folder / "m.json"
        manifest.write_text(json.dumps({"manifest": 1, "name": "m", "files": [{"path": "notes.txt"}]}))
        result = self.succeed("verify", inner, "--sums", signed, "--manifest", manifest, "--json").result()
        self.assertEqual(result["signature"], {"state": "none", "file": str(manifest)})


class TrustTest(SignatureTest):
    def trusted(self):
        return self.folder / "config" / "sluice" / "trusted"

    def test_an_unknown_key_is_8_until_it_is_trusted(self):
        self.signed_release()
        self.refused(f"`sluice trust {self.folder / 'alice.pub'}`", "unknown_key", "verify", "my-model")
        self.fail_with(2, "usage", "--yes", "trust", "alice.pub")
        self.assertFalse(self.trusted().exists())
        kept = self.succeed("trust", "alice.pub", "--yes", "--json").result()
        self.assertEqual(kept["path"], str(self.trusted() / "alice.pub"))
        result = self.succeed("verify", "my-model", "--json").result()
        self.assertEqual((result["signature"]["state"], result["signature"]["trusted_as"]), ("valid", "alice.pub"))
        listed = self.succeed("trust", "--json").result()
        self.assertEqual([key["key_id"] for key in listed["keys"]], [result["signature"]["key_id"]])
        # A bad signature by a trusted key, and one that contradicts it, stay refused.
        (self.folder / "my-model.manifest.json").write_text("{}")
        self.refused("has a bad signature", "bad", "verify", "my-model")

    def test_no_signature_is_told_and_is_no_failure_without_a_key(self):
        self.publish(self.release)
        people = self.succeed("verify", self.release)
        self.assertIn("is not signed (sluice sign signs a manifest)", people.stdout)
        self.assertEqual(self.succeed("verify", self.release, "--json").result()["signature"]["state"], "none")

    def test_run_and_fetch_believe_a_known_release_only_as_its_signature(self):
        manifests = self.folder / "share" / "manifests"
        shutil.copytree(RELEASE.parent, manifests)
        self.environment["SLUICE_DATA_DIR"] = str(manifests.parent)
        self.keygen()
        for name in ("stories-moe", "mixtral-8x7b"):
            self.sign(manifests / f"{name}.json")
        run = ["run", "stories-moe", "-p", "Once", "-n", "1", "--quant", "bf16"]
        fetch = ["fetch", "mixtral-8x7b", "--no-dht", "--no-lsd", "--no-pex", "--timeout", "1"]
        self.refused("which you do not trust", "unknown_key", *run)
        self.refused("which you do not trust", "unknown_key", *fetch)
        self.succeed("trust", "alice.pub", "--yes")
        self.succeed(*run)
        self.fail_with(5, "no_peers", "", *fetch)
        with (manifests / "mixtral-8x7b.json").open("a") as manifest:
            manifest.write(" ")
        self.refused("has a bad signature", "bad", *fetch)

    def test_keys_are_kept_by_names_that_stay_in_the_folder(self):
        self.keygen("alice")
        self.keygen("bob")
        self.succeed("trust", "alice.pub", "--yes")
        self.succeed("trust", "alice.pub", "--yes")
        self.fail_with(2, "usage", "is another key already", "trust", "bob.pub", "--as", "alice", "--yes")
        self.fail_with(2, "usage", "no name for a file", "trust", "bob.pub", "--as", "../bob", "--yes")
        line = (self.folder / "bob.pub").read_text().splitlines()[1]
        kept = self.succeed("trust", line, "--yes", "--json").result()
        self.assertEqual(kept["name"], kept["key_id"] + ".pub")
        (self.trusted() / "broken.pub").write_text("nonsense")
        listed = self.succeed("trust", "--json")
        self.assertEqual(len(listed.result()["keys"]), 2)
        self.assertIn("broken.pub", [line for line in listed.lines() if line["event"] == "warning"][0]["message"])

    def talk(self, dialogue, *arguments):
        """Runs on a terminal and answers each question when it is asked; returns exit code and what was shown."""
        controller, terminal = pty.openpty()
        process = subprocess.Popen([str(PROGRAM), *map(str, arguments)], cwd=self.folder, env=self.environment,
                                   stdin=terminal, stdout=subprocess.DEVNULL, stderr=terminal)
        self.addCleanup(self.end, process)
        os.close(terminal)
        shown = ""
        questions = list(dialogue)
        try:
            while chunk := os.read(controller, 4096):
                shown += chunk.decode(errors="replace")
                if questions and questions[0][0] in shown:
                    os.write(controller, questions.pop(0)[1].encode())
        except OSError:  # the other end is closed
            pass
        os.close(controller)
        self.assertEqual(questions, [], shown)
        return process.wait(LIMIT_S), shown

    def test_on_a_terminal_trust_is_asked_for(self):
        self.signed_release()
        key = (self.folder / "alice.pub").read_text().splitlines()[1]
        question = "Trust it from now on? [y/N] "
        code, shown = self.talk([(question, "n\n")], "verify", "my-model")
        self.assertEqual(code, 8, shown)
        self.assertIn(key, shown)
        self.assertFalse(self.trusted().exists())
        code, shown = self.talk([(question, "y\n")], "verify", "my-model")
        self.assertEqual(code, 0, shown)
        self.assertEqual(os.listdir(self.trusted()), ["alice.pub"])
        code, shown = self.talk([], "verify", "my-model")
        self.assertEqual(code, 0, shown)
        self.assertNotIn("Trust it", shown)
        code, shown = self.talk([("do you trust it from now on? [y/N] ", "yes\n")], "trust", "alice.pub", "--as", "a")
        self.assertEqual(code, 0, shown)
        self.assertEqual(sorted(os.listdir(self.trusted())), ["a.pub", "alice.pub"])

    def test_on_a_terminal_a_password_is_asked_for_and_not_shown(self):
        first, second = "Password of the new key: ", "The password again: "
        code, shown = self.talk([(first, "pass word\n"), (second, "pass word\n")], "keygen", "-o", "carol")
        self.assertEqual(code, 0, shown)
        self.assertNotIn("pass word", shown)
        code, shown = self.talk([(first, "pass word\n"), (second, "other\n")], "keygen", "-o", "dave")
        self.assertEqual(code, 2, shown)
        self.assertIn("the two passwords differ", shown)
        notes = self.release / "notes.txt"
        code, shown = self.talk([("Password of carol.key: ", "pass word\n")], "sign", notes, "--key", "carol.key")
        self.assertEqual(code, 0, shown)
        self.succeed("sign", self.release / "notes.txt", "--key", "carol.key", "--password-stdin",
                     text_in="pass word\n")


if __name__ == "__main__":
    main()
