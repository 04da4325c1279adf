#!/usr/bin/python3
"""Speed of the tokenizers beside @huggingface/tokenizers under node, on the same text and files, ids compared.

    mkdir /tmp/peer && (cd /tmp/peer && npm install @huggingface/tokenizers@0.2.0)
    ninja -C build tokenizer_speed
    tests/bench/tokenizer_speed.py build/tests/tokenizer_speed /tmp/peer TEXT TOKENIZER.json.. [--rounds 5]

Both encode the whole text as one string, by turns, each in one process and on one thread; the best round counts. Without
a TEXT that fits, `cat docs/*.md docs/decisions/*.md` makes one. Exit 1 where the ids differ.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

NODE = """
import { Tokenizer } from '@huggingface/tokenizers';
import { readFileSync } from 'node:fs';
const [text_path, rounds, ...paths] = process.argv.slice(2);
const text = readFileSync(text_path, 'utf-8');
for (const path of paths) {
  const start = process.hrtime.bigint();
  const tokenizer = new Tokenizer(JSON.parse(readFileSync(path, 'utf-8')), {});
  const load_s = Number(process.hrtime.bigint() - start) / 1e9;
  let encode_s = Infinity, ids = [];
  for (let round = 0; round < Number(rounds); ++round) {
    const begin = process.hrtime.bigint();
    ids = tokenizer.encode(text, { add_special_tokens: false }).ids;
    encode_s = Math.min(encode_s, Number(process.hrtime.bigint() - begin) / 1e9);
  }
  let hash = 2166136261;
  for (const id of ids) hash = Math.imul(hash ^ Number(id), 16777619) >>> 0;
  console.log(JSON.stringify({ tokenizer: path, load_s, encode_s, tokens: ids.length, hash }));
}
"""


def lines_of(command):
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="build/tests/tokenizer_speed")
    parser.add_argument("peer", type=Path, help="the folder in which npm installed @huggingface/tokenizers")
    parser.add_argument("text", type=Path)
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--rounds", default="5")
    args = parser.parse_args()
    size = args.text.stat().st_size
    print(f"{'tokenizer':44} {'tokens':>9} {'load s':>13} {'MB/s':>15} {'ratio':>6}  ids")
    all_equal = True
    with tempfile.NamedTemporaryFile("w", suffix=".mjs", dir=args.peer) as script:
        script.write(NODE)
        script.flush()
        for path in args.tokenizers:
            own, = lines_of([args.program, str(args.text), args.rounds, path])
            peer, = lines_of(["node", script.name, str(args.text), args.rounds, path])
            equal = (own["tokens"], own["hash"]) == (peer["tokens"], peer["hash"])
            all_equal &= equal
            print(f"{path[-44:]:44} {own['tokens']:9} {own['load_s']:6.2f} {peer['load_s']:6.2f} "
                  f"{size / own['encode_s'] / 1e6:7.1f} {size / peer['encode_s'] / 1e6:7.2f} "
                  f"{peer['encode_s'] / own['encode_s']:6.1f}  {'equal' if equal else 'DIFFERENT'}", flush=True)
    sys.exit(0 if all_equal else 1)


if __name__ == "__main__":
    main()
