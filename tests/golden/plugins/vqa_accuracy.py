"""Writes vqa_accuracy.json: what the vqa-accuracy evaluator must say, computed by Python alone.

    python tests/golden/plugins/vqa_accuracy.py        # the standard library is enough

The rules are those of the official evaluation (GT-Vision-Lab/VQA, vqaEval.py), written down anew: regular
expressions and a table of contractions made from the contractions themselves.
"""

import itertools
import random
import re

import cases

REGULAR = """ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll
how's I'm I've isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't
should've shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd
there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's
where'd where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll
you're you've""".split()
DOUBLE = """couldn't've hadn't've he'd've I'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
something'd've there'd've they'd've we'd've who'd've wouldn't've you'd've""".split()
NUMBERS = dict(zip("zero one two three four five six seven eight nine ten".split(), map(str, range(11))), none="0")
MARKS = list(";/[]\"{}()=+\\_-><@`,?!")


def contractions():
    table = {whole.replace("'", ""): whole for whole in REGULAR}
    for whole in DOUBLE:
        first, second, third = whole.split("'")
        table[f"{first}{second}'{third}"] = whole
        table[f"{first}'{second}{third}"] = whole
    for spelling in ["ow's'at", "'ows'at", "'ow'sat"]:
        table[spelling] = "'ow's'at"
    table["somebody'd"] = "somebodyd"
    for spelling in ["yall'll", "y'allll"]:
        table[spelling] = "y'all'll"
    for spelling in ["yall'd've", "y'alld've", "y'all'dve"]:
        table[spelling] = "y'all'd've"
    return table


CONTRACTIONS = contractions()


def punctuation(text):
    out = text
    for mark in MARKS:
        alone = mark + " " in text or " " + mark in text
        out = out.replace(mark, "" if alone or re.search(r"\d,\d", text) else " ")
    # The script hands re.UNICODE, 32, to the parameter `count`.
    return re.sub(r"\.(?!\d)", "", out, count=32)


def words(text):
    kept = [NUMBERS.get(word, word) for word in text.lower().split()]
    kept = [word for word in kept if word not in ("a", "an", "the")]
    return " ".join(CONTRACTIONS.get(word, word) for word in kept)


def accuracy(people, said, always):
    clean = lambda text: text.replace("\n", " ").replace("\t", " ").strip()
    people, said = [clean(answer) for answer in people], clean(said)
    if always or len(set(people)) > 1 or len(people) == 1:
        people = [words(punctuation(answer)) for answer in people]
        said = words(punctuation(said))
    if len(people) == 1:
        return float(people[0] == said)
    each = []
    for left_out in range(len(people)):
        others = people[:left_out] + people[left_out + 1:]
        each.append(min(1, sum(answer == said for answer in others) / 3))
    return sum(each) / len(each)


ANSWERS = [
    "yes", "Yes.", "no", "NO!", "two", "2", "a red car", "Red car", "the  red   car", "red-car", "red - car", "1,000",
    "1000", "1,000 red-cars", "10,000 people, maybe", "3.5", "3.", ".5", "U.S.A.", "usa", "yes/no", "yes / no",
    "dont know", "don't know", "DONT KNOW", "im", "I'm", "somebody'd", "somebodyd", "y'alld've", "'ow'sat", "12:30",
    "$5.00", "(left)", "[left]", "left", "ten, eleven", "10 eleven", "none", "0", "zero", "an apple and the orange",
    "apple orange", "...", "", " ", "8 o'clock", "8 oclock", "black & white", "it's", "its", "Coca-Cola", "coca cola",
    "7,up", "7 up", "@home", "home", "e.g. this", "eg this", "a", "The", "thé", "Straße", "STRASSE", "ΟΔΟΣ", "οδος",
    "中文。", "中文", "😀", "😀.", "٣,٤ x-y", "٣٤ xy", "२.५", "½,½ a-b", "²,² a-b", "a\u00a0b", "a b", "a\u1680b",
    "x\u001cy", "x y", "tab\there", "line\nhere", "İstanbul", "i\u0307stanbul", "we've", "weve", "wouldnt've",
    "shed've", "shes", "?!", "a?b!c", "a ?b!c", "no.1", "no 1", "a.b.c", "a. b. c.", "`q`", "q", "wasnt", "wont",
    cases.Long(".", 40), cases.Long("a.b ", 50), cases.Long("word, ", 3000), cases.Long("7,", 2000),
]
KINDS = [("what color", "other"), ("how many", "number"), ("is the", "yes/no"), (None, "other"), (None, None)]


def main():
    chance = random.Random(5)
    groups = []
    for options, count in [({}, 150), ({"normalise": "always"}, 60), ({"answers": "labels", "by": "answer_type"}, 40)]:
        written, scored = [], []
        name = options.get("answers", "answers")
        alike = {}
        for text in ANSWERS:
            alike.setdefault(words(punctuation(text.strip())), []).append(text)
        pairs = [pair for same in alike.values() for pair in itertools.permutations(same, 2)]
        for index in range(count):
            said, other = chance.choice(pairs) if index % 2 else (chance.choice(ANSWERS), chance.choice(ANSWERS))
            agreeing = index % 12
            people = [chance.choice([said, other]) for _ in range(min(agreeing, 10))]
            people += [chance.choice(ANSWERS) for _ in range(10 - len(people))]
            match index % 10:
                case 3:  # everybody says the same
                    people = [other] * 10
                case 5:  # fewer people than usual
                    people = people[: 1 + index % 4]
            chance.shuffle(people)
            fields = {}
            question, kind = KINDS[index % len(KINDS)]
            if question is not None:
                fields["question_type"] = question
            if kind is not None:
                fields["answer_type"] = kind
            hoped = other
            if index % 10 == 7:  # the record has one answer
                people = [other]
            elif index % 3:
                fields[name] = list(people)
            else:
                fields[name] = [{"answer": answer, "answer_id": i} for i, answer in enumerate(people)]
            value = accuracy(people, said, options.get("normalise") == "always")
            written.append([hoped, fields, said, {"accuracy": value}])
            scored.append((fields, value))
        by = options.get("by", "question_type,answer_type").split(",")
        groups.append((options, written, cases.means("accuracy", scored, by)))
    cases.write(__file__, groups)


if __name__ == "__main__":
    main()
