"""Writes exact_match.json: what the exact-match evaluator must say, computed by Python alone.

    python tests/golden/plugins/exact_match.py        # the standard library is enough

For each set of options: pairs of a reference and a prediction, whether they match, and the accuracy
of the whole set.
"""

import itertools
import json
import pathlib
import random

OPTIONS = {
    "ignore_case": True,
    "ignore_punctuation": False,
    "ignore_whitespace": True,
    "ignore_final_period": True,
}
TEXTS = [
    "seven", "Seven", "SEVEN.", "seven!", "7", "seven  cats", "seven\tcats", "seven\ncats", " seven",
    "seven .", "seven..", "Straße", "STRASSE", "straße.", "ΟΔΟΣ", "οδος", "οδός", "Ана", "ана.",
    "中文。", "中文", "中文.", "😀", "😀 .", "it's", "its", "e.g. this", "eg this", "3.14", "314",
    "", ".", " . ", "a-b", "ab", "A B", "a b.", "İ", "i\u0307", "\u00a0seven\u3000",
]


def normalise(text, options):
    if options["ignore_case"]:
        text = text.lower()
    if options["ignore_punctuation"]:
        text = "".join(c for c in text if c.isalnum() or c.isspace())
    if options["ignore_whitespace"]:
        text = " ".join(text.split())
    if options["ignore_final_period"]:
        text = text.removesuffix(".").rstrip()
    return text


def main():
    chance = random.Random(3)
    groups = []
    for flags in itertools.product([False, True], repeat=len(OPTIONS)):
        options = dict(zip(OPTIONS, flags))
        # Only what differs from the default, so that defaults are tested too.
        given = {key: flag for key, flag in options.items() if flag != OPTIONS[key]}
        pairs = [(chance.choice(TEXTS), chance.choice(TEXTS)) for _ in range(25)]
        # Chance alone rarely draws texts that are nearly the same.
        pairs += [(a, b) for a, b in itertools.combinations(TEXTS, 2)
                  if normalise(a, dict.fromkeys(OPTIONS, True)) == normalise(b, dict.fromkeys(OPTIONS, True))]
        cases = [[a, b, normalise(a, options) == normalise(b, options)] for a, b in pairs]
        accuracy = sum(case[2] for case in cases) / len(cases)
        groups.append({"options": given, "cases": cases, "accuracy": accuracy})
    out = pathlib.Path(__file__).with_suffix(".json")
    out.write_text(json.dumps(groups, indent=0, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
