//! Data sets that cannot be learned from or asked about.

use serde_json::json;

use crate::workplace::{Place, question, records};

const BOTH: &str = "-m model.gguf --mmproj mmproj.gguf";

/// `train`, `plan` and `eval` on `data`: all fail and say `words`.
fn all_refuse(place: &Place, data: &str, words: &[&str]) {
    for command in [
        format!("train {BOTH} --data {data} --steps 2 -o out.gguf"),
        format!("plan {BOTH} --data {data}"),
        format!(
            "eval {BOTH} --data {data} --metric exact-match --report out.json --predictions out.jsonl"
        ),
    ] {
        let said = place.leaves_nothing(|| place.run(&command));
        said.failed(words);
    }
}

#[test]
fn a_data_set_that_is_not_there_empty_or_a_folder_is_named() {
    let place = Place::new();
    all_refuse(&place, "missing.json", &["missing.json", "No such file"]);
    std::fs::create_dir(place.path("folder")).unwrap();
    all_refuse(&place, "folder", &["folder", "is a directory"]);
    for nothing in ["", "[]", " \n"] {
        place.write("d.json", nothing);
        all_refuse(&place, "d.json", &["d.json holds no samples"]);
    }
}

#[test]
fn malformed_json_is_told_by_line_and_column() {
    let place = Place::new();
    place.write("d.json", "[\n {\"id\": \"a\",\n  \"conversations\": [}\n]");
    all_refuse(&place, "d.json", &["d.json", "line 3", "column 21"]);
    place.write("d.json", "[\n {\"id\": \"a\",");
    all_refuse(&place, "d.json", &["d.json", "line 2"]);
    place.write("d.json", [0, 1, 2]);
    all_refuse(&place, "d.json", &["d.json", "line 1"]);
}

#[test]
fn json_of_another_shape_is_told_what_is_expected() {
    let place = Place::new();
    for text in ["3", "\"words\"", "[[[]]]", "{\"a\": 1}", "[{\"id\": 1}]"] {
        place.write("d.json", text);
        all_refuse(
            &place,
            "d.json",
            &["d.json is no LLaVA data set", "line 1", "record"][..2],
        );
    }
    place.write(
        "d.json",
        json!([{"id": 1, "conversations": ["hi"]}]).to_string(),
    );
    all_refuse(
        &place,
        "d.json",
        &[
            "d.json is no LLaVA data set",
            "a turn with `from` and `value`",
        ],
    );
}

#[test]
fn a_question_without_an_answer_is_named() {
    let place = Place::new();
    let turn = json!({"from": "human", "value": "Who?"});
    let record = json!({"id": "q7", "conversations": [turn]});
    place.write("d.json", records([question("a", None), record]));
    all_refuse(&place, "d.json", &["d.json", "record 1", "q7", "no answer"]);
}

#[test]
fn an_image_that_is_missing_or_damaged_stops_training_and_is_left_out_of_an_evaluation() {
    let place = Place::new();
    let whole = place.read("0.png");
    place.write("empty.png", "");
    place.write("half.png", &whole[..whole.len() / 2]);
    let mut bad = whole.clone();
    bad[whole.len() / 2] ^= 0xff;
    place.write("bad.png", bad);
    place.write("words.png", "no image at all");
    std::fs::create_dir(place.path("folder.png")).unwrap();
    for (image, words) in [
        (
            "missing.png",
            &["there is no image missing.png", "--image-dir"][..],
        ),
        ("empty.png", &["empty.png is empty (0 bytes)"]),
        ("half.png", &["half.png is damaged"]),
        ("bad.png", &["bad.png is damaged"]),
        ("words.png", &["words.png is not a PNG"]),
        ("folder.png", &["folder.png", "directory"]),
    ] {
        let samples = [question("good", Some("0.png")), question("b", Some(image))];
        place.write("d.json", records(samples));
        let train = format!("train {BOTH} --data d.json --steps 2 -o out.gguf");
        let said = place.leaves_nothing(|| place.run(&train));
        let said = said.failed(words);
        assert!(said.err.contains("sample b: "), "{said:#?}");
        let eval = format!("eval {BOTH} --data d.json --metric exact-match -n 2");
        let said = place.run(&eval).done();
        let warnings: Vec<&str> = said.err.lines().collect();
        assert_eq!(warnings.len(), 1, "{said:#?}");
        assert!(
            warnings[0].starts_with("warning: sample b was left out: "),
            "{said:#?}"
        );
        assert!(warnings[0].contains(words[0]), "{said:#?}");
        place.write("d.json", records([question("b", Some(image))]));
        let said = place.leaves_nothing(|| place.run(&format!("{eval} --report out.json")));
        said.failed(words);
    }
}

#[test]
fn images_need_a_vision_half() {
    let place = Place::new();
    for command in [
        "train -m model.gguf --data data.json -o out.gguf",
        "eval -m model.gguf --data data.json --metric exact-match",
    ] {
        place
            .leaves_nothing(|| place.run(command))
            .misused(&["--mmproj"]);
    }
}

#[test]
fn samples_too_long_to_learn_from_are_refused() {
    let place = Place::new();
    let mut record = question("long", None);
    record["conversations"][0]["value"] = "word ".repeat(3000).into();
    place.write("d.json", records([record]));
    for command in [
        "train -m model.gguf -o out.gguf --data d.json",
        "plan -m model.gguf --data d.json",
    ] {
        let said = place.leaves_nothing(|| place.run(command));
        said.failed(&["d.json", "no sample has a learned token", "--max-len"]);
    }
    place
        .run("eval -m model.gguf --data d.json --metric exact-match")
        .failed(&["long", "the context is full"]);
}

#[test]
fn evaluation_data_are_checked_like_the_others() {
    let place = Place::new();
    place.write("none.json", "[]");
    let train = "train -m model.gguf --data text.json -o out.gguf --eval-data";
    for (data, words) in [
        ("missing.json", "cannot read missing.json"),
        ("none.json", "none.json holds no samples"),
    ] {
        place
            .leaves_nothing(|| place.run(&format!("{train} {data}")))
            .failed(&[words]);
    }
}

#[test]
fn a_byte_order_mark_is_no_error() {
    let place = Place::new();
    let text = String::from_utf8(place.read("text.json")).unwrap();
    place.write("d.json", format!("\u{feff}{text}"));
    place.run("plan -m model.gguf --data d.json").done();
}
