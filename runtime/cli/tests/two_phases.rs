//! LLaVA's two phases and samples of every kind, from the command line, on the model that the demo
//! carries.

#[allow(dead_code)] // what goes wrong is looked at in bad_input
#[path = "bad_input/workplace.rs"]
mod workplace;

use serde_json::{Value, json};
use workplace::{Place, Said, question, records};

/// The one JSON document on stdout.
fn document(said: Said) -> Value {
    let said = said.done();
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:#?}"))
}

/// Training's first loss and its last, of which the last must be well below.
fn falls(document: &Value) {
    let [first, last] = ["first_loss", "loss"].map(|name| document[name].as_f64().unwrap());
    assert!(last < 0.8 * first, "{document}");
}

fn record(id: &str, images: &[&str], asked: &str, answer: &str) -> Value {
    let mut record = json!({
        "id": id,
        "conversations": [
            {"from": "human", "value": asked},
            {"from": "gpt", "value": answer},
        ],
    });
    match images {
        [] => {}
        [image] => record["image"] = (*image).into(),
        several => record["image"] = several.into(),
    }
    record
}

const CAPTIONS: [&str; 4] = [
    "a purple square",
    "two",
    "a red circle above",
    "what is this",
];

fn captions(place: &Place) {
    let captions = CAPTIONS
        .iter()
        .enumerate()
        .map(|(i, caption)| record(&format!("c{i}"), &[&format!("{i}.png")], "<image>", caption));
    place.write("captions.json", records(captions));
}

const FIRST: &str = "train -m model.gguf --mmproj mmproj.gguf --data captions.json --template plain \
    --targets none --train-projector --batch 2";

#[test]
fn the_projector_learns_alone_and_then_with_an_adapter() {
    let place = Place::new();
    captions(&place);
    let first = document(place.run(&format!("{FIRST} --epochs 20 -o aligned.gguf --json")));
    falls(&first);
    assert_eq!(first["written"], json!(["aligned.gguf"]));
    let run = place.path("aligned.run");
    assert!(run.join("mmproj.gguf").exists() && !run.join("adapter.gguf").exists());
    let seen = document(place.run("inspect aligned.gguf --json"));
    assert_eq!(seen["kind"], "vision half (mmproj)");
    assert_eq!(seen["problems"], json!([]));
    assert_ne!(place.read("aligned.gguf"), place.read("mmproj.gguf"));
    let said = place.run("inspect aligned.run").done();
    assert!(
        said.out
            .contains("the projector alone, learning rate 0.001\n"),
        "{said:#?}"
    );
    let lines = String::from_utf8(place.read("aligned.run/metrics.jsonl")).unwrap();
    let rates = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["lr"].as_f64().unwrap()
    });
    let highest = rates.fold(0.0, f64::max);
    assert!((highest - 1e-3).abs() < 1e-9, "the projector's: {highest}");
    place
        .run(&format!("{FIRST} --epochs 20 -o aligned.gguf"))
        .failed(&["aligned.run already holds a run"]);

    let second = "train -m model.gguf --mmproj aligned.gguf --data data.json --train-projector \
        --projector-lr 1e-4 --lr 5e-3 --rank 4 --steps 20 -o chat.gguf --json";
    let second = document(place.run(second));
    falls(&second);
    assert_eq!(second["written"], json!(["chat.gguf", "chat.mmproj.gguf"]));
    let ask = "run -m model.gguf --mmproj chat.mmproj.gguf --adapter chat.gguf --image 0.png -n 8";
    let mut ask = place.graft(ask);
    ask.args(["-p", "What is written here?"]);
    let said = Said::from("run", ask.output().unwrap()).done();
    assert_eq!(said.out.trim(), "two");
}

#[test]
fn a_projector_alone_goes_on_where_it_stopped() {
    let place = Place::new();
    captions(&place);
    let options = format!("{FIRST} --steps 6 --save-every 3 --keep 0 --packing");
    place.run(&format!("{options} -o whole.gguf")).done();
    place.run(&format!("{options} -o out.gguf")).done();
    assert_eq!(place.read("out.gguf"), place.read("whole.gguf"));
    let (first, second) = ("out.run/checkpoint-3", "out.run/checkpoint-6");
    let early = place.read(&format!("{first}/mmproj.gguf"));
    assert_ne!(early, place.read("out.gguf"));
    place.write("out.gguf", early);
    std::fs::remove_dir_all(place.path(second)).unwrap();
    place.run(&format!("train --resume {first}")).done();
    assert_eq!(place.read("out.gguf"), place.read("whole.gguf"));
    assert!(!place.path(second).join("adapter.gguf").exists());
}

#[test]
fn what_a_projector_alone_lacks_is_named() {
    let place = Place::new();
    captions(&place);
    for (line, words) in [
        (
            "--mmproj mmproj.gguf --data captions.json --targets none",
            ["--targets", "--train-projector"],
        ),
        (
            "--data captions.json --targets none --train-projector",
            ["--train-projector", "give --mmproj"],
        ),
        (
            "--data text.json --train-projector",
            ["--train-projector", "give --mmproj"],
        ),
        (
            "--mmproj mmproj.gguf --data captions.json --targets none --train-projector \
             --init-adapter a.gguf",
            ["--targets is none", "initial adapter"],
        ),
    ] {
        let line = format!("train -m model.gguf -o out.gguf {line}");
        place.leaves_nothing(|| place.run(&line)).misused(&words);
    }
    let unseen = "--mmproj mmproj.gguf --data text.json --targets none --train-projector";
    for command in ["train -o out.gguf", "plan"] {
        let line = format!("{command} -m model.gguf {unseen}");
        let said = place.leaves_nothing(|| place.run(&line));
        said.failed(&["text.json", "no sample shows an image"]);
    }
    let planned = "plan -m model.gguf --mmproj mmproj.gguf --data captions.json --template plain \
        --targets none --train-projector --json";
    let planned = document(place.run(planned));
    assert_eq!(planned["plan"]["steps"], 4);
    assert!(planned["plan"]["parameters"].as_u64().unwrap() > 0);
}

/// Samples with no image, one and several, text of one turn and of two, in one file.
fn mixed() -> String {
    let shown = "<image>\nWhat is written here?";
    let twice = "<image>\nand\n<image>\nAre they the same?";
    let mut rounds = record("rounds", &["1.png"], shown, "two");
    let more = [
        json!({"from": "human", "value": "And again?"}),
        json!({"from": "gpt", "value": "two"}),
    ];
    rounds["conversations"].as_array_mut().unwrap().extend(more);
    records([
        record("one", &["0.png"], shown, "two"),
        question("text", None),
        record("several", &["0.png", "1.png"], twice, "a purple square"),
        record(
            "three",
            &["2.png", "0.png", "3.png"],
            "<image><image><image>\nWhich?",
            "two",
        ),
        rounds,
        record("words", &[], "What colour is it?", "a red circle above"),
    ])
}

#[test]
fn samples_of_every_kind_learn_together_and_packed() {
    let place = Place::new();
    place.write("mixed.json", mixed());
    let line = "train -m model.gguf --mmproj mmproj.gguf --data mixed.json --train-projector \
        --rank 4 --lr 5e-3 --steps 12 --json --batch";
    let losses = |run: &str| -> Vec<f64> {
        let text = String::from_utf8(place.read(&format!("{run}/metrics.jsonl"))).unwrap();
        let loss = |line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64();
        text.lines().map(|line| loss(line).unwrap()).collect()
    };
    // All of them in every update, so that the three runs see the same.
    falls(&document(place.run(&format!("{line} 6 -o alone.gguf"))));
    falls(&document(
        place.run(&format!("{line} 6 -o packed.gguf --packing")),
    ));
    let packs = format!("{line} 6 -o small.gguf --packing --max-len 300 --memory 1GiB");
    falls(&document(place.run(&packs)));
    let alone = losses("alone.run");
    for run in ["packed.run", "small.run"] {
        for (got, want) in losses(run).iter().zip(&alone) {
            assert!((got / want - 1.0).abs() < 1e-3, "{run}: {got} {want}");
        }
        let first = losses(run)[0] / alone[0] - 1.0;
        assert!(first.abs() < 1e-5, "{run}: {first:e}");
    }
    let plan = "plan -m model.gguf --mmproj mmproj.gguf --data mixed.json --packing";
    let said = place.run(plan).done();
    assert!(
        said.out.contains("they run in 1 pack, the longest of"),
        "{said:#?}"
    );
}

#[test]
fn updates_of_one_kind_learn_from_a_file_of_both() {
    let place = Place::new();
    let kinds = (0..8).map(|i| {
        let image = format!("{}.png", i / 2 % 4);
        question(&format!("s{i}"), (i % 2 == 0).then_some(&*image))
    });
    place.write("both.json", records(kinds));
    let line = "train -m model.gguf --mmproj mmproj.gguf --data both.json --rank 4 --lr 5e-3 \
        --epochs 5 --batch 2 --grad-accum 2 --group-by-modality-length";
    falls(&document(place.run(&format!("{line} -o out.gguf --json"))));
    let lines = String::from_utf8(place.read("out.run/metrics.jsonl")).unwrap();
    let tokens = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["tokens"].as_u64().unwrap()
    });
    // Four samples without images, or four with.
    let mut tokens: Vec<u64> = tokens.collect();
    assert_eq!(tokens.len(), 10);
    tokens.sort_unstable();
    assert_eq!(tokens[0], tokens[4]);
    assert_eq!(tokens[5], tokens[9]);
    assert!(tokens[4] < tokens[5], "{tokens:?}");
    place
        .run(&format!("{line} -o again.gguf --threads 1"))
        .done();
    assert_eq!(place.read("again.gguf"), place.read("out.gguf"));
}
