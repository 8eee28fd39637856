"""Makes the golden files of the conversion from Hugging Face: tiny random checkpoints, and what
transformers answers with them.

    python tests/golden/convert_hf/make.py    # torch 2.15, transformers 5.23, sentencepiece 0.2

Each folder is a checkpoint as users have it; <folder>.safetensors beside it holds
    tokens [T], logits [T, V]                     what it was given, what it must answer
    pixels [3, S, S], features [P, Wv], rows [P, W]   an image, before and after the projector
    image_logits [1 + P + 2, V]                   for the tokens: bos, the image, tokens 0 and 1
and <folder>.json texts with their tokens, as the vocabulary's own library cuts them.
"""

import io
import json
import pathlib
import shutil

import sentencepiece
import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

HERE = pathlib.Path(__file__).parent
TOKENS = 20
CORPUS = (
    "The cat sat on the mat. The dog sat on the log. What does the image show? "
    "The image shows the number 42 and a house. A user asks, the assistant answers the question. "
)
TEXTS = [
    "The cat sat on the mat.",
    " two  blanks",
    "What does the image show? 1234567",
    "ünïcödé 日本 \U0001f600\n\tthe end",
    "the assistant's answer</s>",
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pieces(folder):
    """A SentencePiece vocabulary of 290 pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([CORPUS] * 4),
        model_writer=model,
        model_type="bpe",
        vocab_size=290,
        byte_fallback=True,
        split_digits=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def byte_level(folder):
    """A byte-level vocabulary as LLaMA 3 has it, of 292 tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=288, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([CORPUS] * 4, trainer)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(["[word]"])
    bos = tokenizer.token_to_id(special[0])
    template = processors.TemplateProcessing(
        single=f"{special[0]} $A", special_tokens=[(special[0], bos)]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), template])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    eos = {"__type": "AddedToken", "content": special[1]}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": special[0]}
    config["eos_token"] = eos
    write(folder / "tokenizer_config.json", config)
    template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    return tokenizer


def write(path, content):
    compact = isinstance(content, list)
    path.write_text(json.dumps(content, indent=None if compact else 1) + "\n")


def language(**options):
    return LlamaConfig(
        **{
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5,
            "initializer_range": 0.2,
            "attn_implementation": "eager",
            **options,
        }
    )


def randomise(model):
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and "class" not in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)


def save(model, folder, dtype, **options):
    """Saves in a small type, and loads exactly the weights that were saved. (Converting the model
    back instead would leave its rotary frequencies rounded.)"""
    model.to(dtype).save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)
    load = {"dtype": torch.float32, "attn_implementation": "eager"}
    return type(model).from_pretrained(folder, **load).eval()


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    write(path, content)


def golden(folder, arrays):
    arrays = {k: v.detach().contiguous().clone() for k, v in arrays.items()}
    save_file(arrays, folder.with_suffix(".safetensors"))


def answers(model, vocabulary):
    tokens = torch.randint(0, vocabulary, (TOKENS,))
    return {"tokens": tokens.int(), "logits": model(input_ids=tokens[None]).logits[0]}


def sharded():
    """Grouped heads of a width of their own, linear rotary scaling in the old spelling, several
    files, a vocabulary with rows to spare and an added token."""
    folder = fresh("sharded")
    torch.manual_seed(1)
    rope = {"rope_theta": 500.0, "rope_type": "linear", "factor": 2.0}
    config = language(
        vocab_size=296,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        rope_parameters=rope,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    randomise(model)
    model = save(model, folder, torch.float32, max_shard_size="24KB")

    def old(content):
        content["rope_theta"] = content.pop("rope_parameters")["rope_theta"]
        content["rope_scaling"] = {"type": "linear", "factor": 2.0}

    edit(folder / "config.json", old)
    vocabulary = pieces(folder)
    write(folder / "added_tokens.json", {"<tag>": 290})
    added = {"0": "<unk>", "1": "<s>", "2": "</s>", "291": "<pad>"}
    added = {i: {"content": text, "special": True} for i, text in added.items()}
    pad = {"added_tokens_decoder": added, "pad_token": {"content": "<pad>"}, "bos_token": "<s>"}
    write(folder / "tokenizer_config.json", pad)
    golden(folder, answers(model, 296))
    write(folder.with_suffix(".json"), [[t, vocabulary.encode(t)] for t in TEXTS])


def tied():
    """LLaMA 3: its rotary factors, a tied output, BF16, byte-level BPE, a chat template."""
    folder = fresh("tied")
    torch.manual_seed(2)
    rope = {
        "rope_theta": 10000.0,
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    config = language(
        vocab_size=292,
        num_key_value_heads=1,
        head_dim=12,
        tie_word_embeddings=True,
        rope_parameters=rope,
        bos_token_id=288,
        eos_token_id=[289, 290],
    )
    model = LlamaForCausalLM(config)
    randomise(model)
    model = save(model, folder, torch.bfloat16)
    vocabulary = byte_level(folder)
    golden(folder, answers(model, 292))
    texts = [*TEXTS, "a [word] in it"]
    ids = [vocabulary.encode(t, add_special_tokens=False).ids for t in texts]
    write(folder.with_suffix(".json"), [[t, i] for t, i in zip(texts, ids)])


def llava():
    """LLaVA-1.5 as transformers saves it, F16, the vocabulary as tokenizer.json."""
    folder = fresh("llava")
    torch.manual_seed(3)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=12,
        patch_size=4,
        initializer_range=0.2,
        attn_implementation="eager",
    )
    config = LlavaConfig(
        text_config=language(vocab_size=292, bos_token_id=1, eos_token_id=2),
        vision_config=vision,
        image_token_index=290,
        image_seq_length=9,
        attn_implementation="eager",
    )
    model = LlavaForConditionalGeneration(config)
    randomise(model)
    model = save(model, folder, torch.float16)
    vocabulary = pieces(folder)
    tokenizer = LlamaTokenizer.from_pretrained(folder, add_bos_token=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<pad>"]})
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.model").unlink()
    edit(folder / "tokenizer_config.json", lambda c: c.pop("model_max_length"))
    template = (
        "{% for m in messages %}{{ m.role }}: {% for part in m.content "
        "| selectattr('type', 'equalto', 'text') %}{{ part.text }}{% endfor %}{% endfor %}"
    )
    write(folder / "chat_template.json", {"chat_template": template})
    processor = {"crop_size": {"height": 12, "width": 12}, "image_mean": [0.5, 0.4, 0.3]}
    write(folder / "preprocessor_config.json", processor | {"image_std": [0.3, 0.25, 0.2]})
    pixels = torch.randn(1, 3, 12, 12)
    hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    features = hidden[-2][:, 1:]
    result = answers(model, 290)
    ids = torch.tensor([[1] + [290] * 9 + result["tokens"][:2].tolist()])
    logits = model(input_ids=ids, pixel_values=pixels).logits[0]
    result |= {"pixels": pixels[0], "features": features[0], "image_logits": logits}
    result["rows"] = model.model.multi_modal_projector(features)[0]
    golden(folder, result)
    write(folder.with_suffix(".json"), [[t, vocabulary.encode(t)] for t in TEXTS])


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sharded()
    tied()
    llava()
