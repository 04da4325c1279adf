"""The whole way with the real program: publish, seed, fetch, verify, convert, run."""

import json

from sluice_program import ProgramTest, main

# As in the announcement of Mixtral 8x7B: what a short-message service made of two tracker addresses.
MANGLED_TRACKERS = ("&tr=udp%3A%2F%http://2Fopentracker.i2p.rocks%3A6969%2Fannounce"
                    "&tr=http%3A%2F%http://2Ftracker.openbittorrent.com%3A80%2Fannounce")


class PipelineTest(ProgramTest):
    def test_a_release_goes_from_magnet_link_to_text(self):
        published = self.publish(self.copy_release("stories-moe"))
        self.assertEqual(len(published["infohash_v1"]), 40)
        self.assertEqual(len(published["infohash_v2"]), 64)
        seeder, port = self.seed(published["torrent"])

        fetched = self.succeed("fetch", published["magnet"], "-o", "downloads", *self.from_peer(port), "--json")
        result = fetched.result()
        self.assertEqual(result["path"], str(self.folder / "downloads" / "stories-moe"))
        self.assertEqual(result["infohash_v1"], published["infohash_v1"])
        self.assertEqual(result["infohash_v2"], published["infohash_v2"])
        self.assertEqual(result["bytes"], published["bytes"])
        self.assertGreaterEqual(result["downloaded_bytes"], result["bytes"])
        seeder.terminate()
        self.assertEqual(seeder.wait(timeout=20), 0)

        verified = self.succeed("verify", result["path"], "--json")
        self.assertTrue(verified.result()["ok"])
        self.assertTrue({"v1", "v2"} <= set(verified.result()["proven_by"]))
        files = [line for line in verified.lines() if line["event"] == "file"]
        self.assertEqual({file["state"] for file in files}, {"ok"})
        self.assertIn("consolidated.00.pth", [file["path"] for file in files])

        converted = self.succeed("convert", result["path"], "--quant", "q4", "-o", "m.sluice", "--json").result()
        self.assertEqual(converted["bytes"], (self.folder / "m.sluice").stat().st_size)
        self.assertLess(converted["bits_per_weight"], 4.5)
        self.assert_memory(converted["peak_rss_bytes"], 512 << 20)
        self.assertEqual(len(converted["root_sha256"]), 64)

        inspected = self.succeed("inspect", "m.sluice", "--json").result()
        self.assertEqual(inspected["kind"], "sluice")
        self.assertEqual(inspected["root_sha256"], converted["root_sha256"])
        self.assertIn(published["infohash_v1"], json.dumps(inspected["provenance"]))
        self.assertTrue(self.succeed("verify", "m.sluice", "--json").result()["ok"])

        ran = self.succeed("run", "m.sluice", "-p", "Once upon a time", "-n", "12", "--seed", "1", "--json")
        told = ran.result()
        tokens = [line for line in ran.lines() if line["event"] == "token"]
        self.assertEqual([token["id"] for token in tokens], told["ids"])
        self.assertEqual("".join(token["text"] for token in tokens), told["text"])
        self.assertEqual(len(told["ids"]), 12)
        self.assertEqual((told["stop"], told["seed"]), ("length", 1))

    def test_a_magnet_with_mangled_trackers_works_with_a_warning(self):
        published = self.publish(self.copy_release("stories-moe"))
        _, port = self.seed(published["torrent"])
        fetched = self.succeed("fetch", published["magnet"] + MANGLED_TRACKERS, "-o", "downloads",
                               *self.from_peer(port), "--json")
        warnings = [line["message"] for line in fetched.lines() if line["event"] == "warning"]
        self.assertTrue(any("tracker" in warning for warning in warnings), warnings)
        self.assertEqual(fetched.result()["infohash_v1"], published["infohash_v1"])

    def test_list_names_the_files_and_fetches_none(self):
        published = self.publish(self.copy_release("stories-moe"))
        _, port = self.seed(published["torrent"])
        listed = self.succeed("fetch", published["magnet"], "-o", "downloads", "--list", *self.from_peer(port),
                              "--json")
        files = {line["path"]: line["bytes"] for line in listed.lines() if line["event"] == "file"}
        self.assertEqual(files["params.json"], 246)
        self.assertFalse((self.folder / "downloads" / "stories-moe").exists())

    def test_run_does_the_missing_steps_for_a_magnet_link_once(self):
        published = self.publish(self.copy_release("stories-moe"))
        seeder, port = self.seed(published["torrent"])
        # A magnet link can name its peers (x.pe).
        magnet = f"{published['magnet']}&x.pe=127.0.0.1:{port}"
        fetched = self.succeed("run", magnet, "-p", "Once", "-n", "4", "--seed", "1", "--json", "--no-dht",
                               "--no-lsd", "--no-pex", "--allow-private", "--timeout", "30")
        models = self.succeed("models", "--json").result()["models"]
        self.assertEqual([(model["name"], model["quant"]) for model in models], [("stories-moe", "q4")])
        seeder.terminate()
        seeder.wait(timeout=20)
        again = self.succeed("run", magnet, "-p", "Once", "-n", "4", "--seed", "1", "--json")
        self.assertEqual(again.result()["ids"], fetched.result()["ids"])


class RunTest(ProgramTest):
    def test_the_embedded_release_runs_without_network_and_is_converted_once(self):
        first = self.succeed("run", "stories-moe", "-p", "Once upon a time", "-n", "8", "--temperature", "0")
        self.assertTrue(first.stdout.startswith("Once upon a time"))
        models = self.succeed("models", "--json").result()["models"]
        self.assertEqual(len(models), 1)
        made_ns = (self.folder / models[0]["path"]).stat().st_mtime_ns
        again = self.succeed("run", "stories-moe", "-p", "Once upon a time", "-n", "8", "--temperature", "0")
        self.assertEqual(again.stdout, first.stdout)
        self.assertEqual((self.folder / models[0]["path"]).stat().st_mtime_ns, made_ns)

    def test_two_runs_at_once_convert_once(self):
        processes = [self.start("run", "stories-moe", "-p", "Once", "-n", "4", "--seed", "1", "--json")
                     for _ in range(2)]
        ids = []
        for process in processes:
            stdout, stderr = process.communicate(timeout=50)
            self.assertEqual(process.returncode, 0, stderr)
            ids.append(json.loads(stdout.splitlines()[-1])["ids"])
        self.assertEqual(ids[0], ids[1])
        self.assertEqual(len(list((self.folder / "data" / "sluice" / "models").glob("[!.]*.sluice"))), 1)

    def test_quiet_prints_the_text_alone(self):
        ran = self.succeed("run", "stories-moe", "-p", "Once upon a time", "-n", "8", "--seed", "1", "--quiet")
        told = self.succeed("run", "stories-moe", "-p", "Once upon a time", "-n", "8", "--seed", "1", "--json")
        self.assertEqual(ran.stdout, told.result()["text"] + "\n")
        self.assertEqual(ran.stderr, "")

    def test_an_unseeded_run_tells_the_seed_that_repeats_it(self):
        first = self.succeed("run", "stories-moe", "-p", "The dog", "-n", "16", "--json").result()
        again = self.succeed("run", "stories-moe", "-p", "The dog", "-n", "16", "--json", "--seed",
                             first["seed"]).result()
        self.assertEqual(again["ids"], first["ids"])

    def test_the_prompt_can_come_from_a_file_or_standard_input(self):
        (self.folder / "prompt").write_text("The little dog")
        options = ["-n", "4", "--temperature", "0", "--json"]
        expected = self.succeed("run", "stories-moe", "-p", "The little dog", *options).result()
        for given in (self.succeed("run", "stories-moe", "-f", "prompt", *options),
                      self.succeed("run", "stories-moe", "-f", "-", *options, text_in="The little dog")):
            self.assertEqual(given.result()["prompt_ids"], expected["prompt_ids"])
            self.assertEqual(given.result()["ids"], expected["ids"])

    def test_trace_and_stats_tell_the_routing(self):
        ran = self.succeed("run", "stories-moe", "-p", "Once upon a time", "-n", "5", "--temperature", "0",
                           "--trace", "trace", "--stats", "--json").result()
        lines = [json.loads(line) for line in (self.folder / "trace").read_text().splitlines()]
        positions = len(ran["prompt_ids"]) + len(ran["ids"]) - 1
        self.assertEqual({line["position"] for line in lines}, set(range(positions)))
        self.assertEqual(len(lines), positions * 4)
        for line in lines:
            self.assertEqual(len(line["experts"]), 2)
            self.assertAlmostEqual(sum(line["weights"]), 1, places=5)
            self.assertGreaterEqual(line["margin"], 0)
        for layer, shares in enumerate(ran["routing"]):
            for expert, share in enumerate(shares):
                chosen = sum(line["layer"] == layer and expert in line["experts"] for line in lines)
                self.assertAlmostEqual(share, chosen / positions)
            load = ran["expert_load"][layer]
            self.assertEqual((load["layer"], load["tokens"]), (layer, positions))
            self.assertEqual(load["most_used"]["share"], max(shares))
            self.assertEqual(load["least_used"]["share"], min(shares))

    def test_the_stats_table_is_plain_when_it_is_not_shown_on_a_terminal(self):
        ran = self.succeed("run", "stories-moe", "-p", "Once", "-n", "4", "--stats")
        self.assertIn("percent", ran.stderr)
        self.assertNotIn("\x1b", ran.stdout)

    def test_every_kernel_family_gives_the_same_text_greedily(self):
        texts = set()
        for isa in ("generic", "avx2", "avxvnni", "avx512"):
            ran = self.sluice("run", "stories-moe", "-p", "Once upon a time", "-n", "8", "--temperature", "0",
                              "--json", environment={"SLUICE_ISA": isa})
            if ran.code == 2:
                self.assertIn("which this CPU has not", ran.error()["message"])
                continue
            texts.add(ran.result()["text"])
        self.assertEqual(len(texts), 1)

    def test_both_engines_give_the_same_text_and_onednn_is_refused_where_it_saturates(self):
        prompt = ("run", "stories-moe", "-p", "Once upon a time there was a little dog who liked to play",
                  "-n", "8", "--temperature", "0", "--json")
        own = self.succeed(*prompt, environment={"SLUICE_ENGINE": "own"}).result()["text"]
        self.assertEqual(self.succeed(*prompt).result()["text"], own)
        exact = "avx512_core_" in self.succeed("--version").stdout
        if exact:
            self.assertEqual(self.succeed(*prompt, environment={"SLUICE_ENGINE": "onednn"}).result()["text"], own)
        refused = self.sluice(*prompt, environment={"SLUICE_ENGINE": "onednn", "ONEDNN_MAX_CPU_ISA": "AVX2"})
        self.assertEqual(refused.code, 2)
        self.assertIn("saturation", refused.error()["message"])

    def test_eval_and_bench_tell_their_numbers(self):
        (self.folder / "text").write_text("Once upon a time there was a little dog. He liked to play. " * 4)
        evaluated = self.succeed("eval", "stories-moe", "text", "--reference", "stories-moe", "--json").result()
        self.assertGreater(evaluated["perplexity"], 1)
        self.assertGreater(evaluated["kl_divergence"], 0)
        self.assertLess(evaluated["kl_divergence"], 0.1)
        self.assertGreater(evaluated["routing_agreement"], 0.8)
        benched = self.succeed("bench", "stories-moe", "-p", "16", "-n", "2", "-r", "1", "--json").result()
        for name in ("prefill_tokens_per_s", "decode_tokens_per_s", "read_bandwidth_gb_per_s", "load_s"):
            self.assertGreater(benched[name], 0, name)

    def test_bench_names_the_engine_and_shows_both(self):
        bench = ("bench", "stories-moe", "--quant", "bf16", "-p", "64", "-n", "2", "-r", "1")
        for engine in ("own", "onednn"):
            self.assertEqual(self.succeed(*bench, "--engine", engine, "--json").result()["engine"], engine)
            chosen = self.succeed(*bench, "--json", environment={"SLUICE_ENGINE": engine}).result()["engine"]
            self.assertEqual(chosen, engine)
        both = [line for line in self.succeed(*bench, "--engine", "both", "--json").lines()
                if line["event"] == "result"]
        self.assertEqual([line["engine"] for line in both], ["own", "onednn"])
        table = self.succeed(*bench, "--engine", "both").stdout.splitlines()
        self.assertIn(["matrix", "products", "of", "prompts", "own", "onednn"], [line.split() for line in table])


if __name__ == "__main__":
    main()
