"""graft beside its peers: the same files, the same threads, turns within seconds of each other, medians of ratios.

    cargo build --release -p graft-benches
    python3 benches/peers.py install                           # the peers, outside the tree; a quarter of an hour
    python3 benches/peers.py all                               # every row of the table; half an hour a round
    python3 benches/peers.py speak --shape 1b1 --type Q4_K     # beside llama.cpp
    python3 benches/peers.py learn --shape 160m --type Q4_0    # beside PyTorch and PEFT
    python3 benches/peers.py see --type F16                    # beside PyTorch, or --peer llama.cpp

GRAFT_CPU=avx2 keeps graft and PyTorch to AVX2; llama.cpp is built with nothing newer. In a round each side is a new
process; while one takes its turn the other waits. A turn is a prompt, eight tokens after it, an update or an image, and a
machine with neighbours is the same for two turns that follow each other, not for two runs. "Of limit" is the share of
what graft's program finds the machine to do right before and after its turn: multiply-adds of floats, which integers may exceed,
or reading, where tokens are generated. An idle machine, please.
"""

import argparse
import contextlib
import ctypes
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv

SHAPES = {
    "160m": dict(width=768, layers=12, heads=12, kv_heads=12, ffn=2048),
    "1b1": dict(width=2048, layers=22, heads=32, kv_heads=4, ffn=5632),
}
BINARIES = os.path.join(os.path.dirname(__file__), "..", "target", "release")
LLAMA_CPP = "llama-cpp-python==0.3.36"
# Turns of each kind in a round: no fewer than, no more than, and seconds after which no other begins.
FEWEST, MOST, ENOUGH = 3, 15, 15
GENERATED = 8  # tokens of a turn, as in bench-model
AVX2_ONLY = "-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=OFF"


def python_of(folder):
    """The interpreter that has the peers: that of the folder they were installed in, or else this one."""
    own = os.path.join(folder, "bin", "python")
    return own if os.path.exists(own) else sys.executable


def install(folder):
    """Puts the peers into a virtual environment; llama.cpp is compiled, whatever pip has of it from other settings."""
    venv.create(folder, with_pip=True)
    pip = [python_of(folder), "-m", "pip", "install"]
    subprocess.run([*pip, "torch", "transformers", "peft"], check=True)
    environment = dict(os.environ, CMAKE_ARGS=AVX2_ONLY)
    subprocess.run([*pip, "--no-cache-dir", "--no-binary", "llama-cpp-python", LLAMA_CPP], check=True, env=environment)


class Side:
    """A program that does one turn of a kind of work whenever it is asked, and nothing in between."""

    def __init__(self, name, command, environment=None):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment
        )

    def answer(self, word):
        """The numbers of the next line that begins with the word; libraries print other lines."""
        for line in self.process.stdout:
            first, *numbers = line.split() or [""]
            if first == word:
                return [float(number) for number in numbers]
        self.errors.seek(0)
        why = self.errors.read().strip().splitlines()[-1:]
        sys.exit(f"{self.name} ended with {self.process.wait()}: {' '.join(why)}")

    def turn(self, kind):
        """Units per second, the share of the limit, and the peak of resident memory in MiB."""
        time.sleep(0.02)  # threads of the other side go to sleep
        with contextlib.suppress(BrokenPipeError):  # then the program has ended, and the answer says why
            self.process.stdin.write(f"{kind}\n")
            self.process.stdin.flush()
        return self.answer("turn")

    def __enter__(self):
        self.answer("ready")
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def graft(program, options, *more):
    words = [options.folder, options.shape, options.type, options.tokens, options.threads, *more]
    if program == "bench-vision":
        words = [options.folder, options.type, options.threads]
    command = [os.path.join(BINARIES, program), "--turns", *map(str, words)]
    if not os.path.exists(command[0]):
        sys.exit(f"{program} is not built: cargo build --release -p graft-benches")
    return Side(program, command)


def peer(what, options, *more):
    """This script in another process, by the interpreter that has the peers."""
    python = python_of(options.peers)
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
    if environment.get("GRAFT_CPU") == "avx2":
        environment.update(
            ATEN_CPU_CAPABILITY="avx2", MKL_ENABLE_INSTRUCTIONS="AVX2", ONEDNN_MAX_CPU_ISA="AVX2"
        )
    return Side(what, [python, __file__, what, json.dumps(vars(options)), *map(str, more)], environment)


def take_turns(*kinds):
    """In the peer's process: does each kind of work once, and then the one whose place a line of the input is."""
    for work, _ in kinds:
        work()
    print("ready", flush=True)
    for line in sys.stdin:
        work, units = kinds[int(line)]
        begun = time.perf_counter()
        work()
        rate = units / (time.perf_counter() - begun)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print("turn", rate, math.nan, peak, flush=True)


def model_path(options):
    return os.path.join(options.folder, f"{options.shape}-{options.type}.gguf")


def llama_cpp(options):
    from llama_cpp import Llama

    llama = Llama(model_path(options), n_ctx=2048, n_batch=512, n_threads=options.threads,
                  n_threads_batch=options.threads, verbose=False)
    ids = [3 + i * 7919 % 31_000 for i in range(options.tokens)]

    def prompt():
        llama.reset()
        llama.eval(ids)

    def generation():
        llama.n_tokens = len(ids)  # what came later is forgotten
        for i in range(GENERATED):
            llama.eval([ids[i % len(ids)]])

    take_turns((prompt, options.tokens), (generation, GENERATED))


def pytorch(options, checkpointing):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(options.threads)
    shape = SHAPES[options.shape]
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=shape["width"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"],
        intermediate_size=shape["ffn"], vocab_size=32_000, use_cache=False,
    ))
    if checkpointing:
        model.gradient_checkpointing_enable(dict(use_reentrant=False))
        model.enable_input_require_grads()
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    model.train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-4)
    ids = torch.tensor([[3 + i * 7919 % 31_000 for i in range(options.tokens)]])

    def update():
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()

    take_turns((update, options.tokens))


def clip_pytorch(options):
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.set_num_threads(options.threads)
    tower = CLIPVisionModel(CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16,
        image_size=336, patch_size=14, projection_dim=768,
    )).eval()
    projector = torch.nn.Sequential(
        torch.nn.Linear(1024, 2048), torch.nn.GELU(), torch.nn.Linear(2048, 2048)
    )
    pixels = torch.rand(1, 3, 336, 336)
    with torch.inference_mode():
        take_turns((lambda: projector(tower(pixels).last_hidden_state[:, 1:]), 1))


def clip_llama_cpp(options):
    from llama_cpp import Llama, mtmd_cpp as mtmd

    # Any language model of the projector's width will do.
    llama = Llama(os.path.join(options.folder, "1b1-Q4_0.gguf"), n_ctx=64, verbose=False)
    settings = mtmd.mtmd_context_params_default()
    settings.use_gpu, settings.print_timings, settings.n_threads = False, False, options.threads
    path = os.path.join(options.folder, f"mmproj-2048-{options.type}.gguf")
    context = mtmd.mtmd_init_from_file(path.encode(), llama.model, settings)
    pixels = bytes(i * 31 % 256 for i in range(3 * 336 * 336))
    bitmap = mtmd.mtmd_bitmap_init(336, 336, (ctypes.c_uint8 * len(pixels)).from_buffer_copy(pixels))
    chunks = mtmd.mtmd_input_chunks_init()
    words = mtmd.mtmd_default_marker()
    text = mtmd.mtmd_input_text(text=words, text_len=len(words), add_special=False, parse_special=True)
    failed = mtmd.mtmd_tokenize(
        context, chunks, ctypes.byref(text), (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap), 1
    )
    assert not failed, failed
    images = [
        chunk
        for chunk in (mtmd.mtmd_input_chunks_get(chunks, i)
                      for i in range(mtmd.mtmd_input_chunks_size(chunks)))
        if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE
    ]

    def image():
        assert mtmd.mtmd_encode_chunk(context, images[0]) == 0

    take_turns((image, 1))


def compare(names, ours, theirs, rounds, peer_name):
    """Has new processes of the two take turns in each round, and prints a row for each kind of work: medians of
    all turns, and the median of the ratios of two that follow each other."""
    turns = [[] for _ in names]
    for number in range(rounds):
        with ours() as mine, theirs() as other:
            for kind, pairs in enumerate(turns):
                begun, before = time.monotonic(), len(pairs)
                while len(pairs) < before + FEWEST or (
                    len(pairs) < before + MOST and time.monotonic() < begun + ENOUGH
                ):
                    pairs.append((mine.turn(kind), other.turn(kind)))
        print(f"{names[0]}: round {number + 1} of {rounds}", file=sys.stderr)
    peaks = [max(pair[side][2] for pairs in turns for pair in pairs) for side in (0, 1)]
    for name, pairs in zip(names, turns):
        mine, other = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
        ratio = statistics.median(a[0] / b[0] for a, b in pairs)
        shares = [statistics.median(side) for side in zip(*((a[1], a[1] * b[0] / a[0]) for a, b in pairs))]
        print(
            f"{name:<40}{mine:>9.2f}{shares[0]:>9.0%}   {peer_name:<10}{other:>9.2f}{shares[1]:>9.0%}"
            f"{ratio:>7.2f}x{len(pairs):>7}{peaks[0]:>8.0f}{peaks[1]:>7.0f}",
            flush=True,
        )


def speak(options):
    what = f"{options.shape} {options.type}"
    compare(
        [f"{what}, prompt of {options.tokens}, tokens/s", f"{what}, generation, tokens/s"],
        lambda: graft("bench-model", options),
        lambda: peer("llama.cpp", options),
        options.rounds,
        "llama.cpp",
    )


def see(options):
    language = argparse.Namespace(**{**vars(options), "shape": "1b1", "type": "Q4_0"})
    if options.peer == "llama.cpp" and not os.path.exists(model_path(language)):
        with graft("bench-model", language):
            pass
    compare(
        [f"CLIP-L/14-336 {options.type}, images/s"],
        lambda: graft("bench-vision", options),
        lambda: peer(f"clip-{options.peer}", options),
        options.rounds,
        options.peer,
    )


def learn(options):
    again = ", recomputed" if options.recompute else ""
    products = "" if options.products == "f32" else f", {options.products}"
    kept = "0" if options.recompute else "all"
    compare(
        [f"{options.shape} {options.type}, LoRA{again}{products}, tokens/s"],
        lambda: graft("bench-train", options, kept, options.products),
        lambda: peer("pytorch", options, options.recompute),
        options.rounds,
        "pytorch",
    )


def every_row(options):
    """The rows that docs/performance.md has for each processor."""

    def with_options(**more):
        return argparse.Namespace(**{**vars(options), **more})

    for ty in ["Q4_K", "Q4_0", "Q8_0", "Q6_K"]:
        speak(with_options(shape="1b1", type=ty))
    speak(with_options(shape="1b1", type="Q4_K", tokens=32))
    for shape in SHAPES:
        for recompute in [False, True]:
            for products in ["f32", "words"]:
                learn(with_options(shape=shape, type="Q4_K", recompute=recompute, products=products))
    for ty in ["F16", "Q8_0"]:
        for name in ["pytorch", "llama.cpp"]:
            see(with_options(type=ty, peer=name))


def positive(word):
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} is not at least 1")
    return number


def main():
    peers = {
        "llama.cpp": llama_cpp, "pytorch": pytorch,
        "clip-llama.cpp": clip_llama_cpp, "clip-pytorch": clip_pytorch,
    }
    if len(sys.argv) > 2 and sys.argv[1] in peers:
        options = argparse.Namespace(**json.loads(sys.argv[2]))
        try:
            peers[sys.argv[1]](options, *(word == "True" for word in sys.argv[3:]))
        except ImportError as missing:
            sys.exit(f"{missing}; peers.py install puts the peers where --peers says")
        return
    works = {"speak": speak, "learn": learn, "see": see, "all": every_row}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=["install", *works])
    parser.add_argument("--folder", default="target/bench-models")
    parser.add_argument("--peers", default=os.path.join(tempfile.gettempdir(), "peers"),
                        help="where they are installed")
    parser.add_argument("--shape", choices=SHAPES, default="160m")
    parser.add_argument("--type", default="Q4_K", help="Q4_K, Q4_0, Q8_0, Q6_K ...")
    parser.add_argument("--tokens", type=positive, default=512)
    parser.add_argument("--threads", type=positive, default=os.cpu_count())
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--recompute", action="store_true", help="keep no layer's activations")
    parser.add_argument("--products", choices=["f32", "words"], default="f32",
                        help="how graft multiplies frozen layers while it learns; the peer has f32")
    parser.add_argument("--peer", choices=["pytorch", "llama.cpp"], default="pytorch",
                        help="whom to see beside")
    options = parser.parse_args()
    if options.work == "install":
        install(options.peers)
        return
    print(f"threads: {options.threads}; rounds: {options.rounds}")
    print(f"{'':<40}{'graft':>9}{'of limit':>9}   {'peer':<10}{'':>9}{'of limit':>9}{'ratio':>8}{'turns':>7}{'MiB':>8}{'peer':>7}")
    works[options.work](options)


main()
