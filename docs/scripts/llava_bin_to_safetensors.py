"""Turns what LLaVA's own trainer leaves after a LoRA run into files that graft reads.

    pip install torch safetensors numpy gguf
    python llava_bin_to_safetensors.py checkpoints/llava-v1.5-7b-task-lora -o task --mmproj mmproj.gguf
    graft adapter import task -m llava.gguf -o task.gguf
    graft chat -m llava.gguf --mmproj task/mmproj.gguf --adapter task.gguf

The run leaves adapter_config.json, adapter_model.bin and non_lora_trainables.bin, or after the first
phase mm_projector.bin alone. The .bin files are pickles, which can run code when they are read
carelessly; they are read here with weights_only, which refuses anything but tensors. The new folder
gets

    adapter_config.json, adapter_model.safetensors   the adapter, as PEFT saves it today
    mmproj.gguf                                      the file given with --mmproj, with the trained
                                                     projector in place of its own, in float32

Nothing of the old folder is changed, and nothing in it is left out silently.
"""

import argparse
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file

CONFIG = "adapter_config.json"
ADAPTER = "adapter_model.bin"
PROJECTORS = ["non_lora_trainables.bin", "mm_projector.bin"]
MARK = "mm_projector."
WANTED = ["0.weight", "0.bias", "2.weight", "2.bias"]


def tensors_of(path):
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        sys.exit(f"{path} is not a table of tensors")
    for name, tensor in content.items():
        if not torch.isfinite(tensor).all():
            sys.exit(f"{path}: {name} holds a value that is not finite")
    return content


def adapter(path, out):
    """The tensors as they are; names of adapters inside theirs (`.default.`) are graft's to strip."""
    tensors = {k: v.contiguous().clone() for k, v in tensors_of(path).items()}
    save_file(tensors, out / "adapter_model.safetensors", {"format": "pt"})
    shutil.copy(path.parent / CONFIG, out / CONFIG)


def projector_of(path):
    """mm.0.weight and so on, in float32."""
    found = {}
    for name, tensor in tensors_of(path).items():
        _, mark, inner = name.partition(MARK)
        if not mark or inner not in WANTED:
            sys.exit(
                f"{path}: {name} is no part of an mlp2x_gelu projector; graft cannot add it to a "
                "quantized model. Merge everything with LLaVA's merge_lora_weights.py and convert that"
            )
        found[f"mm.{inner}"] = tensor.float().contiguous().numpy()
    missing = [name for name in WANTED if f"mm.{name}" not in found]
    if missing:
        sys.exit(f"{path} has no {MARK}{missing[0]}")
    return found


def write_mmproj(old, new, projector):
    """A copy of a GGUF file with other tensors under some names."""
    import gguf

    reader = gguf.GGUFReader(old)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(new, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], inner)
    left = dict(projector)
    for tensor in reader.tensors:
        trained = left.pop(tensor.name, None)
        if trained is None:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        shape = tuple(int(n) for n in reversed(tensor.shape))
        if shape != trained.shape:
            sys.exit(f"{tensor.name} is {shape} in {old}, {trained.shape} in the trained projector")
        writer.add_tensor(tensor.name, trained)
    if left:
        sys.exit(f"{old} has no {min(left)}; it is not the mmproj file of a LLaVA-1.5")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="what LLaVA's trainer left")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="a new folder")
    parser.add_argument("--mmproj", type=pathlib.Path, help="the vision half that was trained with")
    options = parser.parse_args()
    folder, out = options.folder, options.output
    pickled = folder / ADAPTER
    projectors = [folder / name for name in PROJECTORS if (folder / name).exists()]
    if not pickled.exists() and not projectors:
        sys.exit(f"{folder} has none of {', '.join([ADAPTER, *PROJECTORS])}")
    if len(projectors) > 1:
        sys.exit(f"{folder} has both of {' and '.join(PROJECTORS)}; move the older one away")
    if projectors and options.mmproj is None:
        sys.exit(f"{projectors[0]} holds a trained projector: give the mmproj file with --mmproj")
    if out.exists():
        sys.exit(f"{out} exists; give a new folder")
    projector = projector_of(projectors[0]) if projectors else None
    out.mkdir(parents=True)
    try:
        if pickled.exists():
            adapter(pickled, out)
        elif (folder / "adapter_model.safetensors").exists():
            shutil.copy(folder / "adapter_model.safetensors", out)
            shutil.copy(folder / CONFIG, out)
        if projector is not None:
            write_mmproj(options.mmproj, out / "mmproj.gguf", projector)
    except BaseException:
        shutil.rmtree(out)
        raise
    print(*sorted(str(path) for path in out.iterdir()), sep="\n")


if __name__ == "__main__":
    main()
