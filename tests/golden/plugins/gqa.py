"""Writes gqa.json: what the gqa evaluator must say, computed by Python alone.

    python tests/golden/plugins/gqa.py        # the standard library is enough

The measures are those of GQA's eval.py, written down anew, over predictions as LLaVA's
convert_gqa_for_eval.py hands them to it. The field `id` of a case is the id of its sample.
"""

import collections
import random

import cases

GOLD = ["yes", "no", "red", "blue", "table", "left", "café", "color", "shape", "material", "größe", "帽子"]
KINDS = [("query", "rel"), ("verify", "obj"), ("choose", "attr"), ("logical", "obj"), ("compare", "attr"), ("query", "cat")]
STEPS = [("select", "cup (1)"), ("relate", "cup,on,s (2)"), ("exist", "?"), ("query", "name"), ("choose name", "a|b"),
         ("query", "color"), ("filter color", "red"), ("verify rel", "existing,on")]


def spoken(answer, chance):
    ways = ["{}", "{}.", "{}..", " {}", "{} .", "The {}", "{}!"]
    text = chance.choice(ways[:3] + [chance.choice(ways)]).format(answer)
    return chance.choice([text, text.upper(), text.capitalize()])


def plain(text):
    return text.rstrip(".").lower()


def chi_square(gold, predicted):
    weighted = overall = 0
    for group, hoped in gold.items():
        statistic = sum((predicted[group][answer] - n) ** 2 / n for answer, n in hoped.items())
        weighted += statistic * sum(hoped.values())
        overall += sum(hoped.values())
    return weighted / overall / 100, overall


def main():
    chance = random.Random(4)
    groups = []
    for options, count in [({}, 130), ({"consistency": True, "answer": "gold"}, 110), ({"normalise": False, "by": ""}, 30)]:
        alike = plain if options.get("normalise", True) else str
        asked = []
        for index in range(count):
            structural, semantic = chance.choice(KINDS)
            fields = {"id": f"q{index}"}
            gold = chance.choice(GOLD)
            if index % 6:
                detailed = "twoCommon" if structural == "compare" else semantic + "S"
                fields["types"] = {"structural": structural, "semantic": semantic, "detailed": detailed}
                fields["question"] = "Is it\u00a0there " + "or not " * chance.randint(0, 3) + "?"
                program = [chance.choice(STEPS) for _ in range(chance.randint(0, 5))]
                fields["semantic"] = [{"operation": o, "argument": a, "dependencies": []} for o, a in program]
                fields["groups"] = {"global": chance.choice(["color", "place", None]), "local": "x"}
                fields["isBalanced"] = index % 5 != 0
                others = [f"q{chance.randrange(count)}" for _ in range(chance.randint(0, 4))]
                fields["entailed"] = others + [f"q{index}"] * (index % 2)
            if index % 4:
                fields["valid"] = chance.sample(GOLD, 6)
                fields["plausible"] = chance.sample(GOLD, 3)
            said = spoken(chance.choice([gold, gold, chance.choice(GOLD)]), chance)
            if index % 17 == 3:
                said = chance.choice(["", "...", cases.Long("red ", 4000), "😀"])
            if options.get("answer"):
                fields[options["answer"]] = gold
            asked.append((gold, fields, said))
        right = {fields["id"]: alike(gold) == alike(said) for gold, fields, said in asked}
        written, scored, consistent = [], collections.defaultdict(list), []
        dist = {which: collections.defaultdict(collections.Counter) for which in ("gold", "predicted")}
        for gold, fields, said in asked:
            scores = {}
            if fields.get("isBalanced", True):
                scores["accuracy"] = float(right[fields["id"]])
                labels = {}
                if "types" in fields:
                    scores["open" if fields["types"]["structural"] == "query" else "binary"] = scores["accuracy"]
                    labels["words"] = len(fields["question"].split())
                    steps = [f"{step['operation']}: {step['argument']}" for step in fields["semantic"]]
                    last = ("exist", "query: name", "choose name")
                    labels["steps"] = sum(not any(name in step for name in last) for step in steps)
                    labels |= {"types.structural": {}, "types.semantic": {}} | {"types": fields["types"]}
                for metric, name in [("validity", "valid"), ("plausibility", "plausible")]:
                    if name in fields:
                        common = "Common" in fields.get("types", {}).get("detailed", "")
                        group = ["color", "material", "shape"] if common else fields[name]
                        scores[metric] = float(alike(said) in group)
                for metric, value in scores.items():
                    scored[metric].append((labels if metric == "accuracy" else {}, value))
                if (group := fields.get("groups", {}).get("global")) is not None:
                    dist["gold"][group][alike(gold)] += 1
                    dist["predicted"][group][alike(said)] += 1
                others = [other for other in fields.get("entailed", []) if other != fields["id"]]
                if right[fields["id"]] and others and options.get("consistency"):
                    consistent.append(sum(right[other] for other in others) / len(others))
            hoped = "unused" if options.get("answer") else gold
            written.append([hoped, fields, said, scores])
        by = ["words", "steps"] + ([] if "by" in options else ["types.structural", "types.semantic"])
        totals = {}
        for metric, values in scored.items():
            totals |= cases.means(metric, values, by)
        if consistent:
            totals["consistency"] = [sum(consistent) / len(consistent), len(consistent)]
        totals["distribution"] = list(chi_square(dist["gold"], dist["predicted"]))
        groups.append((options, written, totals))
    cases.write(__file__, groups)


if __name__ == "__main__":
    main()
