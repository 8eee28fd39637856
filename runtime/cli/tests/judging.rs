//! Metrics that ask a model: who is granted one, and what is told of it.

#[allow(dead_code)] // what goes wrong is looked at in bad_input
#[path = "bad_input/workplace.rs"]
mod workplace;

use serde_json::Value;
use workplace::Place;

#[test]
fn a_judge_without_a_model_is_told_how_to_get_one() {
    let place = Place::new();
    let eval = "eval -m model.gguf --data text.json --report r.json --predictions p.jsonl";
    for (line, words) in [
        (
            "--metric judge",
            &[
                "the metric judge asks a model",
                "--judge self",
                "--judge-model FILE",
            ][..],
        ),
        (
            "--metric exact-match --judge self",
            &["exact-match asks no model", "leave --judge"],
        ),
        (
            "--metric judge --judge-adapter a.gguf",
            &["the metric judge asks a model"],
        ),
        (
            "--metric exact-match --judge-adapter a.gguf",
            &["--judge-adapter needs --judge self"],
        ),
        (
            "--metric judge --judge self --judge-model model.gguf",
            &["--judge-model", "cannot be used with"],
        ),
        (
            "--metric judge --judge self --judge-mmproj mmproj.gguf",
            &["--judge-mmproj needs --judge-model", "--mmproj"],
        ),
        (
            "--metric judge --judge self --judge-template llama_2",
            &["--judge-template needs --judge-model"],
        ),
        ("--metric judge --judge other", &["self"]),
        (
            "--metric judge --judge-model model.gguf --judge-template none_such",
            &["none_such"],
        ),
    ] {
        let line = format!("{eval} {line}");
        place.leaves_nothing(|| place.run(&line)).misused(words);
    }
    for line in [
        "--metric judge --judge-model none.gguf",
        "--metric judge --judge self --judge-adapter none.gguf",
        "--metric judge --judge-model model.gguf --judge-mmproj none.gguf",
    ] {
        let line = format!("{eval} {line}");
        place
            .leaves_nothing(|| place.run(&line))
            .failed(&["none.gguf"]);
    }
}

#[test]
fn the_report_names_the_judge_and_what_it_was_asked() {
    let place = Place::new();
    let eval = "eval -m model.gguf --mmproj mmproj.gguf --adapter a.gguf --data data.json \
                --metric judge -n 4 --report r.json";
    let said = place.run(&format!("{eval} --judge self")).done();
    assert!(said.out.contains("4 questions in"), "{said:#?}");
    let report: Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    let judge = &report["judge"];
    assert_eq!(judge["requests"], 4, "{judge}");
    assert_eq!(judge["model"], report["model"]);
    assert_eq!(judge["adapters"], serde_json::json!([]));
    assert_eq!(report["adapters"].as_array().unwrap().len(), 1);
    assert_eq!(report["failed"], 0, "{report}");
    assert_eq!(report["options"], serde_json::json!({}));

    // The same weights as another file say the same; without eyes there is no fingerprint of them.
    place
        .run(&format!("{eval} --judge-model model.gguf"))
        .done();
    let with: Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    assert_eq!(with["metrics"], report["metrics"]);
    assert_eq!(with["judge"]["generated_tokens"], judge["generated_tokens"]);
    assert!(with["judge"]["model"].get("vision_fingerprint").is_none());
    place
        .run(&format!("{eval} --judge self --judge-adapter a.gguf:0.5"))
        .done();
    let with: Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    assert_eq!(with["judge"]["adapters"][0]["strength"], 0.5);
    assert_eq!(
        with["judge"]["adapters"][0]["sha256"],
        report["adapters"][0]["sha256"]
    );

    // A judge that sees has more to read; one that does not is shown nothing.
    let seeing = "--judge-model model.gguf --judge-mmproj mmproj.gguf --option images=true";
    place.run(&format!("{eval} {seeing}")).done();
    let with: Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    let tokens = |report: &Value| report["judge"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens(&with) > tokens(&report), "{with}");
    assert_eq!(with["options"], serde_json::json!({"images": true}));
    let blind = "--judge-model model.gguf --option images=true";
    let said = place.run(&format!("{eval} {blind}"));
    said.failed(&["cannot be judged", "s0"]);
}

#[test]
fn an_evaluation_without_a_judge_names_none() {
    let place = Place::new();
    let line = "eval -m model.gguf --data text.json --metric exact-match -n 2 --report r.json";
    place.run(line).done();
    let report: Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    assert!(report.get("judge").is_none());
}
