"""Makes PEFT folders with pairs at every place of a LLaVA, and what the model answers with them.

    python tests/golden/places/make.py           # torch 2.15, transformers 5.23, peft 0.21, gguf 0.19

The base is that of ../llava (text.gguf and mmproj.gguf), which is made again and compared.
    everything   every linear layer of the language model, the projector and the tower (its unused last
                 block too), the embedding and the output; ranks and alphas of their own in places
    all_linear   target_modules "all-linear", stored as float16
golden.safetensors:
    ids [T] with -200 for the first formula image; text_ids [S]
    <folder>.logits [T', V] and <folder>.projected [P, W] of it, <folder>.text_logits [S, V]
"""

import importlib.util
import pathlib
import shutil
import tempfile

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
LLAVA = HERE.parent / "llava"
spec = importlib.util.spec_from_file_location("llava", LLAVA / "make.py")
llava = importlib.util.module_from_spec(spec)
spec.loader.exec_module(llava)

TEXT_IDS = [1, 9, 12, 70, 71, 72, 73, 2]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SEEING = ["out_proj", "fc1", "fc2", "linear_1", "linear_2"]


def base():
    """The model of ../llava, its weights rounded as the files hold them."""
    model = llava.build(1, feed_forward=48)
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        llava.write_mmproj(place / "mmproj.gguf", model)
        llava.write_text(place / "text.gguf", model, quantized=False)
        for name in ["text.gguf", "mmproj.gguf"]:
            assert (place / name).read_bytes() == (LLAVA / name).read_bytes(), name
    return model


def adapted(config, dtype):
    torch.manual_seed(11)
    model = get_peft_model(base(), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.15)
            parameter.data = parameter.data.to(dtype).float()
    return model.eval()


def save(model, name, dtype):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    path = folder / "adapter_model.safetensors"
    save_file({k: v.to(dtype) for k, v in load_file(path).items()}, path, {"format": "pt"})
    (folder / "README.md").unlink(missing_ok=True)


def answers(model, name):
    image = llava.pixels(llava.formula_image(*llava.IMAGES[0]))
    inner = model.base_model.model.model
    with torch.no_grad():
        hidden = inner.vision_tower(image[None], output_hidden_states=True).hidden_states[-2]
        tokens = torch.tensor([llava.expand(llava.SAMPLES[0][0])])
        return {
            f"{name}.projected": inner.multi_modal_projector(hidden[:, 1:])[0],
            f"{name}.logits": model(input_ids=tokens, pixel_values=image[None]).logits[0],
            f"{name}.text_logits": model(input_ids=torch.tensor([TEXT_IDS])).logits[0],
        }


def main():
    everything = LoraConfig(
        r=3,
        lora_alpha=6,
        target_modules=LINEAR + SEEING + ["embed_tokens", "lm_head"],
        rank_pattern={"embed_tokens": 5, r"encoder\.layers\.\d+\.mlp\.fc2": 2},
        alpha_pattern={"lm_head": 4, "linear_2": 1},
    )
    all_linear = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear")
    golden = {
        "ids": torch.tensor(llava.SAMPLES[0][0], dtype=torch.int32),
        "text_ids": torch.tensor(TEXT_IDS, dtype=torch.int32),
    }
    for name, config, dtype in [
        ("everything", everything, torch.float32),
        ("all_linear", all_linear, torch.float16),
    ]:
        model = adapted(config, dtype)
        golden |= answers(model, name)
        save(model, name, dtype)
    tensors = {k: v.detach().contiguous().clone() for k, v in golden.items()}
    save_file(tensors, HERE / "golden.safetensors")


if __name__ == "__main__":
    main()
