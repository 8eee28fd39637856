"""How the recipes of the evaluators write down their cases.

A file is a list of groups: {"options", "cases", "totals"}. A case is [reference, fields, said, scores]: the
answer hoped for (null for none), the record's further fields, what the model said, and what each metric must
be for this answer (null: the answer cannot be scored). `totals` has value and weight of every metric of the
whole set. A long text is {"of": text, "times": count}.
"""

import json
import pathlib


class Long(str):
    """A text that is written as what it repeats."""

    def __new__(cls, of, times):
        self = super().__new__(cls, of * times)
        self.of, self.times = of, times
        return self


def plain(value):
    if isinstance(value, Long):
        return {"of": value.of, "times": value.times}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def write(recipe, groups):
    """`groups` are (options, cases, totals); the file is called as the recipe."""
    lines = []
    for options, cases, totals in groups:
        head = json.dumps({"options": options, "totals": totals}, sort_keys=True)
        body = ",\n".join(json.dumps(plain(case)) for case in cases)
        lines.append(f'{head[:-1]}, "cases": [\n{body}]}}')
    path = pathlib.Path(recipe).with_suffix(".json")
    path.write_text("[" + ",\n".join(lines) + "]\n")
    count = sum(len(cases) for _, cases, _ in groups)
    print(f"{path.name}: {count} cases, {path.stat().st_size} bytes")
    assert count >= 200


def means(metric, scored, by=()):
    """Means over (fields, value), of all and of every value of the fields named in `by`."""
    sums = {}
    for fields, value in scored:
        names = [metric]
        for attribute in by:
            found = fields
            for key in attribute.split("."):
                found = found.get(key) if isinstance(found, dict) else None
            values = found if isinstance(found, list) else [] if found is None else [found]
            names += [f"{metric}[{attribute}={one}]" for one in dict.fromkeys(map(str, values))]
        for name in names:
            sums.setdefault(name, []).append(value)
    return {name: [sum(values) / len(values), len(values)] for name, values in sums.items()}
