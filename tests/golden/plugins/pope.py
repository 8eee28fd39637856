"""Writes pope.json: what the pope evaluator must say, computed by Python alone.

    python tests/golden/plugins/pope.py        # the standard library is enough

The rules are those of LLaVA's eval_pope.py, written down anew. Where it divides by zero the value is 0.
"""

import random

import cases

ANSWERS = [
    "Yes", "No", "yes", "no", "YES", "NO", "Yes.", "No.", "Yes, there is.", "No, there is no dog.", "There is a dog.",
    "There is not a dog.", "There isn't a dog.", "Yes. There is no doubt.", "I think so, not sure", "No\nYes",
    "Yes\nno", "nothing", "none", "not", "n,o", ",no,", "no,", "Not here", "nO", "", " ", ".", ". no", "...", "a no b",
    "a\u00a0no b", "a\tno", "ΝΟ", "нет", "没有", "没有 no 没有", "😀 not 😀", "no.no", "yes.no", "No?", "no?",
    "it is no. Or yes", "Yes, no", cases.Long("yes and ", 3000), cases.Long("no ", 3000), cases.Long("x", 20000),
]


def says_yes(text):
    sentence = text.split(".")[0] if "." in text else text
    return not {"No", "not", "no"} & set(sentence.replace(",", "").split(" "))


def measures(pairs):
    both = [sum(pair == (said, so) for pair in pairs) for said in (True, False) for so in (True, False)]
    tp, fp, fn, tn = both
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"accuracy": (tp + tn) / len(pairs), "precision": precision, "recall": recall, "f1": f1,
            "yes-ratio": (tp + fp) / len(pairs)}


def main():
    chance = random.Random(2)
    groups = []
    for options, count, answers, labels in [
        ({}, 160, ANSWERS, ["yes", "no", "Yes", "No.", " no\n"]),
        ({"label": "truth", "by": "split,size"}, 50, ANSWERS, ["yes", "no"]),
        ({"by": ""}, 10, ["no"], ["yes", "no"]),
        ({"by": ""}, 10, ["no"], ["no"]),
    ]:
        written, of_part = [], {"": []}
        by = options.get("by", "category").split(",")
        for index in range(count):
            said, label = chance.choice(answers), chance.choice(labels)
            fields = {}
            for name in filter(None, by):
                if index % 7:
                    fields[name] = chance.choice(["random", "popular", "adversarial"])
            if index % 3:
                fields[options.get("label", "label")] = label
                hoped = "unused"
            else:
                hoped = label
            so = label.strip().lower().strip(".") == "yes"
            pair = (says_yes(said), so)
            scores = {"accuracy": float(pair[0] == so), "yes-ratio": float(pair[0])}
            written.append([hoped, fields, said, scores])
            for part in ["", *(f"[{name}={fields[name]}]" for name in by if name in fields)]:
                of_part.setdefault(part, []).append(pair)
        totals = {}
        for part, pairs in of_part.items():
            for name, value in measures(pairs).items():
                totals[name + part] = [value, len(pairs)]
        groups.append((options, written, totals))
    cases.write(__file__, groups)


if __name__ == "__main__":
    main()
