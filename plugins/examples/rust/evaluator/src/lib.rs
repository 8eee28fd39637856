//! An evaluator: an answer is right if it begins with the reference. Put your rule in its place.

use graft_plugin::{
    Error, Evaluator, Metric, Part, Prediction, Role, Run, Sample, Score, export_evaluator,
};

/// One run over a data set.
pub struct Plugin;

impl Evaluator for Plugin {
    const METRICS: &'static [Metric] = &[Metric {
        name: "begins-right",
        unit: "",
        higher_is_better: true,
    }];
    const OPTIONS_SCHEMA: &'static str =
        r#"{"type": "object", "properties": {}, "additionalProperties": false}"#;

    fn start(options: &str, _seed: u64) -> Result<Self, Error> {
        // Knows no option; one that is given is an error rather than without effect.
        graft_plugin::options::Options::parse(options, &[])?;
        Ok(Self)
    }
}

impl Run for Plugin {
    fn score(&mut self, reference: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error> {
        let mut answers = reference.turns.iter().rev();
        let answer = answers.find(|turn| turn.role == Role::Assistant);
        let Some(answer) = answer else {
            let message = format!("sample {:?} has no answer to compare with", reference.id);
            let at = reference.origin.clone();
            return Err(graft_plugin::invalid_input("no-reference", message, at));
        };
        let hoped: String = answer
            .content
            .iter()
            .filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Image(_) => None,
            })
            .collect();
        let right = predicted.text.trim().starts_with(hoped.trim());
        Ok(vec![Score {
            metric: "begins-right".into(),
            value: f64::from(u8::from(right)),
            weight: 1.0,
        }])
    }
}

export_evaluator!(Plugin);

#[cfg(test)]
mod tests {
    use super::*;
    use graft_plugin::Turn;

    #[test]
    fn an_answer_is_right_if_it_begins_with_the_reference() {
        let said = |role, text: &str| Turn {
            role,
            content: vec![Part::Text(text.into())],
        };
        let sample = Sample {
            id: "1".into(),
            images: vec![],
            turns: vec![said(Role::User, "2 + 2?"), said(Role::Assistant, "4")],
            origin: None,
            extra: vec![],
        };
        let mut run = Plugin::start("{}", 0).unwrap();
        for (answer, value) in [("4, of course", 1.0), (" 4", 1.0), ("It is 4", 0.0)] {
            let predicted = Prediction {
                text: answer.into(),
                finish_reason: "end".into(),
                millis: 1,
                extra: vec![],
            };
            let scores = run.score(&sample, &predicted).unwrap();
            assert_eq!(scores[0].value, value, "{answer}");
        }
    }
}
