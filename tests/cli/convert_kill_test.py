"""Conversions that are killed, interrupted or out of space at any time go on where they were: the file in the end is
that of an undisturbed one, and no finished tensor is converted again."""

import hashlib
import json
import os
import random
import shutil
import signal
import time

from sluice_program import RELEASE, ProgramTest, main, wait_until

HEADER_BYTES, RECORD_BYTES = 128, 104  # of the journal, convert/conversion_journal.h
TEXT = RELEASE.parent.parent / "tests" / "data" / "stories-moe" / "calibration.txt"
VOCABULARY, HEADS, KV_HEADS = 2048, 4, 2


def shapes(layers, dim, hidden, experts):
    yield "tok_embeddings.weight", (VOCABULARY, dim)
    yield "norm.weight", (dim,)
    yield "output.weight", (VOCABULARY, dim)
    for layer in range(layers):
        head = dim // HEADS
        for name, shape in {
            "attention.wq": (dim, dim), "attention.wk": (KV_HEADS * head, dim),
            "attention.wv": (KV_HEADS * head, dim), "attention.wo": (dim, dim), "attention_norm": (dim,),
            "ffn_norm": (dim,), "feed_forward.gate": (experts, dim),
        }.items():
            yield f"layers.{layer}.{name}.weight", shape
        for expert in range(experts):
            for name, shape in {"w1": (hidden, dim), "w2": (dim, hidden), "w3": (hidden, dim)}.items():
                yield f"layers.{layer}.feed_forward.experts.{expert}.{name}.weight", shape


def random_bf16(values, source):
    """Of either sign, up to 0.125."""
    data = bytearray(2 * values)
    data[0::2] = source.randbytes(values)
    data[1::2] = source.randbytes(values).translate(bytes(0x3a + i % 4 + 0x80 * (i >> 7) for i in range(256)))
    return data


def write_release(folder, layers, dim, hidden, experts):
    """Random weights in a consolidated.safetensors; returns the number of tensors."""
    folder.mkdir()
    source = random.Random(1)
    header, parts, offset = {}, [], 0
    for name, shape in shapes(layers, dim, hidden, experts):
        values = shape[0] * shape[1] if len(shape) == 2 else shape[0]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + 2 * values]}
        parts.append(random_bf16(values, source))
        offset += 2 * values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "consolidated.safetensors").write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *parts]))
    (folder / "params.json").write_text(json.dumps({
        "dim": dim, "n_layers": layers, "head_dim": dim // HEADS, "hidden_dim": hidden, "n_heads": HEADS,
        "n_kv_heads": KV_HEADS, "norm_eps": 1e-5, "vocab_size": VOCABULARY,
        "moe": {"num_experts_per_tok": 2, "num_experts": experts}}))
    shutil.copy(RELEASE / "tokenizer.model", folder)
    return len(header)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class ConversionTest(ProgramTest):
    def prepare(self, *sizes, options=()):
        self.tensors = write_release(self.folder / "release", *sizes)
        self.out = self.folder / "out"
        self.out.mkdir()
        self.output = self.out / "m.sluice"
        self.part = self.out / ".m.sluice.part"
        self.journal = self.out / ".m.sluice.part.journal"
        self.command = ["convert", self.folder / "release", "-o", self.output, "--json", *options]

    def convert_undisturbed(self):
        start = time.monotonic()
        result = self.succeed(*self.command).result()
        self.seconds = time.monotonic() - start
        self.assertEqual((result["resumed_tensors"], result["converted_tensors"]), (0, self.tensors))
        self.assertEqual(digest(self.output), result["file_sha256"])
        self.sha256, self.root = result["file_sha256"], result["root_sha256"]
        self.output.unlink()

    def journalled(self):
        """The records that the journal has. Without its file it says nothing: a kill between the two steps that end a
        conversion leaves a journal, which the next one empties."""
        if not self.journal.exists() or not self.part.exists() or self.part.stat().st_size == 0:
            return []
        data = self.journal.read_bytes()[HEADER_BYTES:]
        return [data[at:at + RECORD_BYTES] for at in range(0, len(data) // RECORD_BYTES * RECORD_BYTES, RECORD_BYTES)]

    def check_finished(self):
        self.assertEqual(digest(self.output), self.sha256)
        self.output.unlink()

    def kill_at_random(self, kills):
        """Kills so many times, begins anew whenever a conversion is finished; returns how many were."""
        instants = random.Random(7)
        finished, before = 0, []
        while kills > 0:
            process = self.start(*self.command)
            time.sleep(instants.uniform(0, self.seconds))
            process.kill()
            stdout, stderr = process.communicate()
            if process.returncode == 0:
                result = json.loads(stdout.splitlines()[-1])
                self.assertEqual(result["resumed_tensors"], len(before))
                self.assertEqual(result["converted_tensors"], self.tensors - len(before))
            else:
                self.assertEqual(process.returncode, -signal.SIGKILL, stderr)
                kills -= 1
            if self.output.exists():  # the kill may have come when all was done
                self.check_finished()
                finished, before = finished + 1, []
                continue
            # Of what was finished nothing is lost or done again: a record is written when a tensor is finished.
            found = self.journalled()
            self.assertEqual(found[:len(before)], before)
            before = found
        result = self.succeed(*self.command).result()
        self.assertEqual(result["resumed_tensors"], len(before))
        self.assertEqual(result["converted_tensors"], self.tensors - len(before))
        self.assertEqual(result["root_sha256"], self.root)
        self.check_finished()
        self.assertEqual(os.listdir(self.out), [])
        return finished + 1

    def start_and_wait_for(self, records):
        process = self.start(*self.command)
        wait_until(lambda: len(self.journalled()) >= records or process.poll() is not None)
        return process


class KillTest(ConversionTest):
    def test_a_conversion_killed_at_100_random_instants_has_the_bytes_of_an_undisturbed_one(self):
        self.prepare(8, 256, 512, 8)
        self.convert_undisturbed()
        conversions = self.kill_at_random(100)
        print(f"{conversions} conversions of {self.seconds:.2f} s were killed 100 times")

    def test_a_calibrated_conversion_is_killed(self):
        text = self.folder / "text"
        text.write_bytes(TEXT.read_bytes()[:1500])
        self.prepare(2, 128, 256, 4, options=["--calibrate", text])
        self.convert_undisturbed()
        conversions = self.kill_at_random(12)
        print(f"{conversions} calibrated conversions of {self.seconds:.2f} s were killed 12 times")

    @staticmethod
    def identity(path):
        """Of a file that nobody has written since; it may have been read."""
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def test_what_calibration_leaves_is_used_or_removed(self):
        text = self.folder / "text"
        text.write_bytes(TEXT.read_bytes()[:1500])
        self.prepare(2, 128, 256, 4, options=["--calibrate", text])
        self.convert_undisturbed()
        scratch = self.out / "m.sluice.calibration"
        process = self.start(*self.command)
        wait_until(scratch.exists)
        process.kill()
        process.wait()
        made = self.identity(scratch)
        process = self.start_and_wait_for(5)
        process.kill()
        process.wait()
        self.assertEqual(self.identity(scratch), made)
        self.assertGreaterEqual(len(self.journalled()), 5)
        # Without the text it is another conversion.
        plain = self.succeed(*self.command[:-2])
        self.assertEqual(plain.result()["resumed_tensors"], 0)
        self.assertIn("was begun with other options; the conversion starts over", plain.stdout)
        self.assertEqual(os.listdir(self.out), ["m.sluice"])


class InterruptTest(ConversionTest):
    def test_ctrl_c_keeps_what_is_finished_and_says_so(self):
        self.prepare(8, 256, 512, 8)
        self.convert_undisturbed()
        process = self.start_and_wait_for(10)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 7, stderr)
        count = len(self.journalled())
        self.assertGreaterEqual(count, 10)
        self.assertIn(f"interrupted; {count} of {self.tensors} tensors are finished in {self.part}, and the same "
                      "command goes on from there", json.loads(stdout.splitlines()[-1])["message"])
        people = self.succeed(*[argument for argument in self.command if argument != "--json"])
        self.assertIn(f"resumed {count} of {self.tensors} tensors", people.stdout)
        self.check_finished()

    def test_one_output_is_made_by_one_process(self):
        self.prepare(8, 256, 512, 8)
        self.convert_undisturbed()
        process = self.start_and_wait_for(10)
        process.send_signal(signal.SIGSTOP)
        self.assertIsNone(process.poll())
        second = self.sluice(*self.command)
        process.send_signal(signal.SIGCONT)
        self.assertEqual(second.code, 2, str(second))
        self.assertEqual(second.error()["message"], f"{self.output}: another process is making this file")
        self.assertEqual(process.wait(timeout=30), 0)
        self.check_finished()


if __name__ == "__main__":
    main()
