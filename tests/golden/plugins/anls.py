"""Writes anls.json: what the anls evaluator must say, computed by Python alone.

    python tests/golden/plugins/anls.py        # the standard library is enough

The rules are those of the evaluation of DocVQA and InfographicVQA (Robust Reading Competition), written down
anew: the distance is between lower-cased texts with single blanks, and a share of the longer of the two raw
texts in upper case.
"""

import functools
import random

import cases


def distance(a, b):
    """By the definition, over prefixes."""
    a, b = a[: len(a)], b[: len(b)]
    table = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(table[-1][j] + 1, row[-1] + 1, table[-1][j - 1] + (x != y)))
        table.append(row)
        del table[:-1]
    return table[-1][-1]


distance = functools.lru_cache(None)(distance)


def anls(answers, said, threshold):
    values = []
    for answer in answers:
        pair = [" ".join(text.lower().split()) for text in (answer, said)]
        length = max(len(answer.upper()), len(said.upper()))
        values.append(distance(*pair) / length if length else 0.0)
    result = 1 - min(values)
    return 0.0 if result < threshold else result


WORDS = [
    "1 May 1999", "1st May, 1999", "May 1", "ACME Corp.", "acme corp", "ACME  Corporation", "$1,284.50", "1284.50",
    "1,284.50", "", " ", "a", "A", "ab", "ba", "abcd", "abxy", "abcx", "axyz", "Straße", "STRASSE", "strasse", "maß",
    "ﬁnal", "final", "ﬁ", "İstanbul", "istanbul", "ŉ", "ΟΔΟΣ", "οδός", "οδος", "中文档案", "中文", "😀😀", "😀",
    "e\u0301te\u0301", "été", "tab\tand\u00a0blank", "tab and blank", "x\u001cy", "x y", "  many   blanks  ",
    "many blanks", "\n\n", "word word word word word word word word word word word word word word word word",
    cases.Long("lorem ipsum ", 60), cases.Long("ipsum lorem ", 60), cases.Long("ab", 400), cases.Long("ab", 799),
    cases.Long("é中", 300), cases.Long(" ", 500),
]
TYPES = [["table/list"], ["layout", "free_text"], ["form"], None]


def damaged(text, chance):
    """`text` as a bad reader of print would give it back."""
    letters = list(text)
    for _ in range(chance.randint(0, 1 + len(letters) // 3)):
        at = chance.randint(0, len(letters))
        match chance.randint(0, 2):
            case 0:
                letters.insert(at, chance.choice("abé中 ß1"))
            case 1 if letters:
                del letters[at % len(letters)]
            case _ if letters:
                letters[at % len(letters)] = chance.choice("xyzÄ.ŉ")
    return "".join(letters)


def main():
    chance = random.Random(11)
    groups = []
    for options, count in [({}, 160), ({"threshold": 0.8, "answers": "right"}, 50), ({"threshold": 0, "by": ""}, 50)]:
        written, scored = [], []
        for index in range(count):
            hoped = chance.choice(WORDS)
            answers = [hoped, *(chance.choice(WORDS) for _ in range(index % 4))]
            said = chance.choice(answers + [chance.choice(WORDS)])
            if index % 2 and len(said) < 100:
                said = damaged(said, chance)
            fields = {}
            if (types := TYPES[index % len(TYPES)]) is not None:
                fields["question_types"] = types
            if index % 5:
                fields[options.get("answers", "answers")] = answers
            else:
                answers = [hoped]
            value = anls(answers, said, options.get("threshold", 0.5))
            written.append([hoped, fields, said, {"anls": value}])
            scored.append((fields, value))
        by = [] if "by" in options else ["question_types"]
        groups.append((options, written, cases.means("anls", scored, by)))
    cases.write(__file__, groups)


if __name__ == "__main__":
    main()
