"""verify --repair with the real program: what is wrong is mended, and a kill at any instant loses nothing."""

import random
import shutil
import signal
import time

from sluice_program import RELEASE, ProgramTest, main

KILLS = 100


def noise(seed, length):
    return random.Random(seed).randbytes(length)


def differences(found, content):
    assert len(found) == len(content)
    step = 4096
    return {i for start in range(0, len(content), step) if found[start:start + step] != content[start:start + step]
            for i in range(start, min(start + step, len(content))) if found[i] != content[i]}


class RepairTest(ProgramTest):
    def make_release(self, files, *how):
        """Published, seeded, and copied to where a fetch would have put it."""
        source = self.folder / "source" / "model"
        source.mkdir(parents=True)
        self.copy = self.folder / "downloads" / "model"
        self.copy.mkdir(parents=True)
        self.files = files
        for name, content in files.items():
            (source / name).write_bytes(content)
            (self.copy / name).write_bytes(content)
        published = self.publish(source, *how)
        shutil.copy(published["torrent"], self.folder / "model.torrent")
        _, self.port = self.seed(published["torrent"])

    def arguments(self, *more):
        return ("verify", self.copy, "--torrent", "model.torrent", "--repair", *self.from_peer(self.port), "--json",
                *more)

    def flip(self, name, offset, bit=0):
        with open(self.copy / name, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1 << bit]))

    def assert_whole(self):
        for name, content in self.files.items():
            self.assertTrue((self.copy / name).read_bytes() == content, name)

    def test_damage_is_told_and_mended_and_told_to_be_mended(self):
        self.make_release({"consolidated.bin": noise(1, 3_000_000), "params.json": b"{}"})
        self.flip("consolidated.bin", 1_234_567)
        (self.copy / "params.json").unlink()
        before = self.sluice("verify", self.copy, "--torrent", "model.torrent", "--json")
        self.assertEqual(before.code, 1)
        finished = self.succeed(*self.arguments())
        damage = {line["path"]: line["state"] for line in finished.lines() if line["event"] == "damage"}
        self.assertEqual(damage, {"consolidated.bin": "damaged", "params.json": "missing"})
        self.assertEqual({line["state"] for line in finished.lines() if line["event"] == "file"}, {"ok"})
        self.assertTrue(finished.result()["ok"])
        self.assertEqual(finished.result()["repaired_bytes"], 1 + 2)
        self.assert_whole()
        again = self.succeed(*self.arguments())
        self.assertNotIn("repaired_bytes", again.result())

    def test_leaves_place_the_damage_to_a_block(self):
        self.make_release({"consolidated.bin": noise(1, 3_000_000)}, "--leaves", "--piece-size", "1MiB")
        shutil.copy(self.folder / "source" / "model.leaves", self.folder)
        self.flip("consolidated.bin", 1_234_567)
        finished = self.succeed(*self.arguments())
        damaged = next(line for line in finished.lines() if line["event"] == "damage")["damaged"]
        self.assertEqual([(one["offset"], one["length"]) for one in damaged], [(1_234_567 // 16384 * 16384, 16384)])
        self.assertEqual(finished.result()["downloaded_bytes"], 16384)
        self.assert_whole()

    def test_many_flipped_bits_of_a_release_are_mended_to_the_bit(self):
        files = {path.name: path.read_bytes() for path in RELEASE.iterdir() if path.is_file()}
        self.make_release(files, "--leaves")
        shutil.copy(self.folder / "source" / "model.leaves", self.folder)
        chance = random.Random(3)
        flips = {(name, chance.randrange(len(files[name]) * 8)) for name in files for _ in range(600 // len(files))}
        for name, bit in flips:
            self.flip(name, bit // 8, bit % 8)
        finished = self.succeed(*self.arguments())
        self.assertEqual(finished.result()["repaired_bytes"] >= len({(n, b // 8) for n, b in flips}), True)
        self.assert_whole()

    def test_flipped_bits_of_a_container_are_mended_to_the_bit(self):
        self.succeed("convert", RELEASE, "-o", "m.sluice")
        self.copy = self.folder
        good = (self.folder / "m.sluice").read_bytes()
        footer = good[-128:]
        directory = int.from_bytes(footer[0:8], "little")
        self.assertTrue(good[directory:].startswith(b'{"version":2,'))
        chance = random.Random(4)
        payload = lambda: chance.randrange(4096, directory)
        rounds = [[payload() for _ in range(100)] for _ in range(3)]
        rounds += [[chance.randrange(4096)] + [payload() for _ in range(20)],          # header
                   [chance.randrange(len(good) - 128, len(good))] + [payload()],        # footer
                   [chance.randrange(4096), chance.randrange(len(good) - 128, len(good)), payload()],
                   [chance.randrange(directory, len(good) - 128), chance.randrange(4096), payload()]]  # directory
        for offsets in rounds:
            for offset in set(offsets):
                self.flip("m.sluice", offset, chance.randrange(8))
            self.assertEqual(self.sluice("verify", "m.sluice").code, 1)
            named = chance.choice(([], ["--release", RELEASE]))
            finished = self.succeed("verify", "m.sluice", "--repair", *named, "--json")
            self.assertTrue(finished.result()["ok"])
            self.assertTrue((self.folder / "m.sluice").read_bytes() == good)

    def test_a_manifest_with_the_info_hash_is_enough(self):
        self.make_release({"consolidated.bin": noise(1, 3_000_000), "params.json": b"{}"})
        self.flip("consolidated.bin", 1_234_567)
        finished = self.succeed("verify", self.copy, "--manifest", self.folder / "source" / "model.manifest.json",
                                "--repair", *self.from_peer(self.port), "--json")
        self.assertTrue(finished.result()["ok"])
        self.assertLess(finished.result()["downloaded_bytes"], 3_000_000)
        self.assert_whole()

    def test_without_a_torrent_it_says_what_is_missing(self):
        self.make_release({"a.bin": noise(1, 100_000)})
        (self.folder / "SUMS").write_text("0" * 64 + "  a.bin\n")
        finished = self.sluice("verify", self.copy, "--sums", "SUMS", "--repair", "--json")
        self.assertEqual(finished.code, 2)
        self.assertIn("needs the release's .torrent", finished.error()["message"])

    def test_a_kill_at_any_instant_loses_no_good_byte(self):
        files = {"a.bin": noise(1, 4_000_000), "b.bin": noise(2, 1_500_000), "params.json": noise(3, 700)}
        self.make_release(files)
        chance = random.Random(7)
        begin = time.monotonic()
        self.flip("a.bin", 1_000_000)
        self.succeed(*self.arguments())
        limit_s = 1.2 * (time.monotonic() - begin)  # as long as one takes that nobody kills, and a little more
        kills = repairs = 0
        wrong = {}
        while kills < KILLS:
            if not wrong:
                repairs += 1
                wrong = {name: set() for name in files}
                for _ in range(20):
                    name = chance.choice(("a.bin", "a.bin", "b.bin"))
                    offset = chance.randrange(len(files[name]))
                    if offset not in wrong[name]:
                        self.flip(name, offset, chance.randrange(8))
                        wrong[name].add(offset)
            process = self.start(*self.arguments())
            time.sleep(chance.uniform(0.02, limit_s))
            process.send_signal(signal.SIGKILL)
            ended = process.wait()
            kills += ended == -signal.SIGKILL
            self.assertIn(ended, (0, -signal.SIGKILL))
            for name, content in files.items():
                differ = differences((self.copy / name).read_bytes(), content)
                self.assertLessEqual(differ, wrong[name], f"{name}: bytes that were right are wrong after a kill")
                if ended == 0:
                    self.assertEqual(differ, set())
            if ended == 0:
                wrong = {}
        finished = self.succeed(*self.arguments())
        self.assertTrue(finished.result()["ok"])
        self.assert_whole()
        self.assertGreater(repairs, 1)


if __name__ == "__main__":
    main()
