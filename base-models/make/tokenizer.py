"""Make a byte-level BPE tokenizer in CLIP's format, small enough for a tiny model.

    python3 tokenizer.py --work WORK         -> WORK/tokenizer

2,048 entries: the 256 bytes, each alone and at a word's end; merges learnt from the captions (counted so often that most
of their words become one token), the names of all icons, and the labels and tags of emojibase; the start and the end.
"""
import argparse
import collections
import json
import os
import re

from job import CONTRAST, STYLES, icon_set, listed

LENGTH, ENTRIES = 24, 2048
START, END = "<|startoftext|>", "<|endoftext|>"
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_", re.IGNORECASE)


def byte_symbols():
    """CLIP's (and GPT-2's) printable stand-in for each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def words_of(text):
    return WORD.findall(re.sub(r"\s+", " ", text).strip().lower())


def count_words(work):
    counts = collections.Counter()
    for _, words, part in listed():
        for style in STYLES:
            for word in words_of(f"{style} style, {words}"):
                counts[word] += 100 if part == "core" else 50
    for package, _ in [*STYLES.values(), CONTRAST]:
        for name in icon_set(work, package)["icons"]:
            if "skin-tone" not in name:
                counts.update(words_of(name.replace("-", " ")) * 2)
    with open(os.path.join(work, "node_modules/emojibase-data/en/data.json"), encoding="utf-8") as file:
        for emoji in json.load(file):
            for text in [emoji["label"], *emoji.get("tags", [])]:
                counts.update(words_of(text) * 2)
    return counts


def merged(symbols, pair):
    found, i = [], 0
    while i < len(symbols):
        together = symbols[i:i + 2] == pair
        found.append("".join(pair) if together else symbols[i])
        i += 2 if together else 1
    return tuple(found)


def learn_merges(counts, symbols, count):
    """The most frequent pair, again and again; of equals the first in order."""
    spelt = collections.Counter()
    for word, often in counts.items():
        letters = [symbols[byte] for byte in word.encode()]
        spelt[(*letters[:-1], letters[-1] + "</w>")] += often
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for letters, often in spelt.items():
            for pair in zip(letters, letters[1:]):
                pairs[pair] += often
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        again = collections.Counter()
        for letters, often in spelt.items():
            again[merged(letters, merges[-1])] += often
        spelt = again
    return merges


def write_json(folder, name, value, indent=2):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=indent)


def write(folder, symbols, merges):
    singles = list(symbols.values())
    entries = [*singles, *(symbol + "</w>" for symbol in singles), *("".join(pair) for pair in merges), START, END]
    assert len(set(entries)) == len(entries) == ENTRIES
    os.makedirs(folder, exist_ok=True)
    write_json(folder, "vocab.json", {entry: i for i, entry in enumerate(entries)}, None)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as file:
        file.write("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", default="work")
    work = parser.parse_args().work
    symbols = byte_symbols()
    write(os.path.join(work, "tokenizer"), symbols, learn_merges(count_words(work), symbols, ENTRIES - 2 - 512))


if __name__ == "__main__":
    main()
