"""Reads weight files with Python's standard library alone, by the formats' descriptions: what Sluice writes is
compared with what these say."""

import array
import json
import math
import pickle
import struct
import zipfile


class _Plain(pickle.Unpickler):
    """A torch state dict as {name: (shape, dtype, bytes)}; tensors that fill their storage."""

    def __init__(self, archive, top):
        super().__init__(archive.open(f"{top}/data.pkl"))
        self.read_storage = lambda key: archive.read(f"{top}/data/{key}")

    def find_class(self, module, name):
        known = {("collections", "OrderedDict"): dict,
                 ("torch._utils", "_rebuild_tensor_v2"): self.rebuild,
                 ("torch", "BFloat16Storage"): "BF16"}
        return known[module, name]

    def persistent_load(self, saved):
        _, dtype, key, _, _ = saved
        return dtype, self.read_storage(key)

    @staticmethod
    def rebuild(storage, offset, shape, strides, *_):
        dtype, data = storage
        assert offset == 0 and len(data) == 2 * math.prod(shape)
        assert strides == tuple(math.prod(shape[axis + 1:]) for axis in range(len(shape)))
        return list(shape), dtype, data


def read_pth(path):
    with zipfile.ZipFile(path) as archive:
        return _Plain(archive, archive.namelist()[0].split("/")[0]).load()


def read_safetensors(path):
    data = path.read_bytes()
    length, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__")
    start = 8 + length
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert spans[0][0] == 0 and spans[-1][1] == len(data) - start
    assert all(a[1] == b[0] for a, b in zip(spans, spans[1:]))
    return {name: (entry["shape"], entry["dtype"],
                   data[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]])
            for name, entry in header.items()}


GGUF_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
GGUF_TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 8: ("Q8_0", 32, 34), 30: ("BF16", 1, 2)}


def read_gguf(path):
    """The pairs, and the tensors with shapes outermost first."""
    data = path.read_bytes()
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0]

    def take_string():
        nonlocal at
        length = take("Q")
        at += length
        return data[at - length:at].decode()

    def take_value(kind):
        nonlocal at
        if kind == 8:
            return take_string()
        if kind != 9:
            return take(GGUF_NUMBERS[kind])
        kind, count = take("I"), take("Q")
        if kind == 8:
            return [take_string() for _ in range(count)]
        values = list(struct.unpack_from(f"<{count}{GGUF_NUMBERS[kind]}", data, at))
        at += count * struct.calcsize(GGUF_NUMBERS[kind])
        return values

    assert data[:4] == b"GGUF"
    at = 4
    assert take("I") == 3
    tensor_count, pair_count = take("Q"), take("Q")
    pairs = {}
    for _ in range(pair_count):
        key = take_string()
        assert key not in pairs
        pairs[key] = take_value(take("I"))
    infos = []
    for _ in range(tensor_count):
        name = take_string()
        shape = [take("Q") for _ in range(take("I"))][::-1]
        infos.append((name, shape, take("I"), take("Q")))
    start = -(-at // 32) * 32
    assert not any(data[at:start])
    tensors, end = {}, 0
    for name, shape, kind, offset in infos:
        assert name not in tensors and offset == -(-end // 32) * 32 and not any(data[start + end:start + offset])
        dtype, weights, size = GGUF_TYPES[kind]
        end = offset + math.prod(shape) // weights * size
        tensors[name] = (shape, dtype, data[start + offset:start + end])
    assert start + -(-end // 32) * 32 == len(data)
    return pairs, tensors


def bf16_to_f32(data):
    """bf16 is the upper half of an f32."""
    halves = array.array("H", data)
    wide = array.array("H", bytes(2 * len(data)))
    wide[1::2] = halves
    return wide.tobytes()
