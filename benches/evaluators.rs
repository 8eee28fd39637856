//! How long the shipped evaluators take to score answers, in their sandbox and with everything around
//! it: the records of their benchmarks as they come from a data set, answers as models give them.
//!
//! `bench-evaluators [answers] [part of a name]`

use std::sync::Arc;
use std::time::Instant;

use graft::dataset::{ImageRef, Role, Sample, Turn};
use graft::evaluate::{EvaluateError, Evaluator, Prediction, Remarks, Scorer};
use graft_plugins::{Grants, Host, Limits, shipped};
use serde_json::{Map, Value, json};

const COLOURS: [&str; 8] = [
    "red", "dark red", "Blue.", "two", "yes", "the left", "no", "T-shirt",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let answers: usize = arguments.next().map_or(Ok(100_000), |n| n.parse())?;
    let wanted = arguments.next().unwrap_or_default();
    let host = Host::new(Limits::default(), None)?;
    for name in shipped::names().filter(|name| name.contains(&wanted)) {
        let bytes = shipped::plugin(name).expect("a shipped plugin");
        let plugin = host.load_bytes(name, bytes, &Grants::default())?;
        // Converters are shipped as well.
        if let Ok(evaluator) = plugin.into_evaluator() {
            measure(name, &evaluator, answers)?;
        }
    }
    Ok(())
}

fn measure(name: &str, evaluator: &dyn Evaluator, answers: usize) -> Result<(), EvaluateError> {
    let cases: Vec<(Sample, Prediction)> = (0..answers).map(|i| case(name, i)).collect();
    let bytes: usize = cases.iter().map(|(_, said)| said.text.len()).sum();
    let begun = Instant::now();
    let mut run = Scorer::start(evaluator, "{}", 0, Arc::new(Remarks::default()))?;
    for (sample, said) in &cases {
        run.score(sample, said)?;
    }
    let totals = run.finish()?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{name:<14} {answers} answers of {:>4} bytes in {seconds:>6.2} s, {:>6.1} us each; {} {:.4}",
        bytes / answers.max(1),
        seconds / answers.max(1) as f64 * 1e6,
        totals[0].metric,
        totals[0].value,
    );
    Ok(())
}

/// The `index`th record of the benchmark that `name` is for, and an answer to it.
fn case(name: &str, index: usize) -> (Sample, Prediction) {
    let pick = |salt: usize| COLOURS[(index * 7 + salt * salt) % COLOURS.len()];
    let people: Vec<&str> = (0..10).map(|i| pick(i / 3)).collect();
    let paragraph = |salt: usize| {
        (0..40)
            .map(|i| pick(i + salt))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let (hoped, said, extra) = match name {
        "vqa-accuracy" => {
            let people = (0..10).map(|i| json!({"answer": people[i], "answer_id": i}));
            let people: Vec<Value> = people.collect();
            let extra =
                json!({"answers": people, "question_type": pick(1), "answer_type": "other"});
            (pick(0).into(), pick(0).into(), extra)
        }
        "anls" => {
            let answers = [paragraph(1), "2 May 1999".into(), "ACME Corp.".into()];
            let extra = json!({"answers": answers, "question_types": ["form", "layout"]});
            (paragraph(1), paragraph(index % 3), extra)
        }
        "rouge-l" => (paragraph(0), paragraph(index % 5), json!({})),
        "json-fields" => (document(index, 0), document(index, index % 3), json!({})),
        "pope" => {
            let said = ["Yes, there is a dog.", "No"][index % 2];
            ("no".into(), said.into(), json!({"category": "adversarial"}))
        }
        "gqa" => {
            let step = json!({"operation": "select", "argument": "cup (1)", "dependencies": []});
            let extra = json!({
                "types": {"structural": "query", "semantic": "rel", "detailed": "relS"},
                "groups": {"global": "colour", "local": "13-cup"},
                "semantic": [step, step, step], "question": "What is the cup on?",
                "isBalanced": true, "entailed": ["1", "2"],
            });
            (pick(0).into(), pick(index % 2).into(), extra)
        }
        "science-qa" => {
            let choices = ["New Hampshire", "Vermont", "Maine", "Ohio"];
            let extra = json!({"choices": choices, "subject": "social science", "grade": "grade4"});
            (
                "B".into(),
                ["B", "The answer is C."][index % 2].into(),
                extra,
            )
        }
        _ => (pick(0).into(), pick(index % 3).into(), json!({})),
    };
    let Value::Object(extra) = extra else {
        unreachable!("records are objects")
    };
    (sample(index, hoped, extra), prediction(said))
}

/// An invoice with two dozen fields; `damage` changes some.
fn document(index: usize, damage: usize) -> String {
    let rows = (0..5).map(|row| {
        let price = format!("{}.{:02}", 100 + row * damage, index % 100);
        json!({"description": COLOURS[(row + index) % 8], "quantity": row + 1, "price": price})
    });
    let rows: Vec<Value> = rows.collect();
    let invoice = json!({
        "vendor": {"name": "ACME Corporation", "city": "Springfield", "tax_id": index},
        "date": "1999-05-01", "currency": "EUR", "total": 1284.5 + damage as f64, "items": rows,
    });
    invoice.to_string()
}

fn sample(index: usize, hoped: String, extra: Map<String, Value>) -> Sample {
    let question = "What is in the image? Answer the question using a single word or phrase.";
    Sample {
        id: index.to_string(),
        images: vec![ImageRef::Path(format!("images/{index:012}.jpg").into())],
        turns: vec![
            Turn::text(Role::User, question),
            Turn::text(Role::Assistant, hoped),
        ],
        origin: None,
        extra,
    }
}

fn prediction(text: String) -> Prediction {
    Prediction {
        text,
        finish_reason: "end".into(),
        ..Prediction::default()
    }
}
