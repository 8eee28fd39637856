//! Where a run stands by its evaluation data: the best it has been, and since when it is no better.

use serde::{Deserialize, Serialize};

/// The lowest loss on the evaluation data.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Best {
    /// Updates done when it was measured.
    pub step: u64,
    /// Mean loss over the learned tokens.
    pub loss: f64,
}

/// When a run ends before its last update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStop {
    /// Evaluations in a row without an improvement.
    pub after: u64,
    /// The loss must fall by more than this to be an improvement.
    pub delta: f64,
}

/// What the evaluations so far have shown; part of every checkpoint.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Standing {
    /// The lowest loss.
    pub best: Option<Best>,
    /// The loss of the last improvement.
    pub mark: Option<f64>,
    /// Evaluations since the last improvement.
    pub since: u64,
    /// SHA-256 of the evaluation data.
    pub data: Option<String>,
}

impl Standing {
    /// Takes note of an evaluation. A loss that is no number is no improvement.
    pub(super) fn note(&mut self, step: u64, loss: f64, delta: f64) {
        if loss.is_finite() && self.best.is_none_or(|best| loss < best.loss) {
            self.best = Some(Best { step, loss });
        }
        if loss.is_finite() && self.mark.is_none_or(|mark| loss < mark - delta) {
            self.mark = Some(loss);
            self.since = 0;
        } else {
            self.since += 1;
        }
    }

    /// Whether a run with this rule is over.
    pub fn is_over(&self, rule: Option<EarlyStop>) -> bool {
        rule.is_some_and(|rule| self.since >= rule.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_improvements_are_kept_as_the_best_and_do_not_prolong_the_run() {
        let mut standing = Standing::default();
        let rule = |after| Some(EarlyStop { after, delta: 0.1 });
        for (step, loss, best, since) in [
            (1, f64::NAN, None, 1),
            (2, 2.0, Some(2), 0),
            (3, 1.95, Some(3), 1),
            (4, 1.97, Some(3), 2),
            (5, f64::INFINITY, Some(3), 3),
            // Both small steps together are more than the delta.
            (6, 1.88, Some(6), 0),
        ] {
            standing.note(step, loss, 0.1);
            assert_eq!(standing.best.map(|b| b.step), best, "step {step}");
            assert_eq!(standing.since, since, "step {step}");
            assert_eq!(standing.is_over(rule(3)), since == 3);
        }
        assert!(!standing.is_over(None));
    }

    #[test]
    fn a_standing_comes_back_from_json_bit_for_bit() {
        let mut standing = Standing::default();
        for i in 1..2000_u64 {
            standing.best = Some(Best {
                step: i,
                loss: 1.0 / i as f64 + 1e-7 / (i as f64).sqrt(),
            });
            let text = serde_json::to_string(&standing).unwrap();
            assert_eq!(serde_json::from_str::<Standing>(&text).unwrap(), standing);
        }
        assert_eq!(
            serde_json::from_str::<Standing>("{}").unwrap(),
            Standing::default()
        );
    }
}
