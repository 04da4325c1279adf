"""What `run` takes besides a prompt: stop texts, penalties, a chat's form, a file that keeps the prompt."""

import unittest

from sluice_program import SANITIZED, ProgramTest, main

GREEDY = ("--temperature", "0", "--threads", "2")
PROMPT = "Once upon a time, there was a little girl named Lily."


class RunTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "m.sluice"
        self.succeed("convert", self.copy_release(), "-o", self.model, "--quant", "q4")

    def run_model(self, *options, prompt=PROMPT, **how):
        return self.succeed("run", self.model, "-p", prompt, *GREEDY, "--json", *options, **how).result()

    def test_text_ends_before_a_stop_text(self):
        whole = self.run_model("-n", "30")
        words = whole["text"].split()
        stop = words[4] + " " + words[5]
        stopped = self.run_model("-n", "30", "--stop", "never there", "--stop", stop)
        self.assertEqual(stopped["text"], whole["text"][:whole["text"].index(stop)])
        self.assertEqual(stopped["stop"], "stop")
        self.assertLess(len(stopped["ids"]), len(whole["ids"]))
        self.assertEqual(stopped["ids"], whole["ids"][:len(stopped["ids"])])
        ran = self.succeed("run", self.model, "-p", PROMPT, *GREEDY, "-n", "30", "--stop", stop, "-q")
        self.assertEqual(ran.stdout, stopped["text"] + "\n")

    def test_without_a_limit_the_model_or_the_context_ends_the_text(self):
        ids = self.run_model("-n", "-1", "--context", "40")
        self.assertEqual(len(ids["prompt_ids"]) + len(ids["ids"]), 41)
        self.assertEqual(ids["stop"], "length")
        self.assertEqual(self.sluice("run", self.model, "-p", "x", "-n", "0").code, 2)

    def test_a_model_that_does_not_fit_says_the_same(self):
        whole = self.run_model("-n", "20", "--stats")
        self.assertFalse(whole["memory"]["streams"])
        small = [self.run_model("-n", "20", "--stats", "--memory", f"{mebibytes}MiB") for mebibytes in (6, 7, 8)]
        for result in small:
            self.assertEqual(result["ids"], whole["ids"])
        if not SANITIZED:  # whose own memory would count
            for result in small:
                self.assertTrue(result["memory"]["streams"])
                self.assertGreater(result["memory"]["bytes_read"], 0)
                self.assertLess(result["memory"]["hit_rate"], 1)

    def test_penalties_change_what_comes_again(self):
        plain = self.run_model("-n", "60")["ids"]
        punished = self.run_model("-n", "60", "--repeat-penalty", "1.5", "--repeat-last-n", "-1")["ids"]
        self.assertGreater(len(set(punished)), len(set(plain)))
        off = self.run_model("-n", "60", "--presence-penalty", "2", "--repeat-last-n", "0")["ids"]
        self.assertEqual(off, plain)

    def test_chat_puts_the_instruction_between_its_marks(self):
        chat = self.run_model("-n", "2", "--chat", "--system", "Be kind.", prompt="Hi")
        text = self.run_model("-n", "2", prompt="[INST] Be kind.\n\nHi [/INST]")
        self.assertEqual(chat["prompt_ids"], text["prompt_ids"])
        self.assertEqual(chat["prompt_ids"].count(1), 1)
        self.assertEqual(self.sluice("run", self.model, "-p", "Hi", "--system", "x").code, 2)

    def test_control_tokens_of_a_prompt_count_only_when_asked_for(self):
        spelled = self.run_model("-n", "1", prompt="<s>Hi</s>")["prompt_ids"]
        self.assertEqual((spelled[0], spelled.count(1), spelled.count(2)), (1, 1, 0))
        special = self.run_model("-n", "1", "--special", prompt="<s>Hi</s>")["prompt_ids"]
        self.assertEqual((special[0], special.count(1), special[-1]), (1, 1, 2))  # BOS is never twice
        self.assertEqual(self.run_model("-n", "1", "--special", prompt="Hi")["prompt_ids"],
                         self.run_model("-n", "1", prompt="Hi")["prompt_ids"])

    def test_options_of_a_chat_need_one(self):
        self.fail_with(2, "usage", "--chat-var needs --chat", "run", self.model, "-p", "x", "--chat-var", "a=1")
        self.fail_with(2, "usage", "--chat-var a: expected NAME=VALUE", "run", self.model, "-p", "x", "--chat",
                       "--chat-var", "a")
        self.fail_with(2, "usage", "Mistral's chat formats have no variable 'a'", "run", self.model,
                       "-p", "x", "--chat", "--chat-var", "a=1")
        self.fail_with(2, "usage", "--hide-thinking is for conversations", "run", self.model, "-p", "x",
                       "--hide-thinking")
        self.fail_with(2, "usage", "--chat", "run", self.model, "-p", "x", "--chat", "--special")

    def test_prompt_cache_gives_the_same_tokens_and_is_reused(self):
        plain = self.run_model("-n", "20")
        for kv in ("bf16", "q8"):
            cached = [self.run_model("-n", "20", "--prompt-cache", kv, "--kv", kv) for _ in range(2)]
            self.assertEqual(cached[0]["ids"], cached[1]["ids"])
            self.assertEqual([run["prompt_tokens_reused"] for run in cached], [0, len(plain["prompt_ids"]) - 1])
            if kv == "bf16":
                self.assertEqual(cached[0]["ids"], plain["ids"])
        more = PROMPT + " She had a red ball"
        longer = self.run_model("-n", "5", "--prompt-cache", "bf16", prompt=more)
        self.assertGreaterEqual(longer["prompt_tokens_reused"], len(plain["prompt_ids"]) - 1)
        self.assertEqual(longer["ids"], self.run_model("-n", "5", prompt=more)["ids"])

    def test_prompt_cache_that_is_damaged_is_made_anew_and_what_is_none_stays(self):
        first = self.run_model("-n", "5", "--prompt-cache", "c")
        path = self.folder / "c"
        good = path.read_bytes()
        for bad in (good[:len(good) // 2], good[:2000] + bytes([good[2000] ^ 1]) + good[2001:]):
            path.write_bytes(bad)
            ran = self.succeed("run", self.model, "-p", PROMPT, *GREEDY, "-n", "5", "--json", "--prompt-cache", "c")
            self.assertIn("it is not used", ran.stdout + ran.stderr)
            self.assertEqual(ran.result()["ids"], first["ids"])
            self.assertEqual(path.read_bytes(), good)
        letter = self.folder / "letter"
        letter.write_text("Dear Lily")
        failed = self.sluice("run", self.model, "-p", "x", "--prompt-cache", letter, "--json")
        self.assertEqual(failed.code, 2)
        self.assertIn("is no prompt cache", failed.error()["message"])
        self.assertEqual(letter.read_text(), "Dear Lily")
        unproven = self.sluice("run", self.model, "-p", "x", "--prompt-cache", "n", "--verify", "off")
        self.assertEqual(unproven.code, 2)


if __name__ == "__main__":
    main()
