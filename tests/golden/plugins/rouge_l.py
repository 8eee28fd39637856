"""Writes rouge_l.json: what the rouge-l evaluator must say, computed by google-research's rouge_score.

    pip install rouge-score==0.1.2
    python tests/golden/plugins/rouge_l.py
"""

import random

from rouge_score import rouge_scorer

import cases

TEXTS = [
    "the cat sat on the mat", "The cat, on the mat, sat.", "the the the the", "a cat is on a mat", "THE CAT", "cat",
    "It's 3.5 metres", "its 35 metres", "It s 3 5 metres", "", " ", "?!", "中文 文档", "中文 cat 文档", "Straße cat",
    "stra e cat", "naïve café", "na ve caf", "İ", "i", "\u212a2", "k2", "ſs", "x_y-z", "x y z", "x\u001cy\nz",
    "running runs ran", "run run run", "1 2 3 4 5 6 7 8 9 10", "10 9 8 7 6 5 4 3 2 1", "٣ ٤", "😀 cat 😀",
    "one two three four five six seven eight nine ten eleven twelve", "two four six eight ten twelve",
    "twelve eleven ten nine eight seven six five four three two one",
    cases.Long("the cat sat ", 70), cases.Long("cat the mat ", 75), cases.Long("a b c d e f g ", 40),
    cases.Long("g f e d c b a ", 40), cases.Long("one ", 200),
]


def main():
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    chance = random.Random(7)
    vocabulary = "the cat sat on a mat 7 and then it left for good".split()
    groups = []
    for options, count in [({}, 170), ({"answers": "captions", "by": "kind"}, 60)]:
        written = []
        scored = {name: [] for name in ("rougeL", "rougeL-precision", "rougeL-recall")}
        for index in range(count):
            def draw():
                if index % 3:
                    return chance.choice(TEXTS)
                return " ".join(chance.choice(vocabulary) for _ in range(chance.randint(1, 90)))

            hoped, said = draw(), draw()
            answers = [hoped]
            fields = {"kind": "ab"[index % 2]} if index % 4 else {}
            if index % 5:
                answers += [draw() for _ in range(index % 4)]
                chance.shuffle(answers)
                fields[options.get("answers", "answers")] = answers
            best = scorer.score_multi(answers, said)["rougeL"]
            values = {"rougeL": best.fmeasure, "rougeL-precision": best.precision, "rougeL-recall": best.recall}
            written.append([hoped, fields, said, values])
            for name, value in values.items():
                scored[name].append((fields, value))
        by = options.get("by", "").split(",") if "by" in options else []
        totals = {}
        for name, values in scored.items():
            totals |= cases.means(name, values, by)
        groups.append((options, written, totals))
    cases.write(__file__, groups)


if __name__ == "__main__":
    main()
