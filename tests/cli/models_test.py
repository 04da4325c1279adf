"""The model store by its names: one place for fetch and run, listing, removing; and what is read from a pipe."""

import json

from sluice_program import ProgramTest, main

OFFLINE = ["--no-dht", "--no-lsd", "--no-pex", "--timeout", "2"]


class ModelsTest(ProgramTest):
    def add_known_release(self):
        """A release of the user, known as my-rel; returns its seeder and port."""
        published = self.publish(self.copy_release("my-model"))
        manifest = json.loads((self.folder / "my-model.manifest.json").read_text())
        manifests = self.folder / "more" / "manifests"
        manifests.mkdir(parents=True)
        (manifests / "my-rel.json").write_text(json.dumps({**manifest, "name": "my-rel"}))
        self.environment["SLUICE_DATA_DIR"] = str(manifests.parent)
        return self.seed(published["torrent"])

    def test_a_release_is_fetched_once_and_everything_is_known_by_name(self):
        seeder, port = self.add_known_release()
        self.fail_with(2, "usage", "was not fetched yet: sluice fetch my-rel", "verify", "my-rel")
        self.fail_with(2, "usage", "did you mean my-rel?", "fetch", "my-re1")
        place = self.succeed("fetch", "my-rel", "-o", "downloads", *self.from_peer(port), "--json").result()["path"]
        self.end(seeder)

        # From here on nobody could deliver a byte.
        run = ["-p", "Once", "-n", "4", "--seed", "1", "--json", *OFFLINE]
        first = self.succeed("run", "my-rel", *run).result()
        second = self.succeed("fetch", "my-rel", "-o", "elsewhere", *OFFLINE, "--json").result()
        self.assertEqual(second["downloaded_bytes"], 0)
        self.assertEqual(self.succeed("verify", second["path"], "--json").result()["ok"], True)

        items = {item["kind"]: item for item in self.succeed("models", "--json").lines() if item["event"] == "item"}
        self.assertEqual((items["model"]["id"], items["release"]["id"]), ("my-rel-q4", "my-rel"))
        self.assertEqual((items["release"]["path"], items["release"]["in_store"]), (place, False))
        shown = self.succeed("models")
        self.assertIn("my-rel-q4", shown.stdout)
        self.assertIn("1 model, ", shown.stderr)
        for name in ("my-rel-q4", items["model"]["root_sha256"][:8], "my-rel-q4-" + items["model"]["root_sha256"][:4]):
            self.assertEqual(self.succeed("run", name, *run).result()["ids"], first["ids"])
        self.assertEqual(self.succeed("inspect", "my-rel-q4", "--json").result()["kind"], "sluice")
        self.assertEqual(self.succeed("inspect", "my-rel", "--json").result()["kind"], "release")
        self.assertTrue(self.succeed("verify", "my-rel", "--json").result()["ok"])
        _, port = self.seed("my-rel")
        self.assertGreater(port, 0)

        self.fail_with(2, "usage", "means model my-rel-q4, release my-rel", "models", "rm", "my-rel")
        self.succeed("models", "rm", "my-rel", "--model")
        self.succeed("models", "rm", "my-rel", "--release")
        self.assertTrue(self.succeed("verify", place, "--json").result()["ok"])  # only forgotten
        self.assertEqual([item["event"] for item in self.succeed("models", "--json").lines()], ["result"])

    def test_prune_removes_what_nobody_needs(self):
        models = self.folder / "data" / "sluice" / "models"
        models.mkdir(parents=True)
        for name in (".x-q4.unfinished.part", "gone-q4-123456789012.json", "mine.sluice"):
            (models / name).write_text("x")
        names = lambda *options: sorted(line["name"] for line in self.succeed("models", "prune", *options).lines()
                                        if line["event"] == "removed")
        expected = [".x-q4.unfinished.part", "gone-q4-123456789012.json"]
        self.assertEqual(names("--dry-run", "--json"), expected)
        self.assertEqual(names("--json"), expected)
        self.assertEqual([path.name for path in models.iterdir()], ["mine.sluice"])

    def test_known_releases_work_by_name(self):
        self.assertTrue(self.succeed("verify", "stories-moe", "--json").result()["ok"])
        self.assertEqual(self.succeed("inspect", "stories-moe", "--json").result()["kind"], "release")
        self.succeed("convert", "stories-moe", "--quant", "q8")
        self.fail_with(2, "usage", "is a .sluice file already; --to gguf", "convert", "stories-moe-q8.sluice")
        self.environment["SLUICE_DATA_DIR"] = str(self.folder)
        self.fail_with(2, "usage", "has no folder 'manifests'", "releases")

    def test_a_pipe_is_a_prompt_and_a_text(self):
        run = ["run", "stories-moe", "-n", "3", "--temp", "0", "--json"]
        piped = self.succeed(*run, text_in="Once upon a time\n").result()
        self.assertEqual(piped["ids"], self.succeed(*run, "-p", "Once upon a time").result()["ids"])
        text = "Once upon a time there was a little dog. It liked to play in the sun all day long."
        evaluated = self.succeed("eval", "stories-moe", "-", "--json", text_in=text).result()
        self.assertGreater(evaluated["tokens"], 10)
        self.fail_with(2, "usage", "give -p TEXT, -f FILE or a pipe", *run[:-1])


if __name__ == "__main__":
    main()
