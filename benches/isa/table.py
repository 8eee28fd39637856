#!/usr/bin/env python3
"""What kernels of products cost on an AMD card that is not here, counted from the code its driver compiles.

usage: table.py <card> <f32|dot4> <quant type> [...]      card as RADV_FORCE_FAMILY takes it: POLARIS10, NAVI23, ...

Runs the example `products` of graft-gpu with Mesa's driver (Linux on x86-64; mesa-vulkan-drivers, cc) and counts the
instructions of each kernel's largest loop. Loops inside it are the tails of arrays, which are as good as never run,
and are left out, or if they multiply are what was not unrolled: the four steps of a tile, or of 32 weights, and for
dot4 the runs of weights that share a scale. Both sides of a branch are counted. In a round of the loop a thread takes
64 weights of a few tokens, or 16 products for each of its outputs of many, 32 for dot4.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
DRIVER = "/usr/lib/x86_64-linux-gnu/libvulkan_radeon.so"
STEPS = 4
# Types of which 16 weights share a scale.
SHORT_RUNS = ["Q2_K", "Q3_K", "Q6_K"]
CLASSES = {
    "fma": r"v_(pk_)?(fma|fmac|mad|mac)_(f32|legacy|mix)",
    "dot": r"v_dot4",
    "valu": r"v_",
    "lds": r"ds_",
    "load": r"(buffer|global|flat)_load",
    "salu": r"s_",
}


def compiled(card, arithmetic, types):
    folder = TARGET / "isa"
    folder.mkdir(parents=True, exist_ok=True)
    library, manifest = folder / "null_driver.so", folder / "null_driver.json"
    source = Path(__file__).with_name("null_driver.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    manifest.write_text(
        '{"file_format_version": "1.0.0", "ICD": {"api_version": "1.3.230", "library_path": "%s"}}' % library
    )
    build = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "graft-gpu", "--example", "products"]
    subprocess.run(build, check=True, cwd=ROOT)
    environment = os.environ | {
        "RADV_FORCE_FAMILY": card,
        "RADV_LIBRARY": DRIVER,
        "RADV_DEBUG": "shaders,shaderstats",
        "MESA_SHADER_CACHE_DISABLE": "1",
        "NODEVICE_SELECT": "1",
        "VK_ICD_FILENAMES": str(manifest),
    }
    program = TARGET / "release/examples/products"
    run = subprocess.run([program, "radv", arithmetic, *types], env=environment, stderr=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr[-2000:])
    return run.stderr.split("\n## ")[1:]


def blocks(text):
    """Names of basic blocks, and their instructions."""
    listing, found = text.rsplit("\nBB0:\n", 1)[-1], [("BB0", [])]
    for line in listing.splitlines():
        if re.fullmatch(r"BB\d+:", line):
            found.append((line[:-1], []))
        elif line.startswith("\t"):
            found[-1][1].append(line.split(";")[0].strip())
        elif not line:
            break
    return found


def steps(arithmetic, quant):
    """How often what multiplies inside the largest loop is done."""
    return STEPS if arithmetic == "f32" else 1 + (quant in SHORT_RUNS)


def steady(found, many):
    """Instructions of the largest loop; what multiplies inside it is done so many times."""
    place = {name: i for i, (name, _) in enumerate(found)}
    loops = set()
    for i, (_, instructions) in enumerate(found):
        for instruction in instructions:
            target = re.match(r"s_c?branch\w* (BB\d+)", instruction)
            if target and place[target[1]] <= i:
                loops.add((place[target[1]], i))
    if not loops:
        return []

    def of(loop):
        return [one for i in range(loop[0], loop[1] + 1) for one in found[i][1]]

    largest = max(loops, key=lambda loop: len(of(loop)))
    times = dict.fromkeys(range(largest[0], largest[1] + 1), 1)
    for first, last in loops:
        if largest[0] < first and last <= largest[1]:
            products = f"{CLASSES['fma']}|{CLASSES['dot']}"
            multiplies = sum(bool(re.match(products, one)) for one in of((first, last)))
            for i in range(first, last + 1):
                times[i] = many if multiplies >= 8 else 0
    return [one for i, often in times.items() for one in found[i][1] * often]


def count(instructions):
    counts = dict.fromkeys([*CLASSES, "wait"], 0)
    for instruction in instructions:
        if instruction.startswith("s_waitcnt"):
            counts["wait"] += 1
            continue
        for name, pattern in CLASSES.items():
            if re.match(pattern, instruction):
                counts[name] += 1
                break
    return counts


def number(text, name):
    found = re.search(rf"^{name}: (\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    names = ["VGPRs", "Spilled VGPRs", "LDS size", "Subgroups per SIMD", "Instructions", "Inverse Throughput"]
    heads = ["vgpr", "spilled", "lds", "waves", "all", "inverse", "loop", *CLASSES, "wait"]
    print(f"{'kernel':32}" + "".join(f"{head:>8}" for head in heads))
    for text in compiled(sys.argv[1], sys.argv[2], sys.argv[3:]):
        if "SHADER STATS" not in text:
            continue
        _, arithmetic, quant, _ = text.splitlines()[0].split()
        instructions = steady(blocks(text), steps(arithmetic, quant))
        values = [number(text, name) for name in names] + [len(instructions), *count(instructions).values()]
        print(f"{text.splitlines()[0]:32}" + "".join(f"{value:>8}" for value in values))


if __name__ == "__main__":
    main()
