"""Pre-trains the demo's tiny LLaVA on drawn pictures and saves it as a Hugging Face folder.

A real LLaVA in miniature: CLIP vision tower (features after all blocks but the last), two-layer
GELU projector, LLaMA decoder, SentencePiece vocabulary with byte fallback, vicuna_v1 prompts
with LLaVA's label masks. Everything is seeded; one thread, no nondeterministic operators.

    pip install torch transformers sentencepiece protobuf pillow numpy
    python pretrain.py OUT_FOLDER
    graft convert-hf OUT_FOLDER -o model-f16.gguf --mmproj mmproj.gguf
    graft quantize model-f16.gguf model.gguf Q4_K_M
"""

import argparse
import json
import math
import os
import time

import numpy as np
import sentencepiece as spm
import torch
from sentencepiece import sentencepiece_model_pb2
from torch.nn import functional as F
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from scenes import COLOURS, LETTERS, NUMBERS, SHAPES, SIZE, STROKES, doodles, scene, written

SEED = 20261123
VOCABULARY = 768
PATCHES = 16
SYSTEM = ("A chat between a curious user and an artificial intelligence assistant. "
          "The assistant gives helpful, detailed, and polite answers to the user's questions.")
IGNORED = -100
IMAGE = -200
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)

# Everyday words beside the scenes' own, so that the vocabulary can spell other people's labels.
WORDS = """the of and to in is that it was for on are as with his they at be this have from or had by not word but what
some we can out other were all there when up use your how said an each she which do their time if will way about many then
them write would like so these her long make thing see him two has look more day could go come did number sound no most
people my over know water than call first who may down side been now find any new work part take get place made live where
after back little only round man year came show every good me give our under name very through just form sentence great
think say help low line differ turn cause much mean before move right boy old too same tell does set three want air well
also play small end put home read hand port large spell add even land here must big high such follow act why ask men change
went light kind off need house picture try us again animal point mother world near build self earth father letter digit
written handwritten character symbol document invoice total date amount page table cell text label yes none unknown answer
single phrase using question image photo drawing left right top bottom center none""".split()


def train_tokenizer(folder):
    rng = np.random.default_rng(SEED)
    lines = [f"{SYSTEM} USER: ASSISTANT:"] * 50
    for _ in range(3000):
        for question, answer in scene(rng, 6)[1]:
            lines.append(f"USER: {question} ASSISTANT: {answer}")
    lines += [" ".join(rng.permutation(WORDS + NUMBERS * 3)) for _ in range(400)]
    lines += [" ".join(rng.permutation([w.upper() for w in WORDS[:40]] + [w.title() for w in WORDS])) for _ in range(20)]
    corpus = os.path.join(folder, "corpus.txt")
    with open(corpus, "w") as file:
        file.write("\n".join(lines))
    spm.SentencePieceTrainer.train(
        input=corpus, model_prefix=os.path.join(folder, "tokenizer"), model_type="bpe", vocab_size=VOCABULARY,
        byte_fallback=True, split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, character_coverage=1.0, num_threads=1, minloglevel=2)
    os.remove(corpus)
    os.remove(os.path.join(folder, "tokenizer.vocab"))


class Prompts:
    """Token ids and labels of a conversation, as LLaVA's v1 preprocessing makes them."""

    def __init__(self, model_file):
        self.first = spm.SentencePieceProcessor(model_file=model_file)
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(open(model_file, "rb").read())
        proto.normalizer_spec.add_dummy_prefix = False
        self.later = spm.SentencePieceProcessor(model_proto=proto.SerializeToString())

    def encode(self, turns):
        ids = [1] + self.first.encode(f"{SYSTEM} USER: ") + [IMAGE]
        labels = [IGNORED] * len(ids)
        for i, (question, answer) in enumerate(turns):
            if i == 0:
                # One piece from the image to `</s>`: the answer continues it.
                asked = self.first.encode(f"\n{question} ASSISTANT:")
                whole = self.first.encode(f"\n{question} ASSISTANT: {answer}")
            else:
                asked = self.later.encode(f"USER: {question} ASSISTANT:")
                whole = self.later.encode(f"USER: {question} ASSISTANT: {answer}")
            assert whole[: len(asked)] == asked
            said = whole[len(asked):] + [2]
            ids += asked + said
            labels += [IGNORED] * len(asked) + said
        return ids, labels


def build_model():
    vision = CLIPVisionConfig(hidden_size=128, intermediate_size=512, num_hidden_layers=5, num_attention_heads=4,
                              image_size=SIZE, patch_size=16, projection_dim=128, hidden_act="quick_gelu")
    text = LlamaConfig(vocab_size=VOCABULARY, hidden_size=256, intermediate_size=768, num_hidden_layers=4,
                       num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=2048,
                       rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=VOCABULARY - 1,
                         vision_feature_layer=-2, vision_feature_select_strategy="default",
                         projector_hidden_act="gelu", image_seq_length=PATCHES)
    return LlavaForConditionalGeneration(config)


def logits_and_labels(model, pixels, sequences):
    """Splices the image features where -200 stands; right padding needs no mask under causal attention."""
    hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    features = model.model.multi_modal_projector(hidden)
    longest = max(len(ids) for ids, _ in sequences)
    before = sequences[0][0].index(IMAGE)
    ids = torch.zeros(len(sequences), longest - 1, dtype=torch.long)
    labels = torch.full((len(sequences), longest - 1 + PATCHES), IGNORED)
    for row, (sample, said) in enumerate(sequences):
        assert sample.index(IMAGE) == before
        text = sample[:before] + sample[before + 1:]
        ids[row, : len(text)] = torch.tensor(text)
        labels[row, before + PATCHES: before + PATCHES + len(said) - before - 1] = torch.tensor(said[before + 1:])
    embedded = model.model.language_model.embed_tokens(ids)
    rows = torch.cat([embedded[:, :before], features, embedded[:, before:]], dim=1)
    out = model.model.language_model(inputs_embeds=rows, use_cache=False).last_hidden_state
    keep = labels[:, 1:] != IGNORED
    return model.lm_head(out[:, :-1][keep]), labels[:, 1:][keep]


def pixels_of(pictures):
    array = np.stack([np.asarray(p, dtype=np.float32) for p in pictures]) / 255
    return (torch.from_numpy(array).permute(0, 3, 1, 2) - MEAN) / STD


def batch(rng, prompts, size):
    pictures, sequences = [], []
    for _ in range(size):
        picture, turns = scene(rng)
        pictures.append(picture)
        sequences.append(prompts.encode(turns))
    return pixels_of(pictures), sequences


def warm_up(tower, rng, steps, size, lr):
    """The tower's own schooling, as CLIP has before LLaVA: tell letters and meaningless signs apart."""
    signs = list(LETTERS.values()) + doodles(160, SEED)
    head = torch.nn.Linear(PATCHES * tower.config.hidden_size, len(signs))
    parameters = [*tower.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.05)
    start = time.time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        classes = rng.integers(len(signs), size=size)
        pixels = pixels_of([written(rng, signs[c]) for c in classes])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
            logits = head(features.flatten(1))
        loss = F.cross_entropy(logits.float(), torch.from_numpy(classes))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            right = (logits.argmax(-1).numpy() == classes).mean()
            print(f"tower step {step} loss {loss.item():.4f} accuracy {right:.3f} {time.time() - start:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--tower-steps", type=int, default=1600)
    parser.add_argument("--tower-batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train_tokenizer(options.folder)
    prompts = Prompts(os.path.join(options.folder, "tokenizer.model"))
    model = build_model()
    print("parameters:", sum(p.numel() for p in model.parameters()))
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
                                  lr=options.lr, betas=(0.9, 0.98))
    rng = np.random.default_rng(SEED + 1)
    warm_up(model.model.vision_tower, rng, options.tower_steps, options.tower_batch, options.lr)
    start, warmup = time.time(), 200
    for step in range(options.steps):
        factor = min(1, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / options.steps)))
        for group in optimizer.param_groups:
            group["lr"] = options.lr * factor
        pixels, sequences = batch(rng, prompts, options.batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, labels = logits_and_labels(model, pixels, sequences)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == options.steps - 1:
            right = (logits.argmax(-1) == labels).float().mean().item()
            print(f"step {step} loss {loss.item():.4f} token accuracy {right:.3f} {time.time() - start:.0f} s", flush=True)
        if step % 500 == 499:
            save(model, options.folder)
    save(model, options.folder)


def save(model, folder):
    model.save_pretrained(folder, safe_serialization=True)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump({"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, "add_eos_token": False,
                   "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, file, indent=1)
    with open(os.path.join(folder, "preprocessor_config.json"), "w") as file:
        json.dump({"image_mean": MEAN.flatten().tolist(), "image_std": STD.flatten().tolist(),
                   "size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE},
                   "do_pad": True, "resample": 3}, file, indent=1)


if __name__ == "__main__":
    main()
