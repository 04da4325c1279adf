"""The bytes that docs/container.md shows are those of the container that it names."""

import hashlib
import json
import re
import struct
from pathlib import Path

from sluice_program import RELEASE, ProgramTest, main

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "container.md"
FOOTER_BYTES = 128


def number(text):
    return int(text.replace(",", ""))


class ContainerExampleTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.text = DOCUMENT.read_text()
        path = self.folder / "q4.sluice"
        self.succeed("convert", RELEASE, "--quant", "q4", "-o", path)
        self.bytes = path.read_bytes()

    def find(self, pattern):
        found = re.search(pattern, self.text)
        self.assertIsNotNone(found, f"{DOCUMENT.name} has no {pattern}")
        return found.groups()

    def check_hex(self, example, offset):
        expected = bytes.fromhex(example)
        self.assertEqual(self.bytes[offset:offset + len(expected)].hex(" "), expected.hex(" "))

    def test_header_and_footer(self):
        self.check_hex(self.find(r"Example: `([0-9a-f ]+) …`")[0], 0)
        footer = len(self.bytes) - FOOTER_BYTES
        for offset, name in ((0, "directory offset"), (8, "directory length"), (16, "file size")):
            example, value = self.find(rf"\| {offset} \| 8 \| {name} \| `([0-9a-f ]+)` = ([0-9,]+) \|")
            self.check_hex(example, footer + offset)
            self.assertEqual(struct.unpack("<Q", bytes.fromhex(example))[0], number(value))
        self.check_hex(self.find(r"\| root \| `([0-9a-f ]+) …` \|")[0], footer + 24)
        self.check_hex(self.find(r"end magic `SLUICEv2` \| `([0-9a-f ]+)` \|")[0], footer + 120)
        self.assertEqual(number(self.find(r"--quant q4`, ([0-9,]+) bytes\)")[0]), len(self.bytes))

    def test_root(self):
        lines = re.findall(r"\n      ((?:description|section|tensors) [a-z.]+ [0-9a-f]{64})", self.text)
        self.assertEqual(lines, sorted(lines))
        digests = {tuple(line.split()[:2]): line.split()[2] for line in lines}
        text = "".join(line + "\n" for line in ["sluice container root 2", *lines])
        self.assertEqual(hashlib.sha256(text.encode()).hexdigest(), self.bytes[-FOOTER_BYTES:][24:56].hex())
        offset, length = struct.unpack("<QQ", self.bytes[-FOOTER_BYTES:][:16])
        directory = self.bytes[offset:offset + length].decode()
        values = json.loads(directory)
        for section in values["sections"]:
            content = self.bytes[section["offset"]:section["offset"] + section["bytes"]]
            self.assertEqual(digests.pop(("section", section["name"])), hashlib.sha256(content).hexdigest())
        tensors = sorted("{name} {type} {layout} {} {digest}\n".format(json.dumps(t["shape"]), **t)
                         for t in values["tensors"])
        self.assertEqual(digests.pop(("tensors", "all")), hashlib.sha256("".join(tensors).encode()).hexdigest())
        start = directory.index('"description":') + len('"description":')
        description = directory[start:directory.index(',"tensors":')]
        self.assertEqual(digests.pop(("description", "model")), hashlib.sha256(description.encode()).hexdigest())
        self.assertEqual(digests, {})

    def test_a_weight(self):
        name, start = self.find(r"Example, `([a-z0-9_.]+)` \[512, 256\] q4, which starts at byte ([0-9,]+):")
        start = number(start)
        directory, length = struct.unpack("<QQ", self.bytes[-FOOTER_BYTES:][:16])
        tensors = json.loads(self.bytes[directory:directory + length])["tensors"]
        tensor = next(tensor for tensor in tensors if tensor["name"] == name)
        self.assertEqual(tensor["offset"], start)
        digest = self.find(re.escape(name) + r" q4 tiles \[512, 256\] ([0-9a-f]{8})…")[0]
        self.assertEqual(tensor["digest"][:8], digest)
        values = {}
        for kind in ("code", "magnitude", "sign", "row scale"):
            offset, example = self.find(rf"\| {kind} \| ([0-9,]+) \| `([0-9a-f ]+)` \|")
            self.check_hex(example, start + number(offset))
            values[kind] = bytes.fromhex(example)
        code = (values["code"][0] >> 4) - 8
        sub_scale = (values["magnitude"][0] & 15) + 1
        if values["sign"][0] >> 5 & 1:
            sub_scale = -sub_scale
        scale = struct.unpack("<f", values["row scale"])[0]
        shown = self.find(r"\n(-?\d+) × (-?\d+) × ([0-9.]+) = (-?[0-9.]+) \(released")
        self.assertEqual((code, sub_scale), (int(shown[0]), int(shown[1])))
        self.assertAlmostEqual(scale, float(shown[2]), delta=1e-8)
        self.assertAlmostEqual(code * sub_scale * scale, float(shown[3]), delta=1e-6)

    def test_a_weight_of_six_bits(self):
        name, start = self.find(r"Example, `([a-z0-9_.]+)` \[256, 256\] q6, which starts at byte ([0-9,]+):")
        start = number(start)
        directory, length = struct.unpack("<QQ", self.bytes[-FOOTER_BYTES:][:16])
        tensors = json.loads(self.bytes[directory:directory + length])["tensors"]
        self.assertEqual(next(tensor for tensor in tensors if tensor["name"] == name)["offset"], start)
        values = {}
        for kind in ("low bits", "high bits", "q6 magnitude", "q6 row scale"):
            offset, example = self.find(rf"\| {kind} \| ([0-9,]+) \| `([0-9a-f ]+)` \|")
            self.check_hex(example, start + number(offset))
            values[kind] = bytes.fromhex(example)
        code = (values["low bits"][0] >> 4 | (values["high bits"][0] >> 2 & 3) << 4) - 32
        sub_scale = (values["q6 magnitude"][0] & 3) + 1
        scale = struct.unpack("<f", values["q6 row scale"])[0]
        shown = self.find(r"\n(-8) × (3) × ([0-9.]+) = (-?[0-9.]+) \(released")
        self.assertEqual((code, sub_scale), (int(shown[0]), int(shown[1])))
        self.assertAlmostEqual(scale, float(shown[2]), delta=1e-8)
        self.assertAlmostEqual(code * sub_scale * scale, float(shown[3]), delta=1e-6)


if __name__ == "__main__":
    main()
