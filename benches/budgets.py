"""Training inside a byte budget, with limits that the system enforces (control groups, page cache
included), beside the plan:

    cargo build --release -p graft-benches
    python benches/budgets.py [--only 160m,1b1] [--folder target/bench-models]

Needs root, an idle machine and 30 GB of disk for all shapes; models with random weights are written
on first use. Prints a table in Markdown: most memory of the process (resident, mapped pages of
the model included), what the plan said, and the same of the seconds of an update.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BENCH = os.path.join(HERE, "..", "target", "release", "bench-memory")

# name, shape, tokens, learned, images, budget in MiB, limit in MiB, updates, options by hand
CASES = [
    ("160m, 512 tokens, no budget", "160m", 512, 512, 0, 0, None, 8, []),
    ("160m, 512 tokens", "160m", 512, 512, 0, 240, 256, 8, []),
    ("1b1, 512 tokens, no budget", "1b1", 512, 512, 0, 0, None, 4, []),
    ("1b1, 512 tokens", "1b1", 512, 512, 0, 400, 409, 4, []),
    ("1b1, streamed and computed twice", "1b1", 512, 512, 0, 0, None, 4, ["weights=disk", "kept=1"]),
    ("7b, an image and 128 tokens, no budget", "7b", 704, 64, 1, 0, None, 1, []),
    ("7b, streamed and computed twice", "7b", 704, 64, 1, 0, None, 1, ["weights=disk", "kept=1"]),
    ("7b, an image and 128 tokens", "7b", 704, 64, 1, 1500, 1536, 1, []),
    ("7b, an image and 128 tokens", "7b", 704, 64, 1, 1000, 1024, 1, []),
    ("13b, an image and 128 tokens", "13b", 704, 64, 1, 2480, 2560, 1, []),
]


def bench(what, case, folder, budget=None):
    """The figures of a plan or a run, or the sentence of a refusal."""
    _, shape, tokens, learned, images, own, limit, steps, more = case
    words = [BENCH, what, folder, shape, "Q4_K", tokens, learned, images, budget or own, steps, *more]
    command = [str(word) for word in words]
    if what == "run" and limit:
        command = [os.path.join(HERE, "limited.sh"), str(limit), *command]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    figures = [json.loads(line) for line in lines if line.startswith("{")]
    group = [line for line in lines if line.startswith("most memory in use")]
    if done.returncode or not figures:
        return None, (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return figures[0], group[0] if group else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="shapes, separated by commas")
    parser.add_argument("--folder", default=os.path.join(HERE, "..", "target", "bench-models"))
    options = parser.parse_args()
    shapes = set(filter(None, options.only.split(",")))
    print("| case | limit | planned | measured | ratio | predicted | update | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        if shapes and case[1] not in shapes:
            continue
        planned, said = bench("plan", case, options.folder)
        if planned is None:
            print(f"| {case[0]} | {case[6] or '-'} | {said} | | | | | |", flush=True)
            continue
        ran, said = bench("run", case, options.folder)
        if ran is None:
            print(f"| {case[0]} | {case[6] or '-'} | {planned['planned_mib']:.0f} | {said} | | | | |", flush=True)
            continue
        # The first update touches every page for the first time.
        seconds = statistics.median(ran["seconds"][1:] or ran["seconds"])
        memory = planned["planned_mib"] / ran["peak_mib"]
        time = planned["seconds"] / seconds
        limit = f"{case[6]} MiB" if case[6] else "-"
        print(
            f"| {case[0]} | {limit} | {planned['planned_mib']:.0f} MiB | {ran['peak_mib']:.0f} MiB | {memory:.2f} "
            f"| {planned['seconds']:.2f} s | {seconds:.2f} s | {time:.2f} |",
            flush=True,
        )
        print(
            f"  {case[0]}: anonymous {ran['anonymous_mib']:.0f} of {ran['planned_anonymous_mib']:.0f} MiB planned; "
            f"an image {ran['image_seconds']:.2f} s, {planned['image_seconds']:.2f} s predicted; {said}",
            file=sys.stderr,
            flush=True,
        )
        if case[5]:
            smallest = planned["smallest_mib"]
            refused, sentence = bench("plan", case, options.folder, int(smallest * 0.7))
            works, _ = bench("plan", case, options.folder, int(smallest) + 1)
            print(
                f"  {case[0]}: smallest budget {smallest:.0f} MiB {'works' if works else 'DOES NOT WORK'}, "
                f"30 % less is {'NOT refused' if refused else 'refused'}: {sentence}",
                file=sys.stderr,
                flush=True,
            )


if __name__ == "__main__":
    main()
