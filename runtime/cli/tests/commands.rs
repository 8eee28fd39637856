//! Every command at its work, on the model that the demo carries.

#[allow(dead_code)] // what goes wrong is looked at in bad_input
#[path = "bad_input/workplace.rs"]
mod workplace;

use serde_json::Value;
use workplace::{Place, Said, question, records};

/// The one JSON document on stdout.
fn document(said: Said) -> Value {
    let said = said.done();
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:#?}"))
}

#[test]
fn run_streams_an_answer_and_json_holds_the_same() {
    let place = Place::new();
    let line = "run -m model.gguf --mmproj mmproj.gguf --image 0.png -p hi -n 2";
    let said = place.run(line).done();
    assert!(said.err.contains("tokens/s"), "{said:#?}");
    let json = document(place.run(&format!("{line} --json")));
    let text = json["text"].as_str().unwrap();
    assert_eq!(said.out.trim_end(), text.trim_end());
    assert_eq!(json["finish"], "length");
    assert_eq!(json["tokens"].as_array().unwrap().len(), 2);
    let with = place.run(&format!("{line} --adapter a.gguf:0")).done();
    assert_eq!(
        with.out, said.out,
        "an adapter of strength 0 changes nothing"
    );
}

#[test]
fn logits_are_a_numpy_matrix_with_a_row_for_each_position() {
    let place = Place::new();
    let json = document(place.run("logits -m model.gguf --tokens 1,5,6 -o o.npy --json"));
    assert_eq!(json["shape"], serde_json::json!([3, 768]));
    let file = place.read("o.npy");
    assert_eq!(&file[..6], b"\x93NUMPY");
    let header = 10 + u16::from_le_bytes([file[8], file[9]]) as usize;
    assert!(String::from_utf8_lossy(&file[..header]).contains("'shape': (3, 768)"));
    assert_eq!(file.len(), header + 3 * 768 * 4);
    let values = file[header..]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&b| f32::from_le_bytes(b));
    assert!(values.clone().all(f32::is_finite) && values.clone().any(|v| v != 0.0));
    // An image takes one row per patch.
    let seeing = "logits -m model.gguf --mmproj mmproj.gguf --image 0.png --tokens 1,-200 -o i.npy";
    let rows = document(place.run(&format!("{seeing} --json")))["shape"][0]
        .as_u64()
        .unwrap();
    assert!(rows > 2, "{rows}");
}

#[test]
fn tokenize_gives_numbers_and_their_texts() {
    let place = Place::new();
    let ids: Vec<u32> = place
        .run("tokenize -m model.gguf -p What")
        .done()
        .out
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect();
    assert_eq!(ids[0], 1, "the token that opens a sequence");
    let bare = place
        .run("tokenize -m model.gguf -p What --no-special")
        .done();
    let bare: Vec<u32> = bare
        .out
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect();
    assert_eq!(bare, ids[1..]);
    let json = document(place.run("tokenize -m model.gguf -p What -p a --pieces --json"));
    assert_eq!(json.as_array().unwrap().len(), 2);
    assert_eq!(json[0]["ids"].as_array().unwrap().len(), ids.len());
    let lines = place.run("tokenize -m model.gguf -p What --pieces").done();
    assert_eq!(lines.out.lines().count(), ids.len());
}

#[test]
fn perplexity_is_that_of_the_windows() {
    let place = Place::new();
    place.write(
        "t.txt",
        "What is written here? a purple square. ".repeat(30),
    );
    let line = "perplexity -m model.gguf -f t.txt --ctx 64";
    let json = document(place.run(&format!("{line} --json")));
    let value = json["perplexity"].as_f64().unwrap();
    assert!(value.is_finite() && value > 1.0, "{json}");
    let windows = json["windows"].as_u64().unwrap();
    assert!(windows >= 2, "{json}");
    let said = place.run(line).done();
    assert!(
        said.out.starts_with(&format!("perplexity {value:.4} ± ")),
        "{said:#?}"
    );
    // The first token of a window has no logits before it; the second half counts.
    assert_eq!(json["tokens"].as_u64().unwrap(), windows * 31, "{json}");
}

#[test]
fn inspect_describes_every_kind_of_file() {
    let place = Place::new();
    for (file, kind) in [
        ("model.gguf", "model"),
        ("mmproj.gguf", "vision half (mmproj)"),
        ("a.gguf", "adapter"),
    ] {
        let json = document(place.run(&format!("inspect {file} --json")));
        assert_eq!(json["kind"], kind);
        assert_eq!(json["problems"], serde_json::json!([]));
        let said = place.run(&format!("inspect {file} --tensors")).done();
        assert!(
            said.out.contains(json["sha256"].as_str().unwrap()),
            "{said:#?}"
        );
        let wide = said.out.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{file}");
    }
    let info = document(place.run("adapter info a.gguf -m model.gguf --json"));
    assert_eq!(info["sites"].as_array().unwrap().len(), 8, "{info}");
    assert_eq!(info["sites"][0]["rank"], 2);
    place.run("adapter info a.gguf").done();
    let plugin = document(place.run("plugin check ubiai --json"));
    assert_eq!(plugin["kind"], "plugin");
    place.run("plugin info exact-match").done();
}

#[test]
fn plan_says_what_a_conversation_takes() {
    let place = Place::new();
    let all = |line: &str| {
        let json = document(place.run(&format!("plan -m model.gguf {line} --json")));
        json["peak_bytes"].as_u64().unwrap()
    };
    let (short, long) = (all("--ctx 128"), all("--ctx 2048"));
    assert!(short < long && all("--ctx 128 --mmproj mmproj.gguf") > short);
    let said = place.run("plan -m model.gguf --ctx 2048").done();
    assert!(said.out.contains("keys and values"), "{said:#?}");
    let budget = format!("plan -m model.gguf --ctx 2048 --memory {short}");
    place.run(&budget).failed(&["smaller --ctx"]);
}

/// A budget that is too small is refused with the smallest that works, and that one works.
#[test]
fn a_budget_that_is_too_small_names_the_smallest_that_works() {
    let place = Place::new();
    let plan = "plan -m model.gguf --data text.json --rank 8";
    let json = document(place.run(&format!("{plan} --json")));
    let smallest = json["plan"]["smallest_bytes"].as_u64().unwrap();
    let said = place.run(&format!("{plan} --memory {}", smallest * 7 / 10));
    said.failed(&[
        "the smallest budget that works is",
        "less would do with",
        "--clip 0",
        "--rank 4",
    ]);
    place
        .run(&format!("{plan} --memory {}", smallest - 1))
        .failed(&["smallest"]);
    let said = place.run(&format!("{plan} --memory {smallest}")).done();
    for words in [
        "layers are computed twice",
        "the fastest way would take",
        "lie on the disk",
    ] {
        assert!(said.out.contains(words), "{words}: {said:#?}");
    }
    let train = plan.replace("plan", "train");
    let options = format!("--steps 3 --memory {smallest} -o small.gguf --run-dir small");
    place.run(&format!("{train} {options}")).done();
    place
        .run(&format!("{train} --steps 3 -o free.gguf --run-dir free"))
        .done();
    assert_eq!(place.read("small.gguf"), place.read("free.gguf"));
    // What rounds, and what goes layer by layer, runs as well.
    let options = "--optimizer adamw8bit --saved-activations bf16 --products words --clip 0 --gradients layer";
    place
        .run(&format!("{train} --steps 3 {options} -o rounded.gguf"))
        .done();
    assert_ne!(place.read("rounded.gguf"), place.read("free.gguf"));
    place
        .run(&format!(
            "{train} --optimizer adamw8bit --moments disk -o no.gguf"
        ))
        .misused(&["--moments is disk", "adamw8bit"]);
}

#[test]
fn plan_adds_up_and_training_stays_within_its_parts() {
    let place = Place::new();
    let options = "-m model.gguf --mmproj mmproj.gguf --data data.json --rank 4 --steps 3";
    let json = document(place.run(&format!("plan {options} --json")));
    let peak = json["plan"]["peak_bytes"].as_u64().unwrap();
    assert!(peak > 1 << 20, "{json}");
    let parts = json["plan"]["memory"]["parts"].as_array().unwrap();
    let bytes = |phase: &str| -> u64 {
        let of_phase = parts.iter().filter(|part| part["phase"] == phase);
        of_phase.map(|part| part["bytes"].as_u64().unwrap()).sum()
    };
    assert_eq!(peak, bytes("always") + bytes("images").max(bytes("work")));
    let pace = json["pace"]["parts"].as_array().unwrap();
    let seconds: f64 = pace.iter().map(|p| p["seconds"].as_f64().unwrap()).sum();
    let step = json["pace"]["seconds_per_step"].as_f64().unwrap();
    assert!(step > 0.0 && (seconds / step - 1.0).abs() < 1e-9, "{json}");
    let bottleneck = pace.iter().any(|part| part["name"] == json["bottleneck"]);
    assert!(bottleneck, "{json}");
    let said = place.run(&format!("plan {options}")).done();
    assert!(
        said.out.contains("4 samples with something to learn"),
        "{said:#?}"
    );
    for words in [
        "the run of 3 updates takes about ",
        "most of the time goes to: ",
    ] {
        assert!(said.out.contains(words), "{words}: {said:#?}");
    }
    let trained = document(place.run(&format!("train {options} -o new.gguf --json")));
    assert_eq!(trained["steps"], 3);
    assert_eq!(trained["planned_peak_bytes"].as_u64(), Some(peak));
    for line in String::from_utf8(place.read("new.run/metrics.jsonl"))
        .unwrap()
        .lines()
    {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["over_plan_bytes"], 0, "{line}");
    }
    place
        .run("run -m model.gguf --adapter new.gguf -p hi -n 2")
        .done();
}

#[test]
fn where_values_lie_changes_no_byte_of_an_adapter() {
    let place = Place::new();
    let options = "train -m model.gguf --mmproj mmproj.gguf --data data.json --rank 4 --steps 3";
    place.run(&format!("{options} -o memory.gguf")).done();
    let all = "--weights disk --layer-inputs disk --moments disk --kept-layers 1";
    let cached = format!("{options} {all} --feature-cache cache");
    let cache = || std::fs::read_dir(place.path("cache")).unwrap().count();
    let line = format!("{options} {all} --image-features disk -o disk.gguf");
    place.run(&line).done();
    place.run(&format!("{cached} -o first.gguf")).done();
    let images = cache();
    assert!(images > 0);
    place.run(&format!("{cached} -o second.gguf")).done();
    assert_eq!(cache(), images, "they were found");
    for name in ["disk.gguf", "first.gguf", "second.gguf"] {
        assert_eq!(place.read(name), place.read("memory.gguf"), "{name}");
    }
}

#[test]
fn quantize_and_merge_write_models_that_run() {
    let place = Place::new();
    let json = document(place.run("quantize model.gguf q8.gguf Q8_0 --allow-requantize --json"));
    let bytes = std::fs::metadata(place.path("q8.gguf")).unwrap().len();
    assert!(json["bytes_after"].as_u64().unwrap() <= bytes);
    let line = "adapter merge -m model.gguf --adapter a.gguf -o merged.gguf --type F16 --json";
    assert_eq!(
        document(place.run(line))["sites"].as_array().unwrap().len(),
        8
    );
    for file in ["q8.gguf", "merged.gguf"] {
        place.run(&format!("run -m {file} -p hi -n 2")).done();
        place.run(&format!("inspect {file}")).done();
    }
}

#[test]
fn a_merge_says_what_is_left_of_the_change() {
    let place = Place::new();
    place.write(
        "t.txt",
        "What is written here? a purple square. ".repeat(30),
    );
    let line = "adapter merge -m model.gguf --adapter a.gguf -o merged.gguf";
    let text = "--text t.txt --ctx 64 --chunks 2";
    let json = document(place.run(&format!("{line} {text} --json")));
    let divergence = &json["divergence"];
    assert_eq!(divergence["positions"], 2 * 31);
    for which in ["merged", "base"] {
        let value = |key: &str| divergence[which][key].as_f64().unwrap();
        assert!(value("mean") >= 0.0 && value("mean") <= value("percentile_99"));
        assert!((0.0..=1.0).contains(&value("top_1_agreement")));
    }
    for site in json["sites"].as_array().unwrap() {
        let value = |key: &str| site[key].as_f64().unwrap();
        assert!(
            value("rounding_rms") <= value("added_rms") * 1.001,
            "{site}"
        );
    }
    let exact = document(place.run(&format!("{line} --type F32 {text} --json")));
    let mean = |json: &Value, which: &str| json["divergence"][which]["mean"].as_f64().unwrap();
    assert!((exact["kept"].as_f64().unwrap() - 1.0).abs() < 1e-3);
    assert!(mean(&exact, "merged") <= mean(&json, "merged") + 1e-3);
    // A change far below the steps of the file's types is gone, and that is said.
    let faint = "adapter merge -m model.gguf --adapter a.gguf:0.001 -o faint.gguf";
    let said = place.run(faint).done();
    assert!(said.err.contains("rounded away"), "{said:#?}");
    assert!(said.out.contains("kept: "), "{said:#?}");
    let said = place.run(&format!("{line} --ctx 64"));
    assert!(said.err.contains("--text"), "{said:#?}");
    let short = place.run(&format!("{line} --text t.txt --ctx 512"));
    assert!(short.err.contains("tokens"), "{short:#?}");
}

#[test]
fn an_adapter_goes_to_peft_and_comes_back() {
    let place = Place::new();
    let json = document(place.run("adapter export a.gguf -m model.gguf -o peft --json"));
    assert_eq!(json["pairs"], 8);
    let json = document(place.run("adapter import peft -m model.gguf -o back.gguf --json"));
    assert_eq!(json["pairs"], 8);
    let answer = |adapter: &str| {
        place
            .run(&format!("run -m model.gguf --adapter {adapter} -p hi -n 8"))
            .done()
            .out
    };
    assert_eq!(answer("a.gguf"), answer("back.gguf"));
    assert_eq!(answer("a.gguf"), answer("peft"));
}

#[test]
fn an_adapter_of_every_place_is_one_name_for_every_command() {
    let place = Place::new();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");
    let (text, sight) = (
        format!("-m {golden}/llava/text.gguf"),
        format!("--mmproj {golden}/llava/mmproj.gguf"),
    );
    let import = format!("adapter import {golden}/places/everything {text} -o x.gguf");
    place.run(&import).done();
    assert!(place.path("x.gguf").exists() && place.path("x.vision.gguf").exists());
    let logits = |arguments: &str| {
        let line = format!("logits {arguments} --image 0.png --tokens 1,-200,5 -o l.npy");
        place.run(&line).done();
        place.read("l.npy")
    };
    let from_file = logits(&format!("{text} {sight} --adapter x.gguf"));
    let from_folder = format!("{text} {sight} --adapter {golden}/places/everything");
    let base = logits(&format!("{text} {sight}"));
    assert_ne!(from_file, base);
    assert_eq!(from_file.len(), logits(&from_folder).len());
    let blind = place.run(&format!(
        "logits {text} --adapter x.gguf --tokens 1 -o l.npy"
    ));
    blind.failed(&["--mmproj"]);

    let json = document(place.run(&format!("adapter info x.gguf {text} {sight} --json")));
    let sites = json["sites"].as_array().unwrap();
    let has = |name: &str| sites.iter().any(|site| site["site"] == name);
    assert!(
        ["token_embd", "output", "mm.0", "v.blk.1.ffn_up"]
            .into_iter()
            .all(has)
    );
    let said = place.run(&format!("adapter info x.gguf {text}")).done();
    assert!(said.out.contains("projector linear_1"), "{said:#?}");
    assert!(said.out.contains("was not looked at"), "{said:#?}");

    let merge = format!("adapter merge {text} --adapter x.gguf -o m.gguf");
    place.run(&merge).failed(&["--mmproj"]);
    place
        .run(&format!("{merge} {sight} --mmproj-output v.gguf"))
        .done();
    let merged = logits("-m m.gguf --mmproj v.gguf");
    assert_ne!(merged, base);
}

#[test]
fn adapters_are_combined_pruned_scaled_and_renamed() {
    let place = Place::new();
    let answer = |adapters: &str| {
        let line = format!("run -m model.gguf {adapters} -p hi -n 8");
        place.run(&line).done().out
    };
    // Halves and whole, whatever the way there; greedy answers hide the last bits.
    let json = document(place.run("adapter combine a.gguf:0.5 a.gguf:0.5 -o two.gguf --json"));
    assert_eq!(json["pairs"], 8);
    let said = place
        .run("adapter combine a.gguf:0.5 a.gguf:0.5 -o one.gguf --rank 64")
        .done();
    assert!(said.out.contains("rank before"), "{said:#?}");
    place
        .run("adapter scale a.gguf --by -2 -o minus.gguf")
        .done();
    place
        .run("adapter scale minus.gguf --by -0.5 -o back.gguf")
        .done();
    let expected = answer("--adapter a.gguf");
    for file in ["two", "one", "back"] {
        assert_eq!(
            answer(&format!("--adapter {file}.gguf")),
            expected,
            "{file}"
        );
    }
    let ranks = |file: &str| -> Vec<u64> {
        let json = document(place.run(&format!("adapter info {file} --json")));
        let sites = json["sites"].as_array().unwrap();
        sites.iter().map(|s| s["rank"].as_u64().unwrap()).collect()
    };
    let doubled: Vec<u64> = ranks("a.gguf").iter().map(|rank| 2 * rank).collect();
    assert_eq!(ranks("two.gguf"), doubled);
    assert_eq!(
        ranks("one.gguf"),
        ranks("a.gguf"),
        "the same twice is no more"
    );

    let said = place
        .run("adapter prune a.gguf --energy 0.9 -o pruned.gguf")
        .done();
    assert!(said.out.contains("left out: "), "{said:#?}");
    let line = "adapter prune a.gguf --rank 1 -o flat.gguf --json";
    let json = document(place.run(line));
    assert!(ranks("flat.gguf").iter().all(|&rank| rank == 1));
    for site in json["sites"].as_array().unwrap() {
        let (norm, cut) = (
            site["norm"].as_f64().unwrap(),
            site["left_out"].as_f64().unwrap(),
        );
        assert!(0.0 < cut && cut < norm, "{site}");
    }
    place
        .run("adapter rename a.gguf --name May -o may.gguf")
        .done();
    let json = document(place.run("adapter info may.gguf --json"));
    assert_eq!(json["name"], "May");
    // A file may take its own place.
    place
        .run("adapter rename may.gguf --name June -o may.gguf")
        .done();
    assert_eq!(
        document(place.run("adapter info may.gguf --json"))["name"],
        "June"
    );
}

#[test]
fn the_difference_of_a_merged_model_is_its_adapter() {
    let place = Place::new();
    place
        .run("adapter merge -m model.gguf --adapter a.gguf -o merged.gguf --type F32")
        .done();
    let line = "adapter difference -m model.gguf --tuned merged.gguf --rank 32 -o found.gguf";
    let json = document(place.run(&format!("{line} --json")));
    assert_eq!(json["pairs"], 8, "{json}");
    assert!(json["left_out"].as_f64().unwrap() < 1e-4, "{json}");
    let outside = json["outside"].as_array().unwrap();
    assert!(
        !outside.is_empty() && outside.iter().all(|t| t["change"] == 0.0),
        "{json}"
    );
    let answer = |adapter: &str| {
        let line = format!("run -m model.gguf --adapter {adapter} -p hi -n 8");
        place.run(&line).done().out
    };
    assert_eq!(answer("found.gguf"), answer("a.gguf"));
    let said = place.run(line).done();
    assert!(said.out.contains("8 of "), "{said:#?}");
    assert!(!said.out.contains("no part of an adapter"), "{said:#?}");
    // Another type rounds everything, and a small rank keeps little of that.
    place
        .run("quantize model.gguf q8.gguf Q8_0 --allow-requantize")
        .done();
    let said = place
        .run("adapter difference -m q8.gguf --tuned merged.gguf --rank 1 -o found.gguf")
        .done();
    assert!(said.err.contains("a larger --rank"), "{said:#?}");
}

#[test]
fn an_evaluation_writes_its_report_and_a_line_for_each_sample() {
    let place = Place::new();
    let line = "eval -m model.gguf --mmproj mmproj.gguf --data data.json --metric exact-match -n 4 \
                --predictions p.jsonl --report r.json --json";
    let json = document(place.run(line));
    assert_eq!(json["samples"], 4);
    let report: Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    assert_eq!(report["metrics"], json["metrics"]);
    let lines = String::from_utf8(place.read("p.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 4);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["expected"], "two");
    }
}

#[test]
fn fields_of_the_records_reach_the_metric_and_parts_stand_in_the_report() {
    let place = Place::new();
    let asked = ["number", "other"].map(|kind| {
        let mut record = question(kind, None);
        record["answers"] = serde_json::json!(["one thing", "another", "a third"]);
        record["answer_type"] = kind.into();
        record
    });
    place.write("vqa.json", records(asked));
    let line = "eval -m model.gguf --data vqa.json --metric vqa-accuracy -n 4 --report r.json";
    let said = place.run(line).done();
    assert!(
        said.out.contains("accuracy[answer_type=other]"),
        "{said:#?}"
    );
    let report: Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    let metrics = report["metrics"].as_array().unwrap().iter();
    let told = metrics.map(|m| (m["name"].as_str().unwrap(), m["weight"].as_f64().unwrap()));
    let hoped = [
        ("accuracy", 2.0),
        ("accuracy[answer_type=number]", 1.0),
        ("accuracy[answer_type=other]", 1.0),
    ];
    assert_eq!(told.collect::<Vec<_>>(), hoped);
}

#[test]
fn devices_and_bench_measure_this_machine() {
    let place = Place::new();
    let json = document(place.run("devices --json"));
    assert!(json["devices"][0]["threads"].as_u64().unwrap() >= 1);
    let said = place.run("devices").done();
    assert!(said.out.starts_with("cpu\n"), "{said:#?}");
    let line = "bench -m model.gguf --prompt 8 --generate 4 --rounds 1 --json";
    let json = document(place.run(line));
    assert!(
        json["generated_tokens_per_second"].as_f64().unwrap() > 0.0,
        "{json}"
    );
}

/// Every option of graft that the table of LLaVA's names exists, and both commands run as they stand
/// there, on smaller files.
#[test]
fn the_recipe_is_true() {
    let recipe = include_str!("../../../docs/llava-recipe.md");
    let place = Place::new();
    let help = place.run("train --help").done().out;
    let rows = recipe.lines().filter(|line| line.starts_with("| "));
    let mut options = 0;
    for row in rows.skip(1) {
        let cells: Vec<&str> = row.split('|').collect();
        assert_eq!(cells.len(), 7, "{row}");
        let quoted = cells[4].split('`').skip(1).step_by(2);
        for option in quoted
            .flat_map(str::split_whitespace)
            .filter(|w| w.starts_with('-'))
        {
            let found = help.split(|c: char| !(c.is_alphanumeric() || c == '-'));
            assert!(found.into_iter().any(|w| w == option), "{option}: {row}");
            options += 1;
        }
    }
    assert!(options > 20, "{options}");
    let pictures = |answer: &str| {
        let record = |i: usize| {
            let mut record = workplace::question(&format!("r{i}"), Some(&format!("{i}.png")));
            record["conversations"][1]["value"] = answer.into();
            record
        };
        workplace::records((0..4).map(record))
    };
    place.write("captions.json", pictures("a digit"));
    place.write("train.json", pictures("two"));
    let commands: Vec<&str> = recipe
        .lines()
        .filter(|l| l.starts_with("graft train"))
        .collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let line = command
            .replace("graft train", "train --rank 2")
            .replace("--rank 128", "")
            .replace("vicuna-Q4_K_M.gguf", "model.gguf")
            .replace("--image-dir images", "");
        place.run(&line).done();
    }
    for written in ["mmproj-aligned.gguf", "adapter.gguf", "adapter.mmproj.gguf"] {
        assert!(place.path(written).exists(), "{written}");
    }
    place
        .run("run -m model.gguf --mmproj adapter.mmproj.gguf --adapter adapter.gguf --image 0.png -p hi -n 2")
        .done();
}
