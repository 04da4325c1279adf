#!/usr/bin/python3
"""Cuts a released tokenizer.json down to the tokens and merges that the strings of a cases.json need.

    python3 cut.py FULL/tokenizer.json FULL/cases.json NAME/

Writes NAME/tokenizer.json and NAME/cases.json. The kept tokens have their released ids, and the strings the same ids as
with the whole file: a merge that is applied to none of the strings can go without any other being applied. Needs
python3-regex, for the pre-tokenizer's expressions. tests/text/released_tokenizers_test.cpp reads the result.
"""

import json
import sys
import unicodedata
from pathlib import Path

import regex


def byte_letters():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + i) for i, byte in enumerate(rest)}}


def pieces_of(text, splits):
    pieces = [text]
    for split in splits:
        cut = []
        for piece in pieces:
            done = 0
            for match in split.finditer(piece):
                cut += [piece[done:match.start()], match.group()]
                done = match.end()
            cut.append(piece[done:])
        pieces = [piece for piece in cut if piece]
    return pieces


def main():
    source, cases_path, target = (Path(word) for word in sys.argv[1:])
    file = json.loads(source.read_text())
    cases = json.loads(cases_path.read_text())
    model = file["model"]
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    rank = {pair: i for i, pair in enumerate(pairs)}
    splits = [regex.compile(part["pattern"]["Regex"]) for part in file["pre_tokenizer"]["pretokenizers"]
              if part["type"] == "Split"]
    letters = byte_letters()
    kept_tokens, kept_merges = set(letters.values()), set()
    kept_tokens |= {token["content"] for token in file["added_tokens"]} & set(model["vocab"])

    def merge(word):
        if model.get("ignore_merges") and word in model["vocab"]:
            kept_tokens.add(word)
            return
        parts = list(word)
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda pair: rank.get(pair, len(rank)))
            if best not in rank:
                break
            at = next(i for i in range(len(parts) - 1) if (parts[i], parts[i + 1]) == best)
            parts[at:at + 2] = ["".join(best)]
            kept_merges.add(rank[best])
            kept_tokens.add("".join(best))

    def encode(text, added):
        done = 0
        matches = regex.finditer("|".join(regex.escape(token) for token in added), text) if added else []
        for match in [*matches, None]:
            part = text[done:match.start() if match else len(text)]
            if file["normalizer"] and file["normalizer"]["type"] == "NFC":
                part = unicodedata.normalize("NFC", part)
            for piece in pieces_of(part, splits):
                merge("".join(letters[byte] for byte in piece.encode()))
            done = match.end() if match else 0

    longest_first = sorted(file["added_tokens"], key=lambda token: -len(token["content"]))
    for case in cases:
        encode(case["text"], [token["content"] for token in longest_first])
        encode(case["text"], [token["content"] for token in longest_first if not token["special"]])
    # The parts of a kept merge are products of kept ones, or bytes.
    model["vocab"] = {token: id for token, id in model["vocab"].items() if token in kept_tokens}
    model["merges"] = [merge for i, merge in enumerate(model["merges"]) if i in kept_merges]
    target.mkdir(exist_ok=True)
    dump = {"ensure_ascii": False, "separators": (",", ":")}
    (target / "tokenizer.json").write_text(json.dumps(file, **dump) + "\n")
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (target / "cases.json").write_text("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    main()
