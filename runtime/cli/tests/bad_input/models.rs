//! Files that are no model, no vision half, no adapter.

use graft::gguf::{Gguf, TensorDeclaration, Writer};

use crate::workplace::{Place, of_gpt2, other_base};

/// Every command that opens a model, with `FILE` where it stands.
const COMMANDS: [&str; 17] = [
    "run -m FILE -p hi",
    "chat -m FILE",
    "logits -m FILE -p hi -o out.npy",
    "tokenize -m FILE -p hi",
    "perplexity -m FILE -f data.json",
    "train -m FILE --data text.json -o out.gguf",
    "plan -m FILE --data text.json",
    "eval -m FILE --data text.json --metric exact-match --report out.json --predictions out.jsonl",
    "adapter import peft -m FILE -o out.gguf",
    "adapter export a.gguf -m FILE -o out-peft",
    "adapter merge -m FILE --adapter a.gguf -o out.gguf",
    "adapter combine a.gguf -m FILE -o out.gguf",
    "adapter difference -m FILE --tuned model.gguf --rank 2 -o out.gguf",
    "adapter difference -m model.gguf --tuned FILE --rank 2 -o out.gguf",
    "quantize FILE out.gguf Q8_0",
    "inspect FILE",
    "bench -m FILE --rounds 1",
];

/// Runs every command on `file`; all fail, and their sentence says `words` and the file's name.
fn all_refuse(place: &Place, file: &str, words: &[&str]) {
    for command in COMMANDS {
        let said = place.leaves_nothing(|| place.run(&command.replace("FILE", file)));
        said.failed(words).failed_naming(file);
    }
}

trait Naming {
    fn failed_naming(self, file: &str);
}

impl Naming for crate::workplace::Said {
    fn failed_naming(self, file: &str) {
        assert!(self.err.contains(file), "{file} is not named: {self:#?}");
    }
}

#[test]
fn a_model_that_is_not_there_is_named() {
    all_refuse(&Place::new(), "missing.gguf", &["No such file"]);
}

#[test]
fn a_folder_is_no_model() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).unwrap();
    all_refuse(&place, "folder", &["folder"]);
}

#[test]
fn an_empty_file_is_no_model() {
    let place = Place::new();
    place.write("empty.gguf", "");
    all_refuse(&place, "empty.gguf", &["the file is empty"]);
}

#[test]
fn a_file_of_another_kind_is_no_model() {
    let place = Place::new();
    all_refuse(&place, "0.png", &["not a GGUF file", "89 50 4e 47"]);
    place.write("words.gguf", "some words");
    place
        .run("run -m words.gguf -p hi")
        .failed(&["words.gguf: not a GGUF file: it starts with \"some\""]);
}

#[test]
fn a_model_cut_anywhere_is_damaged_for_every_command() {
    let place = Place::new();
    let whole = place.read("model.gguf");
    let lengths = [
        4,
        11,
        24,
        100,
        1000,
        15_000,
        whole.len() / 2,
        whole.len() - 1,
    ];
    for (command, length) in COMMANDS.iter().zip(lengths.iter().cycle()) {
        place.write("cut.gguf", &whole[..*length]);
        let said = place.leaves_nothing(|| place.run(&command.replace("FILE", "cut.gguf")));
        said.failed(&["cut.gguf", "it is truncated or damaged"]);
    }
    for length in lengths {
        place.write("cut.gguf", &whole[..length]);
        place
            .run("run -m cut.gguf -p hi")
            .failed(&["cut.gguf", "it is truncated or damaged"]);
    }
    for length in 1..4 {
        place.write("cut.gguf", &whole[..length]);
        place
            .run("inspect cut.gguf")
            .failed(&["cut.gguf: not a GGUF file"]);
    }
}

#[test]
fn a_model_of_another_architecture_is_refused_by_name() {
    let place = Place::new();
    place.write("gpt2.gguf", of_gpt2(&place.read("model.gguf")));
    for command in COMMANDS.iter().filter(|c| !c.starts_with("tokenize")) {
        let said = place.leaves_nothing(|| place.run(&command.replace("FILE", "gpt2.gguf")));
        said.failed(&["gpt2.gguf: ", "\"gpt2x\"", "\"llama\""]);
    }
}

#[test]
fn a_vision_half_or_an_adapter_in_the_place_of_the_model_is_told_its_own() {
    let place = Place::new();
    let models = |c: &&&str| {
        !["tokenize", "quantize", "inspect"]
            .iter()
            .any(|w| c.starts_with(w))
    };
    for command in COMMANDS.iter().filter(models) {
        let with = |file| place.leaves_nothing(|| place.run(&command.replace("FILE", file)));
        with("mmproj.gguf").failed(&["mmproj.gguf: ", "vision half", "--mmproj"]);
        with("a.gguf").failed(&["a.gguf: ", "adapter", "--adapter"]);
    }
    place
        .run("quantize a.gguf out.gguf Q8_0")
        .failed(&["a.gguf: an adapter is not quantized"]);
    for file in ["mmproj.gguf", "a.gguf"] {
        place
            .run(&format!("tokenize -m {file} -p hi"))
            .failed(&[file, "no tokenizer"]);
    }
}

#[test]
fn a_vision_half_that_does_not_fit_is_named() {
    let place = Place::new();
    place.write("empty.gguf", "");
    place.write("cut.gguf", &place.read("mmproj.gguf")[..5000]);
    narrower(&place);
    let cases: [(&str, &[&str]); 6] = [
        ("missing.gguf", &["cannot open missing.gguf"]),
        ("empty.gguf", &["empty.gguf: the file is empty"]),
        ("cut.gguf", &["cut.gguf: ", "it is truncated or damaged"]),
        ("model.gguf", &["model.gguf: ", "is it a language model?"]),
        ("a.gguf", &["a.gguf: "]),
        ("narrow.gguf", &["narrow.gguf: ", "width 128", "256"]),
    ];
    for (file, words) in cases {
        for command in [
            "run -m model.gguf --mmproj FILE -p hi",
            "logits -m model.gguf --mmproj FILE -p hi -o out.npy",
            "train -m model.gguf --mmproj FILE --data data.json -o out.gguf",
            "plan -m model.gguf --mmproj FILE --data data.json",
            "eval -m model.gguf --mmproj FILE --data data.json --metric exact-match",
        ] {
            let said = place.leaves_nothing(|| place.run(&command.replace("FILE", file)));
            said.failed(words);
        }
    }
}

/// Writes `narrow.gguf`: the vision half, projecting to half the width.
fn narrower(place: &Place) {
    let whole = Gguf::open(&place.path("mmproj.gguf")).unwrap();
    let last = |name: &str| name.starts_with("mm.2.");
    let tensors: Vec<TensorDeclaration> = whole
        .tensors()
        .iter()
        .map(|tensor| {
            let mut shape = tensor.shape.clone();
            if last(&tensor.name) {
                *shape.last_mut().unwrap() /= 2;
            }
            TensorDeclaration {
                name: tensor.name.clone(),
                shape,
                quant_type: tensor.quant_type,
            }
        })
        .collect();
    let path = place.path("narrow.gguf");
    let mut writer = Writer::create(&path, whole.metadata(), &tensors).unwrap();
    for (i, tensor) in whole.tensors().iter().enumerate() {
        let data = whole.data(i);
        let length = data.len() / if last(&tensor.name) { 2 } else { 1 };
        writer.write_tensor(&data[..length]).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn an_adapter_that_cannot_be_used_is_named() {
    let place = Place::new();
    place.write("empty.gguf", "");
    place.write("cut.gguf", &place.read("a.gguf")[..3000]);
    std::fs::create_dir(place.path("folder")).unwrap();
    let cases: [(&str, &[&str]); 5] = [
        ("missing.gguf", &["cannot open missing.gguf"]),
        ("empty.gguf", &["empty.gguf: the file is empty"]),
        ("cut.gguf", &["cut.gguf: ", "it is truncated or damaged"]),
        ("model.gguf", &["model.gguf is not an adapter"]),
        ("folder", &["folder", "adapter_config.json"]),
    ];
    for (file, words) in cases {
        for command in [
            "run -m model.gguf --adapter FILE -p hi",
            "chat -m model.gguf --adapter FILE",
            "logits -m model.gguf --adapter FILE -p hi -o out.npy",
            "perplexity -m model.gguf --adapter FILE -f data.json",
            "eval -m model.gguf --adapter FILE --data text.json --metric exact-match",
            "train -m model.gguf --init-adapter FILE --data text.json -o out.gguf",
            "adapter info FILE -m model.gguf",
            "adapter export FILE -m model.gguf -o out-peft",
            "adapter merge -m model.gguf --adapter FILE -o out.gguf",
            "adapter combine a.gguf FILE -m model.gguf -o out.gguf",
            "adapter prune FILE -m model.gguf --energy 0.9 -o out.gguf",
            "adapter scale FILE -m model.gguf --by 2 -o out.gguf",
            "adapter rename FILE -m model.gguf --name b -o out.gguf",
            "bench -m model.gguf --adapter FILE:0.5",
        ] {
            let said = place.leaves_nothing(|| place.run(&command.replace("FILE", file)));
            said.failed(words);
        }
    }
    place
        .run("adapter info folder")
        .misused(&["folder is a folder", "-m"]);
}

#[test]
fn an_adapter_of_another_base_is_refused() {
    let place = Place::new();
    place.write("other.gguf", other_base(&place.read("model.gguf")));
    place.run("run -m other.gguf -p hi -n 1").done();
    for command in [
        "run -m other.gguf --adapter a.gguf -p hi",
        "eval -m other.gguf --adapter a.gguf --data text.json --metric exact-match",
        "train -m other.gguf --init-adapter a.gguf --data text.json -o out.gguf",
        "adapter info a.gguf -m other.gguf",
        "adapter export a.gguf -m other.gguf -o out-peft",
        "adapter merge -m other.gguf --adapter a.gguf -o out.gguf",
        "adapter combine a.gguf -m other.gguf -o out.gguf",
    ] {
        let said = place.leaves_nothing(|| place.run(command));
        said.failed(&["a.gguf", "was made for graft-demo-llava ("]);
    }
}

#[test]
fn a_folder_that_is_no_peft_adapter_or_checkpoint_is_refused() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).unwrap();
    let import = |folder: &str| format!("adapter import {folder} -m model.gguf -o out.gguf");
    place.run(&import("missing")).failed(&["missing"]);
    place
        .run(&import("folder"))
        .failed(&["folder/adapter_config.json"]);
    place.run(&import("0.png")).failed(&["0.png"]);
    place.write("folder/adapter_config.json", "{\"r\": ");
    place
        .run(&import("folder"))
        .failed(&["folder/adapter_config.json", "line 1"]);
    place
        .run("adapter export a.gguf -m model.gguf -o peft")
        .done();
    let tensors = place.read("peft/adapter_model.safetensors");
    place.write(
        "peft/adapter_model.safetensors",
        &tensors[..tensors.len() / 2],
    );
    place.run(&import("peft")).failed(&["peft"]);
    place.write("peft/adapter_model.safetensors", "");
    place.run(&import("peft")).failed(&["peft"]);
    let convert = |folder: &str| format!("convert-hf {folder} -o out.gguf");
    place
        .run(&convert("missing"))
        .failed(&["there is no folder missing"]);
    place.run(&convert("0.png")).failed(&["0.png is a file"]);
    place
        .run(&convert("folder"))
        .failed(&["folder", "config.json"]);
    place.write(
        "folder/config.json",
        "{\"architectures\": [\"GPT2LMHeadModel\"]}",
    );
    place.run(&convert("folder")).failed(&["GPT2LMHeadModel"]);
    place.write("folder/config.json", "{");
    place
        .run(&convert("folder"))
        .failed(&["folder/config.json", "line 1"]);
    assert!(!place.path("out.gguf").exists() && !place.has_partial());
}
