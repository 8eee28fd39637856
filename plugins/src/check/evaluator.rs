//! The rules of an evaluator.

use std::sync::Arc;
use std::time::Duration;

use graft::dataset::{Role, Sample, Turn};
use graft::evaluate::{
    EvaluateError, Evaluator, EvaluatorDescription, EvaluatorRun, Prediction, Score,
};
use serde_json::{Map, json};

use super::desk::Bench;
use super::schema::Taken;
use super::{Broken, Row, Ruling, Verdict, With, is_kebab, kept, options, row, schema};
use crate::evaluator::WasmEvaluator;

/// The seed of all runs but those that are compared.
const SEED: u64 = 7;
/// The most samples of the author's that are scored.
const SAMPLES: usize = 50;
/// Bytes of a long answer.
const LONG: usize = 1 << 20;

struct Subject<'a> {
    plugin: &'a WasmEvaluator,
    options: &'a str,
    described: EvaluatorDescription,
    /// Samples to score; the first of them are the author's.
    samples: Vec<Sample>,
    own: bool,
}

/// A rule by name.
type Rule = (&'static str, fn(&Subject) -> Ruling);

/// Tries every rule.
pub fn rows(plugin: &WasmEvaluator, with: &With) -> Vec<Row> {
    let described = plugin.describe();
    let own = !with.samples.is_empty();
    let subject = Subject {
        plugin,
        options: options(with),
        described: described.unwrap_or_else(|_| EvaluatorDescription {
            metrics: Vec::new(),
            options_schema: "{}".into(),
        }),
        samples: match own {
            true => with.samples.iter().take(SAMPLES).cloned().collect(),
            false => usual_samples(),
        },
        own,
    };
    let rules: [Rule; 9] = [
        ("describes itself", describes),
        ("schema of its options", |s| {
            schema::ruling(&s.described.options_schema)
        }),
        ("refuses wrong options", wrong_options),
        ("default options", default_options),
        ("scores answers", scores),
        ("odd answers", odd_answers),
        ("a sample without an answer", no_answer),
        ("finishes", finishes),
        ("the same scores again", same_again),
    ];
    rules
        .iter()
        .map(|(rule, ask)| row(rule, ask(&subject)))
        .collect()
}

impl Subject<'_> {
    fn start(&self, options: &str, seed: u64) -> Result<Box<dyn EvaluatorRun>, EvaluateError> {
        self.plugin.start(options, seed, Arc::new(Bench::default()))
    }

    fn started(&self) -> Result<Box<dyn EvaluatorRun>, Broken> {
        const ADVICE: &str = "`start` begins a run with the options it is given; those that it cannot do without are \
             given with --option KEY=VALUE";
        let run = self.start(self.options, SEED);
        run.map_err(|error| Broken::new(format!("`start` failed: {error}"), ADVICE))
    }

    /// Whether scores are numbers of declared metrics.
    fn sound(&self, scores: &[Score], of: &str) -> Result<(), Broken> {
        const DECLARE: &str = "declare every metric that you score in `describe`; a part of the data set is scored as \
             metric[part]";
        const FINITE: &str = "a value is a finite number and a weight a finite number that is not negative: beware of \
             dividing by the length of an empty answer; what has no value gets no score";
        for score in scores {
            let name = score
                .metric
                .split_once('[')
                .map_or(score.metric.as_str(), |(name, _)| name);
            let whole = score.metric == name || score.metric.ends_with(']');
            if !whole
                || !self
                    .described
                    .metrics
                    .iter()
                    .any(|metric| metric.name == name)
            {
                let what = format!(
                    "{of} it scores {:?}, which it does not declare",
                    score.metric
                );
                return Err(Broken::new(what, DECLARE));
            }
            if !score.value.is_finite() || !score.weight.is_finite() || score.weight < 0.0 {
                let (value, weight) = (score.value, score.weight);
                let what = format!(
                    "{of} it scores {value} with the weight {weight} as {}",
                    score.metric
                );
                return Err(Broken::new(what, FINITE));
            }
        }
        Ok(())
    }

    /// Scores one answer; `None` if the reference is none that it can use.
    fn score(
        &self,
        run: &mut dyn EvaluatorRun,
        sample: &Sample,
        predicted: &Prediction,
        of: &str,
    ) -> Result<Option<Vec<Score>>, Broken> {
        match run.score(sample, predicted) {
            Ok(scores) => self.sound(&scores, of).map(|()| Some(scores)),
            Err(EvaluateError::InvalidInput(fault)) => {
                if is_kebab(&fault.code) && !fault.message.trim().is_empty() {
                    return Ok(None);
                }
                let advice = "the remark of invalid-input has a code in kebab case and a sentence for people";
                let what = format!(
                    "{of} it says {:?} with the code {:?}",
                    fault.message, fault.code
                );
                Err(Broken::new(what, advice))
            }
            Err(error) => {
                let advice = "a model may answer anything, and any answer has a score: a wrong one scores as wrong; a \
                     sample that cannot be scored is invalid-input";
                Err(Broken::new(format!("{of} it says: {error}"), advice))
            }
        }
    }
}

fn describes(subject: &Subject) -> Ruling {
    const ADVICE: &str = "`describe` names at least one metric; names differ, and have no brackets, since metric[part] is \
         a metric of a part of the data set";
    let broken = |what: String| Broken::new(what, ADVICE);
    let said = subject.plugin.describe();
    let said = said.map_err(|error| broken(format!("`describe` failed: {error}")))?;
    if said.metrics.is_empty() {
        return Err(broken("it names no metric".into()));
    }
    for (i, metric) in said.metrics.iter().enumerate() {
        let name = &metric.name;
        if name.trim().is_empty() || name.contains(['[', ']']) {
            return Err(broken(format!("a metric is called {name:?}")));
        }
        if said.metrics[..i].iter().any(|other| other.name == *name) {
            return Err(broken(format!("two metrics are called {name:?}")));
        }
    }
    let names: Vec<_> = said
        .metrics
        .iter()
        .map(|metric| metric.name.as_str())
        .collect();
    kept(names.join(", "))
}

fn wrong_options(subject: &Subject) -> Ruling {
    const ADVICE: &str = "return invalid-options from `start` for an option that you do not know or whose value has \
         another type than the schema says: else a misspelt option has no effect and nobody notices";
    schema::refuses_what_it_forbids(&subject.described.options_schema, ADVICE, |options| {
        match subject.start(options, SEED) {
            Err(EvaluateError::InvalidOptions(_)) => Taken::Refused,
            Ok(_) => Taken::Accepted,
            Err(error) => Taken::Failed(error.to_string()),
        }
    })
}

fn default_options(subject: &Subject) -> Ruling {
    const ADVICE: &str = "an option that is left out and one that is given with the default of the schema mean the same";
    let defaults = schema::defaults(&subject.described.options_schema);
    let all = |options: &str| {
        let run = subject.start(options, SEED);
        let mut run =
            run.map_err(|error| Broken::new(format!("with {options} it says: {error}"), ADVICE))?;
        subject
            .samples
            .iter()
            .map(|sample| {
                let predicted = prediction(&answer_of(sample));
                subject.score(&mut *run, sample, &predicted, "of the answer hoped for")
            })
            .collect::<Result<Vec<_>, _>>()
    };
    if all("{}")? != all(&defaults)? {
        return Err(Broken::new(
            format!("{defaults} gives other scores than no options"),
            ADVICE,
        ));
    }
    kept(defaults)
}

fn scores(subject: &Subject) -> Ruling {
    let mut run = subject.started()?;
    let mut scored = 0;
    for sample in &subject.samples {
        for text in [answer_of(sample), "another answer".to_owned()] {
            let of = format!("of the answer {:?} to sample {:?}", short(&text), sample.id);
            let scores = subject.score(&mut *run, sample, &prediction(&text), &of)?;
            scored += usize::from(scores.is_some());
        }
    }
    if scored > 0 {
        return kept(format!(
            "{scored} answers to {} samples",
            subject.samples.len()
        ));
    }
    match subject.own {
        true => Err(Broken::new(
            "it refuses every sample that was given",
            "the data set given with --with should be one that it scores",
        )),
        false => Ok(Verdict::NotAsked {
            why: "it refuses the usual samples; give some that it scores: --with FILE",
        }),
    }
}

fn odd_answers(subject: &Subject) -> Ruling {
    let mut run = subject.started()?;
    let answers = odd();
    for sample in subject.samples.iter().take(8) {
        for (name, text) in &answers {
            let of = format!("of {name} as the answer to sample {:?}", sample.id);
            subject.score(&mut *run, sample, &prediction(text), &of)?;
        }
    }
    kept(format!("{} answers, of up to {LONG} bytes", answers.len()))
}

fn no_answer(subject: &Subject) -> Ruling {
    for turns in [vec![], vec![Turn::text(Role::User, "A question?")]] {
        let mut run = subject.started()?;
        let sample = sample("without-answer", turns);
        let of = "of an answer to a sample without one";
        subject.score(&mut *run, &sample, &prediction("an answer"), of)?;
    }
    kept("no turns, and only a question")
}

fn finishes(subject: &Subject) -> Ruling {
    const ADVICE: &str = "`finish` gives finite figures of declared metrics, or none where there was nothing to score: a \
         metric that it leaves out becomes the weighted mean of its single scores";
    for scored in [0, 1, subject.samples.len()] {
        let mut run = subject.started()?;
        for sample in &subject.samples[..scored.min(subject.samples.len())] {
            let predicted = prediction(&answer_of(sample));
            subject.score(&mut *run, sample, &predicted, "of the answer hoped for")?;
        }
        let of = format!("after {scored} answers, at the end,");
        let scores = run.finish();
        let scores =
            scores.map_err(|error| Broken::new(format!("{of} it says: {error}"), ADVICE))?;
        subject.sound(&scores, &of)?;
    }
    kept(format!("after 0, 1 and {} answers", subject.samples.len()))
}

fn same_again(subject: &Subject) -> Ruling {
    const ADVICE: &str = "scores depend on the options, the seed, and the answers in their order alone: beware of hash \
         maps, whose order is another each time";
    for seed in [0, SEED, u64::MAX] {
        let all = || -> Result<Vec<Vec<Score>>, Broken> {
            let run = subject.start(subject.options, seed);
            let mut run = run.map_err(|error| {
                Broken::new(format!("with the seed {seed} it says: {error}"), ADVICE)
            })?;
            let mut all = Vec::new();
            for sample in &subject.samples {
                let predicted = prediction(&answer_of(sample));
                let scores =
                    subject.score(&mut *run, sample, &predicted, "of the answer hoped for")?;
                all.extend(scores);
            }
            let whole = run.finish();
            all.push(
                whole.map_err(|error| Broken::new(format!("`finish` failed: {error}"), ADVICE))?,
            );
            Ok(all)
        };
        if all()? != all()? {
            return Err(Broken::new(
                format!("two runs with the seed {seed} give two results"),
                ADVICE,
            ));
        }
    }
    kept("3 seeds, each twice")
}

/// Samples of the kinds that evaluators are written for.
fn usual_samples() -> Vec<Sample> {
    let answers = [
        "yes",
        "42",
        "A",
        "A short sentence about a red car, and a second half.",
        r#"{"total": "42.00", "lines": [{"name": "pen", "count": 2}]}"#,
        "",
    ];
    let pair = |(i, answer): (usize, &&str)| {
        let turns = vec![
            Turn::text(Role::User, "A question?"),
            Turn::text(Role::Assistant, *answer),
        ];
        let mut sample = sample(&format!("usual-{i}"), turns);
        sample
            .extra
            .insert("answers".into(), json!([answer, "another"]));
        sample
    };
    answers.iter().enumerate().map(pair).collect()
}

fn sample(id: &str, turns: Vec<Turn>) -> Sample {
    Sample {
        id: id.to_owned(),
        images: Vec::new(),
        turns,
        origin: None,
        extra: Map::new(),
    }
}

/// What models say when they go wrong, by name.
fn odd() -> Vec<(&'static str, String)> {
    vec![
        ("nothing", String::new()),
        ("blanks", " \n\t ".into()),
        ("a zero", "\0".into()),
        (
            "text of many scripts",
            "naïve Straße — 数据 🏳️‍🌈 e\u{301} \u{202e}אבג\u{202c} İI".into(),
        ),
        ("a word that is no number", "NaN".into()),
        ("a number that no type holds", "1e999".into()),
        ("half a JSON object", r#"{"total": [1, "#.into()),
        ("10,000 open brackets", "[".repeat(10_000)),
        ("a long word", "x".repeat(LONG)),
        ("many words", "a b ".repeat(LONG / 4)),
    ]
}

fn prediction(text: &str) -> Prediction {
    Prediction {
        text: text.to_owned(),
        finish_reason: "end".into(),
        duration: Duration::from_millis(5),
        extra: Map::new(),
    }
}

/// The answer hoped for.
fn answer_of(sample: &Sample) -> String {
    let mut turns = sample.turns.iter().rev();
    let answer = turns.find(|turn| turn.role == Role::Assistant);
    answer.map_or_else(String::new, Turn::plain_text)
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
