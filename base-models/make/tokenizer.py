"""Make a CLIP-style byte-level BPE tokenizer small enough for a tiny model.

    python tokenizer.py --work WORK      -> WORK/tokenizer/{vocab.json,merges.txt,...}

Alphabet: the 256 bytes, each alone and with "</w>"; then merges learnt from the captions
(counted heavily, so their words become one token), all icon names and emojibase's labels
and tags; then <|startoftext|> and <|endoftext|>. Also a small encoder, used in training.
"""
import argparse, collections, json, os, re
from data import SETS, caption, concepts, load_set

LENGTH, ENTRIES = 24, 2048
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_", re.I)


def byte_chars():
    """CLIP's (and GPT-2's) printable stand-in for each byte."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    chars, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in chars:
            chars[b], extra = chr(256 + extra), extra + 1
    return {b: chars[b] for b in keep + [b for b in range(256) if b not in keep]}


def words(text):
    return WORD.findall(re.sub(r"\s+", " ", text).strip().lower())


def symbols(word, chars):
    s = [chars[b] for b in word.encode()]
    return tuple(s[:-1] + [s[-1] + "</w>"])


def learn(counts, n):
    chars = byte_chars()
    vocab = {symbols(w, chars): c for w, c in counts.items()}
    merges = []
    while len(merges) < n:
        pairs = collections.Counter()
        for s, c in vocab.items():
            for p in zip(s, s[1:]):
                pairs[p] += c
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        new = {}
        for s, c in vocab.items():
            t = merge(s, best)
            new[t] = new.get(t, 0) + c
        vocab = new
    return merges


def merge(s, pair):
    out, i = [], 0
    while i < len(s):
        if i + 1 < len(s) and (s[i], s[i + 1]) == pair:
            out.append(s[i] + s[i + 1])
            i += 2
        else:
            out.append(s[i])
            i += 1
    return tuple(out)


class Tokenizer:
    def __init__(self, folder):
        self.vocab = json.load(open(os.path.join(folder, "vocab.json"), encoding="utf-8"))
        lines = open(os.path.join(folder, "merges.txt"), encoding="utf-8").read().split("\n")[1:]
        self.rank = {tuple(l.split()): i for i, l in enumerate(lines) if l}
        self.chars, self.bos, self.eos = byte_chars(), self.vocab[BOS], self.vocab[EOS]

    def word(self, w):
        s = symbols(w, self.chars)
        while len(s) > 1:
            best = min(zip(s, s[1:]), key=lambda p: self.rank.get(p, 1 << 30))
            if best not in self.rank:
                break
            s = merge(s, best)
        return [self.vocab[x] for x in s]

    def __call__(self, text):
        ids = [i for w in words(text) for i in self.word(w)][:LENGTH - 2]
        return [self.bos] + ids + [self.eos] * (LENGTH - 1 - len(ids))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default="work")
    work = ap.parse_args().work
    counts = collections.Counter()
    for _, cap, part in concepts():
        for style in ("noto", "fluent"):
            for w in words(caption(style, cap)):
                counts[w] += 100 if part == "core" else 50
    for style in SETS:
        for name in load_set(work, style)[0]:
            if "skin-tone" not in name:
                for w in words(name.replace("-", " ")):
                    counts[w] += 2
    emoji = json.load(open(os.path.join(work, "node_modules/emojibase-data/en/data.json"), encoding="utf-8"))
    for e in emoji:
        for text in [e["label"]] + e.get("tags", []):
            for w in words(text):
                counts[w] += 2
    chars = list(byte_chars().values())
    merges = learn(counts, ENTRIES - 2 - 512)
    entries = chars + [c + "</w>" for c in chars] + ["".join(m) for m in merges] + [BOS, EOS]
    assert len(set(entries)) == len(entries) <= ENTRIES
    folder = os.path.join(work, "tokenizer")
    os.makedirs(folder, exist_ok=True)
    dump = lambda name, obj: json.dump(obj, open(os.path.join(folder, name), "w", encoding="utf-8"), ensure_ascii=False,
                                       indent=None if name == "vocab.json" else 2)
    dump("vocab.json", {e: i for i, e in enumerate(entries)})
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = lambda s: {"content": s, "lstrip": False, "normalized": s == BOS, "rstrip": False, "single_word": False}
    dump("special_tokens_map.json", {"bos_token": special(BOS), "eos_token": special(EOS), "pad_token": EOS, "unk_token": special(EOS)})
    dump("tokenizer_config.json", {"add_prefix_space": False, "bos_token": special(BOS), "do_lower_case": True, "eos_token": special(EOS),
                                   "errors": "replace", "model_max_length": LENGTH, "pad_token": EOS,
                                   "tokenizer_class": "CLIPTokenizer", "unk_token": special(EOS)})
    tok = Tokenizer(folder)
    single = [w for w in {w for _, c, _ in concepts() for w in words(c)} if len(tok.word(w)) == 1]
    print(f"{len(entries)} entries; {len(single)} of {len({w for _, c, _ in concepts() for w in words(c)})} caption words are one token")
    for text in ("noto style, apple", "inkwell style, a blue whale", "Ünïcode 漢字 42", ""):
        print(repr(text), tok(text))


if __name__ == "__main__":
    main()
