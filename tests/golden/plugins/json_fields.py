"""Writes json_fields.json: what the json-fields evaluator must say, computed by Python alone.

    python tests/golden/plugins/json_fields.py        # the standard library is enough

The rules are those of docs/evaluators.md: Python's own JSON reader, flattened to (path, value) pairs that are
counted as multisets.
"""

import collections
import json
import random
import re

import cases


def read(text):
    """The value; None if the text is no JSON. Null has no fields, like an empty object."""
    def refuse(word):
        raise ValueError(word)

    try:
        value = json.loads(text, parse_constant=refuse, parse_int=float, parse_float=float)
    except (ValueError, RecursionError):
        return None
    return {} if value is None else value


def leaves(value, path=""):
    if isinstance(value, dict):
        for name, member in value.items():
            yield from leaves(member, f"{path}/{name.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, path + "/*")
    elif value is not None:
        yield path, value


def exact(value):
    return (type(value).__name__, value)


def normalised(value):
    if isinstance(value, bool):
        return ("str", "true" if value else "false")
    if isinstance(value, float):
        return ("float", value)
    text = " ".join(value.lower().split())
    if re.fullmatch(r"[+-]?([0-9]+|[0-9]{1,3}(,[0-9]{3})+)(\.[0-9]+)?", text):
        return ("float", float(text.replace(",", "")))
    return ("str", text)


def compare(hoped, given, how):
    """(right, hoped, given, missing, extra) of each path."""
    counts = {}
    tallies = []
    for value in (hoped, given):
        tally = collections.defaultdict(collections.Counter)
        for path, leaf in leaves(value):
            tally[path][how(leaf)] += 1
        tallies.append(tally)
    for path in tallies[0].keys() | tallies[1].keys():
        mine, theirs = tallies[0][path], tallies[1][path]
        n, m = mine.total(), theirs.total()
        counts[path] = ((mine & theirs).total(), n, m, max(n - m, 0), max(m - n, 0))
    return counts


def added(tuples):
    return tuple(map(sum, zip((0, 0, 0, 0, 0), *tuples)))


def prf(counts):
    right, n, m = counts[:3]
    precision = right / m if m else float(n == 0)
    recall = right / n if n else float(m == 0)
    f1 = 2 * right / (n + m) if n + m else 1.0
    return f1, precision, recall


def metrics(norm, exac, documents, perfect, malformed):
    names = ["f1", "precision", "recall"]
    out = dict(zip(names, prf(norm)))
    out |= dict(zip(["exact-" + name for name in names], prf(exac)))
    return out | {"perfect-documents": perfect / documents, "missing": norm[3], "extra": norm[4], "malformed": malformed}


def unfenced(text):
    found = re.fullmatch(r"```([^`\n]*)\n(.*)```", text.strip(), re.DOTALL)
    return found.group(2) if found else text


SCALARS = ["ACME Corp", "acme  corp", "Acme Corp ", 42, 42.0, "42", "42.00", "1,234.50", 1234.5, "1,23", True, "TRUE", False,
           None, "", " ", "Straße", "STRASSE", "ΟΔΟΣ", "οδος", "中文", "😀", "1 May 1999", 1e300, -0.0, 0, "+7", 7, "007",
           "a\u00a0b", "a b", "x\u001cy", "x y", "line\nbreak", "line break", "١٢", 12, "null", "½"]
NAMES = ["total", "vendor", "date", "a/b", "~tilde", "", "größe", "名前", "items", "name" * 14, "meta"]


def value(chance, depth=0):
    kind = chance.random()
    if depth < 2 and kind < 0.2:
        return {chance.choice(NAMES[-4:]): value(chance, depth + 1) for _ in range(chance.randint(0, 4))}
    if depth < 2 and kind < 0.35:
        return [value(chance, depth + 1) for _ in range(chance.randint(0, 4))]
    return chance.choice(SCALARS)


def document(chance):
    record = {name: value(chance) for name in chance.sample(NAMES, chance.randint(0, 7))}
    if chance.random() < 0.5:
        record["rows"] = [{"name": chance.choice(SCALARS), "price": chance.choice(SCALARS)}
                          for _ in range(chance.randint(0, 5))]
    return record


def altered(thing, chance):
    if isinstance(thing, dict):
        out = {name: altered(member, chance) for name, member in thing.items() if chance.random() > 0.1}
        if chance.random() < 0.15:
            out[chance.choice(NAMES)] = chance.choice(SCALARS)
        return out
    if isinstance(thing, list):
        out = [altered(item, chance) for item in thing if chance.random() > 0.1]
        chance.shuffle(out)
        return out
    return thing if chance.random() < 0.75 else chance.choice(SCALARS)


BROKEN = ["", "none", "{", "{\"a\": 1,}", "[1 2]", "{'a': 1}", "01", "1.", "NaN", "[Infinity]", "\"a\tb\"", "{\"a\": 1} and",
          "Here it is: {\"total\": 42}", "```json\n{\"total\": 42}", "\ufeff{}", "{\"a\": .5}", "\"\\x\"", "tru", "-",
          cases.Long("[", 100000), cases.Long("{\"a\":", 30000)]
WHOLE = ["null", "7", "\"text\"", "[]", "{}", "{\"total\": 1, \"total\": 42}", " {\"total\":42}\n", "[[[1]]]",
         "{\"\\u0074otal\": \"\\u0034\\u0032\"}", "{\"a\": 1E2, \"b\": -1.5e-3}", "[" + "1," * 300 + "1]", "\"" + "x" * 500 + "\""]


def main():
    chance = random.Random(8)
    groups = []
    for options, count in [({}, 170), ({"fences": False, "by": "kind"}, 60)]:
        written = []
        everything = {"": []}
        paths = {"normalised": collections.defaultdict(list), "exact": collections.defaultdict(list)}
        for index in range(count):
            text = json.dumps(document(chance), ensure_ascii=index % 2 == 0, indent=None if index % 3 else 2)
            if index % 19 == 5:
                text = chance.choice(WHOLE)
            hoped = read(text)
            match index % 8:
                case 0:
                    said = text
                case 1:
                    said = chance.choice(BROKEN)
                case 2:
                    said = chance.choice(WHOLE)
                case 3:
                    said = chance.choice(["```json\n{}\n```", "```\n{}```\n", " ```\n{}\n``` ", "```{}```", "x```\n{}\n```"])
                    said = said.format(json.dumps(altered(hoped, chance))) if "{}" in said else said
                case _:
                    said = json.dumps(altered(hoped, chance), ensure_ascii=index % 3 == 0)
            given = read(said if options.get("fences") is False else unfenced(said))
            fields = {"kind": chance.choice(["invoice", "receipt"])} if index % 5 else {}
            counts = {"normalised": compare(hoped, given, normalised), "exact": compare(hoped, given, exact)}
            norm, exac = (added(counts[how].values()) for how in ("normalised", "exact"))
            malformed = given is None
            perfect = not malformed and norm[0] == norm[1] == norm[2]
            written.append([text, fields, said, metrics(norm, exac, 1, perfect, int(malformed))])
            for part in ["", *(f"[kind={fields['kind']}]" for _ in range(1) if "by" in options and fields)]:
                everything.setdefault(part, []).append((norm, exac, perfect, malformed))
            for how, of_path in counts.items():
                for path, count_ in of_path.items():
                    # Names of parts are cut.
                    paths[how][path if len(path) <= 60 else path[:60] + "…"].append(count_)
        totals = {}
        for part, documents in everything.items():
            norm, exac, perfect, malformed = zip(*documents)
            values = metrics(added(norm), added(exac), len(documents), sum(perfect), sum(malformed))
            totals |= {name + part: [number, len(documents)] for name, number in values.items()}
        for path, counts in paths["normalised"].items():
            counts = added(counts)
            if counts[1]:
                f1, precision, recall = prf(counts)
                named = f"[field={path}]"
                values = {"f1": f1, "precision": precision, "recall": recall, "exact-f1": prf(added(paths["exact"][path]))[0]}
                totals |= {name + named: [number, counts[1]] for name, number in values.items()}
        groups.append((options, written, totals))
    cases.write(__file__, groups)


if __name__ == "__main__":
    main()
