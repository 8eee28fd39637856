"""Makes the inputs that the corpora began with: the smallest files of each kind that are accepted.

    python tests/fuzz/seeds.py                   # gguf 0.19, safetensors, pillow
"""

import hashlib
import io
import json
import pathlib
import struct
import tempfile

import gguf
import numpy as np
from PIL import Image
from safetensors.numpy import save

HERE = pathlib.Path(__file__).parent / "corpus"
SEED = np.random.default_rng(1)


def put(target, name, data):
    folder = HERE / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def built(architecture, fill):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "file.gguf"
        out = gguf.GGUFWriter(path, architecture)
        out.add_custom_alignment(8)
        fill(out)
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()
        return path.read_bytes()


def numbers(*shape):
    return SEED.normal(size=shape).astype(np.float32)


def spm(out):
    tokens = ["<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "a", "b", "ab", "\u2581a", "<x>"]
    out.add_tokenizer_model("llama")
    out.add_token_list(tokens)
    out.add_token_scores([0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -5.0, 0.0])
    out.add_token_types([2, 3, 3, 6, 1, 1, 1, 1, 1, 4])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)


def bpe(out):
    tokens = ["a", "b", "\u0120", "ab", "\u0120a", "<|eot_id|>", "1"]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("llama-bpe")
    out.add_token_list(tokens)
    out.add_token_types([1, 1, 1, 1, 1, 3, 1])
    out.add_token_merges(["a b", "\u0120 a"])
    out.add_eos_token_id(5)
    out.add_chat_template("{{ bos_token }}{{ messages }}")


def text(out):
    out.add_context_length(8)
    out.add_embedding_length(4)
    out.add_block_count(1)
    out.add_feed_forward_length(6)
    out.add_head_count(2)
    out.add_head_count_kv(1)
    out.add_layer_norm_rms_eps(1e-5)
    spm(out)
    out.add_tensor("token_embd.weight", numbers(10, 4))
    out.add_tensor("output_norm.weight", numbers(4))
    out.add_tensor("output.weight", numbers(10, 4))
    for name, *shape in [
        ("attn_norm", 4),
        ("attn_q", 4, 4),
        ("attn_k", 2, 4),
        ("attn_v", 2, 4),
        ("attn_output", 4, 4),
        ("ffn_norm", 4),
        ("ffn_gate", 6, 4),
        ("ffn_up", 6, 4),
        ("ffn_down", 4, 6),
    ]:
        out.add_tensor(f"blk.0.{name}.weight", numbers(*shape))


def vision(out):
    out.add_string("clip.projector_type", "mlp")
    for key, value in [
        ("image_size", 4),
        ("patch_size", 2),
        ("embedding_length", 4),
        ("feed_forward_length", 6),
        ("attention.head_count", 2),
        ("block_count", 1),
    ]:
        out.add_uint32(f"clip.vision.{key}", value)
    out.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    out.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    out.add_array("clip.vision.image_std", [0.25, 0.25, 0.25])
    out.add_array("clip.vision.feature_layer", [1])
    out.add_bool("clip.use_gelu", False)
    out.add_tensor("v.class_embd", numbers(4))
    out.add_tensor("v.patch_embd.weight", numbers(4, 3, 2, 2).astype(np.float16))
    out.add_tensor("v.position_embd.weight", numbers(5, 4).astype(np.float16))
    for name, *shape in [
        ("v.pre_ln", 4),
        ("v.blk.0.ln1", 4),
        ("v.blk.0.ln2", 4),
        ("v.blk.0.attn_q", 4, 4),
        ("v.blk.0.attn_k", 4, 4),
        ("v.blk.0.attn_v", 4, 4),
        ("v.blk.0.attn_out", 4, 4),
        ("v.blk.0.ffn_up", 6, 4),
        ("v.blk.0.ffn_down", 4, 6),
        ("mm.0", 4, 4),
        ("mm.2", 4, 4),
    ]:
        out.add_tensor(f"{name}.weight", numbers(*shape))
        out.add_tensor(f"{name}.bias", numbers(shape[0]))


def adapter(out):
    out.add_type("adapter")
    out.add_string("adapter.type", "lora")
    out.add_float32("adapter.lora.alpha", 2.0)
    for site in ["blk.0.attn_q", "blk.1.attn_output"]:
        out.add_tensor(f"{site}.weight.lora_a", numbers(1, 32))
        out.add_tensor(f"{site}.weight.lora_b", numbers(32, 1).astype(np.float16))


def types(out):
    """A tensor of every block type that graft reads."""
    names = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS"
    for kind in [gguf.GGMLQuantizationType[name] for name in names.split()]:
        _, size = gguf.GGML_QUANT_SIZES[kind]
        raw = SEED.integers(0, 256, (1, size), dtype=np.uint8)
        out.add_tensor(f"t.{kind.name}", raw, raw_dtype=kind)
    out.add_array("nested", [[1, 2], [3]])
    out.add_array("text", ["a", "b"])
    out.add_uint64("u64", 1 << 40)
    out.add_float64("f64", 0.5)
    out.add_int8("i8", -1)


def peft():
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 1,
        "lora_alpha": 2,
        "target_modules": ["q_proj"],
        "bias": "none",
        "base_model_name_or_path": "x",
        "lora_dropout": 0.0,
    }
    module = "base_model.model.model.layers.0.self_attn.q_proj.lora"
    tensors = {f"{module}_A.weight": numbers(1, 32), f"{module}_B.weight": numbers(32, 1)}
    for name, extra, dtype in [
        ("plain", {}, np.float32),
        ("rslora", {"use_rslora": True, "alpha_pattern": {"q_proj": 3}}, np.float16),
        ("rank", {"rank_pattern": {"model.layers.0.self_attn.q_proj": 1}}, np.float32),
    ]:
        text = json.dumps(config | extra).encode()
        data = save({k: v.astype(dtype) for k, v in tensors.items()})
        put("peft", f"seed-{name}", struct.pack("<H", len(text)) + text + data)


def mlx():
    layer = "model.layers.1"
    for name, modules, more, keys, dtype in [
        ("plain", ["self_attn.q_proj"], {"fine_tune_type": "lora", "num_layers": -1}, None, np.float32),
        ("keyed", ["mlp.up_proj"], {"fine_tune_type": "lora", "num_layers": 1}, ["mlp.up_proj"], np.float16),
        ("early", ["self_attn.v_proj"], {"lora_layers": 2, "use_dora": False}, None, np.float32),
    ]:
        parameters = {"rank": 1, "scale": 2.0, "dropout": 0.0} | ({"keys": keys} if keys else {})
        text = json.dumps({"model": "x", "lora_parameters": parameters} | more).encode()
        outputs = {"self_attn.q_proj": 32, "self_attn.v_proj": 16, "mlp.up_proj": 40}
        tensors = {}
        for module in modules:
            tensors[f"{layer}.{module}.lora_a"] = numbers(32, 1).astype(dtype)
            tensors[f"{layer}.{module}.lora_b"] = numbers(1, outputs[module]).astype(dtype)
        put("mlx", f"seed-{name}", struct.pack("<H", len(text)) + text + save(tensors))


def images():
    picture = Image.fromarray(SEED.integers(0, 256, (5, 7, 3), dtype=np.uint8), "RGB")
    for name, image, options in [
        ("rgb.png", picture, {}),
        ("palette.png", picture.quantize(4), {}),
        ("grey.png", picture.convert("L"), {}),
        ("alpha.png", picture.convert("RGBA"), {}),
        ("deep.png", Image.fromarray(np.arange(35, dtype=np.uint16).reshape(5, 7)), {}),
        ("plain.jpeg", picture, {"quality": 50}),
        ("progressive.jpeg", picture, {"progressive": True}),
        ("grey.jpeg", picture.convert("L"), {}),
        ("cmyk.jpeg", picture.convert("CMYK"), {}),
        ("lossless.webp", picture, {"lossless": True}),
        ("lossy.webp", picture, {}),
        ("plain.bmp", picture, {}),
        ("palette.bmp", picture.quantize(4), {}),
        ("plain.gif", picture.quantize(4), {}),
    ]:
        out = io.BytesIO()
        image.save(out, name.split(".")[1], **options)
        put("image", f"seed-{name}", out.getvalue())


def datasets():
    record = {
        "id": "1",
        "image": "a.png",
        "conversations": [
            {"from": "human", "value": "<image>\nab?"},
            {"from": "gpt", "value": "a"},
        ],
    }
    plain = {"id": 2, "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    many = record | {"image": ["a.png", "b/c.png"]}
    many["conversations"] = [
        {"from": "human", "value": "<image><image>"},
        {"from": "gpt", "value": "\u00e9</s>"},
        {"from": "human", "value": "b"},
        {"from": "gpt", "value": "a ASSISTANT: b"},
    ]
    put("dataset", "seed-array", json.dumps([record, plain, many]).encode())
    put("dataset", "seed-lines", b"\n".join(json.dumps(r).encode() for r in [record, plain]))


def templates():
    sources = {
        "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + "
        "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}a{% endif %}",
        "trim": "{{ bos_token }}{% for m in messages %}{{ m.content | trim }}{{ eos_token }}{% endfor %}",
        "namespace": "{% set ns = namespace(x='') %}{% for m in messages %}{% set ns.x = ns.x ~ "
        "m['content'] %}{% endfor %}{{ ns.x }}{{ raise_exception('no') if false }}",
        "macro": "{% macro f(m) %}{{ m.role.upper() }}: {{ m.content }}{% endmacro %}"
        "{% for m in messages[1:] %}{{ f(m) }}{{ loop.index0 }}{% endfor %}{{ strftime_now('%d') }}",
    }
    for name, source in sources.items():
        put("template", f"seed-{name}", source.encode())


def plugins():
    tests = HERE.parent.parent
    released = tests / "plugins" / "released" / "0.1.0"
    put("component", "seed-file", b"\0" + (released / "judge.wasm").read_bytes())
    for which in range(3):
        put("component", f"seed-changed-{which}", bytes([33 + which]))
    for kind, name in enumerate(["component", "evaluator", "judge", "converter"], 4):
        for size in [100, 1000]:
            choices = SEED.integers(0, 256, size, dtype=np.uint8).tobytes()
            put("component", f"generated-{name}-{size}", bytes([kind << 5]) + choices)

    # Instructions as tests/plugins/script.rs reads them; data stands behind them.
    names = "log report checkpoint name size read read_at open probe list emit drop drop_sink store load copy"
    number = {name: i for i, name in enumerate(names.split())}

    def script(*calls, data=b""):
        code = b""
        for name, *numbers in calls:
            numbers += [0] * (7 - len(numbers))
            code += struct.pack("<I7i", number[name], *numbers)
        return code + data

    text, source, sink = 512, 1, 2
    data = b"images/b.pnglink../secret"
    pad = lambda code: code.ljust(text, b"\0") + data
    put("host_calls", "seed-read", pad(script(
        ("log", 2, text, 8), ("checkpoint", 5, 1, 10), ("name", source), ("size", source),
        ("read_at", source, 3, 9), ("read", source, 4), ("log", 4, text, 3), ("report", 60_000),
    )))
    put("host_calls", "seed-files", pad(script(
        ("open", text + 7, 1), ("probe", text, 12), ("list", text, 6, 0, 0, 0, 9), ("list", 0, 0, 1, text, 1, 9),
        ("open", text + 12, 4), ("open", text + 16, 9), ("probe", text + 16, 9), ("open", text, 12),
        ("load", 90_000, 120_008), ("size", 3),
    )))
    put("host_calls", "seed-emit", pad(script(
        ("emit", sink, 60_000, 2), ("store", 100_016, 2), ("store", 60_000, text), ("store", 60_004, 12),
    )))

    folder = tests / "golden" / "plugins"
    apart = b"\n\xfe\n"
    converters = "alpaca coco-captions csv doccano label-studio openai-chat sharegpt ubiai vqa-v2".split()
    for i, name in enumerate(converters):
        for case in json.loads((folder / name / "golden.json").read_bytes()) if name != "ubiai" else []:
            export = (folder / name / case["export"]).read_bytes()
            beside = b""
            if name == "vqa-v2":
                other = "annotations" if "questions" in case["export"] else "OpenEnded_mscoco_val2014_questions"
                found = [p for p in (folder / name).glob("*.json") if other in p.name]
                beside = apart + found[0].read_bytes()
            put("converters", f"{name}-{case['export']}", bytes([i]) + export + beside)
            put("converters", f"{name}-{case['export']}-sandbox", bytes([i | 16]) + export + beside)
    digits = tests.parent / "runtime" / "cli" / "demo" / "digits" / "held-out" / "export.json"
    for i, records in enumerate([json.loads(digits.read_bytes())[:2]]):
        put("converters", "seed-ubiai", bytes([7 | 16]) + json.dumps(records, indent=1).encode())
    spans = [["A question? One. Two", {"entities": [[0, 11, "QUESTION"], [12, 16, "ANSWER"]]}]]
    put("converters", "ubiai-spacy", bytes([7]) + json.dumps(spans).encode())
    put("converters", "ubiai-python", bytes([7 | 16]) + repr(spans).encode())
    tagged = "-DOCSTART- -X- O\n\nWho -X- _ B-QUESTION\n? -X- _ I-QUESTION\nMe -X- _ B-ANSWER\n"
    put("converters", "ubiai-iob", bytes([7]) + tagged.encode())


def of_a_program(file, second=b"", *choices):
    """What tests/hostile/c_program.rs reads: 80 choices, then the second file with its length, then the file."""
    return bytes(choices).ljust(80, b"\0") + struct.pack("<I", len(second))[:3] + second + file


def programs():
    """The same files as C programs give them. c_adapter's and c_checkpoint's are what graft itself has saved."""
    read = lambda path: (HERE / path).read_bytes()
    model, vision = read("model/seed.gguf"), read("vision/seed.gguf")
    put("c_model", "seed-sees", of_a_program(model, vision))
    for kind, name in enumerate(["memory", "reader", "path", "fd"]):
        # A choice that says the source's kind where there is no second file, and where there is one.
        put("c_model", f"seed-{name}", of_a_program(model, b"", 0, 0, 0, 0, 0, kind))
        put("c_model", f"seed-sees-{name}", of_a_program(model, vision, kind | 4, 0, 0, 0, 0, 0, 0, 0, kind | 8))
    for name in ["array", "lines"]:
        put("c_dataset", f"seed-{name}", of_a_program(read(f"dataset/seed-{name}").replace(b"b/c.png", b"a.png"), b""))
    for path in sorted((HERE / "image").glob("seed-*")):
        put("c_image", path.name, of_a_program(path.read_bytes(), b"", 0, 0, 0, 0, 2, 3, 7))
    for path in sorted((HERE / "component").iterdir()):
        name = path.name if path.name != "seed-file" else "seed-judge"
        put("c_plugin", name, of_a_program(path.read_bytes()))
    released = HERE.parent.parent / "plugins" / "released" / "0.1.0"
    digits = hashlib.sha256((released / "judge.wasm").read_bytes()).hexdigest().encode()
    # The twelfth choice of limits and options is the digest.
    pinned = [0] * 13 + [255]
    put("c_plugin", "seed-pinned", of_a_program(read("component/seed-file"), digits, *pinned))


def main():
    put("model", "seed.gguf", built("llama", text))
    put("vision", "seed.gguf", built("clip", vision))
    put("adapter", "seed.gguf", built("llama", adapter))
    put("gguf", "seed-types.gguf", built("llama", types))
    put("gguf", "seed-adapter.gguf", built("llama", adapter))
    for name, fill in [("spm", spm), ("bpe", bpe)]:
        words = "ab a\n <x></s>1b".encode()
        put("tokenizer", f"seed-{name}", bytes([len(words)]) + words + built("llama", fill))
    peft()
    images()
    datasets()
    templates()
    mlx()
    plugins()
    programs()


if __name__ == "__main__":
    main()
