"""Writes science_qa.json: what the science-qa evaluator must say, computed by Python alone.

    python tests/golden/plugins/science_qa.py        # the standard library is enough

The letter is found by the rules of LLaVA's eval_science_qa.py, written down anew. The field `images` of a case
says how many images its sample has.
"""

import random
import re

import cases

LETTERS = "ABCDE"
ANSWERS = [
    "A", "B", "C", "D", "E", "F", "a", " B ", "B\n", "\tC", "C.", "C. ", "C. because", "C.because", "C because", "(C)",
    "The answer is A.", "The answer is B", "So The answer is D. Done.", "The answer is Apples", "the answer is C.",
    "The answer is  C.", "The answer is A and The answer is B.", "The answer is F. The answer is E",
    "The answer is The answer is D.", "The answer is ", "The answer is", "D\nThe answer is A.", "Because\nThe answer is A.",
    "BECAUSE: The answer is C.", "E. The answer is A.", "F. The answer is A.", "", " ", "\n", "A\n\nB", "Ａ", "А", "😀",
    "The answer is 中. The answer is B.", "\u00a0A\u00a0", "A\u001c", "AB", "A.", "A,", cases.Long("thinking ", 2000),
    cases.Long("The answer is ", 1500), cases.Long("The answer is F. ", 1000),
]


def letter(text):
    text = text.replace("\n", ". ")
    if text.strip() in list(LETTERS):
        return text.strip()
    if len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        return text[0]
    for pattern in [r"The answer is ([A-E])\.", r"The answer is ([A-E])"]:
        if found := re.search(pattern, text):
            return found.group(1)
    return None


def main():
    chance = random.Random(9)
    groups = []
    for options, count in [({}, 170), ({"answer": "right", "choices": "options", "by": "topic"}, 60)]:
        written = []
        scored = {"accuracy": [], "image-accuracy": [], "unparsed": []}
        by = options.get("by", "subject,grade").split(",")
        for index in range(count):
            choices = chance.randint(2, 5) if index % 4 else None
            right = chance.randrange(choices or 5)
            fields = {name: chance.choice(["natural science", "grade3", "語"]) for name in by if chance.random() < 0.7}
            if choices is not None:
                fields[options.get("choices", "choices")] = [f"choice {i}" for i in range(choices)]
            hoped = "unused"
            match index % 3:
                case 0:
                    hoped = chance.choice(["{}", "{}. so", "The answer is {}.", "Well,\nThe answer is {}"])
                    hoped = hoped.format(LETTERS[right])
                case 1:
                    fields[options.get("answer", "answer")] = right
                case 2:
                    fields[options.get("answer", "answer")] = LETTERS[right]
            if index % 2:
                fields["images"] = 1
            said = chance.choice(ANSWERS) if index % 5 else chance.choice([LETTERS[right], f"{LETTERS[right]}. x"])
            found = letter(said)
            chosen = LETTERS.index(found) if found else -1
            if chosen >= (choices or 5):
                chosen = -1
            value = float(chosen == right)
            scores = {"accuracy": value, "unparsed": float(chosen == -1)}
            if "images" in fields:
                scores["image-accuracy"] = value
            written.append([hoped, fields, said, scores])
            for name in scores:
                scored[name].append((fields if name == "accuracy" else {}, scores[name]))
        totals = {}
        for name, values in scored.items():
            totals |= cases.means(name, values, by)
        groups.append((options, written, totals))
    cases.write(__file__, groups)


if __name__ == "__main__":
    main()
