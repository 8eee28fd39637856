"""Writes the demo's labelled data: scanned handwritten digits as PNG, annotated in UBIAI exports.

The images are the 8 x 8 scans bundled with scikit-learn (Optical Recognition of Handwritten
Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0), unchanged but
for their grey levels (0..16 becomes 0..255). The exports are relation JSON: one document an
image, a QUESTION and an ANSWER span, and the relation that links them.

    pip install scikit-learn pillow numpy
    python digits.py OUT_FOLDER
"""

import json
import os
import re
import sys

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SEED = 7
TRAIN, HELD_OUT = 1400, 200
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
QUESTIONS = ["What is written here?"]


def span(text, part, label, begin):
    """A labelled span with character offsets (end exclusive) and token indices (end inclusive)."""
    tokens = [m.span() for m in re.finditer(r"\w+|[^\w\s]", text)]
    start = text.index(part, begin)
    end = start + len(part)
    inside = [i for i, (a, b) in enumerate(tokens) if a >= start and b <= end]
    return {"text": part, "start": start, "end": end, "token_start": inside[0], "token_end": inside[-1],
            "entityLabel": label}


def document(name, question, answer):
    text = f"{question} {answer}"
    asked = span(text, question, "QUESTION", 0)
    said = span(text, answer, "ANSWER", asked["end"])
    return {"document": text, "documentName": name, "tokens": [asked, said],
            "relations": [{"child": said["token_start"], "head": asked["token_start"], "relationLabel": "ANSWERED_BY"}]}


def main(folder):
    digits = load_digits()
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(digits.images))
    sets = {"held-out": order[700:700 + HELD_OUT], "train": np.delete(order, range(700, 700 + HELD_OUT))[:TRAIN]}
    for name, chosen in sets.items():
        images = os.path.join(folder, name, "images")
        os.makedirs(images, exist_ok=True)
        documents = []
        for index in chosen:
            file = f"digit_{index:04}.png"
            pixels = np.round(digits.images[index] * 255 / 16).astype(np.uint8)
            Image.fromarray(pixels).save(os.path.join(images, file), optimize=True)
            question = QUESTIONS[rng.integers(len(QUESTIONS))]
            documents.append(document(file, question, WORDS[digits.target[index]]))
        with open(os.path.join(folder, name, "export.json"), "w") as out:
            json.dump(documents, out, indent=1)
            out.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
