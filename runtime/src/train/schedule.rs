//! Learning rates over a run: warm-up, then cosine, linear or constant, as Hugging Face's trainer.

use std::f64::consts::PI;

/// How the learning rate moves after warm-up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Half a cosine down to zero.
    #[default]
    Cosine,
    /// Straight down to zero.
    Linear,
    /// Stays.
    Constant,
}

/// The factor on the base learning rate at each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    warmup: u64,
    steps: u64,
}

impl Schedule {
    /// A run of `steps` updates of which `ceil(warmup_ratio * steps)` warm up.
    pub fn new(kind: ScheduleKind, steps: u64, warmup_ratio: f64) -> Self {
        Self {
            kind,
            warmup: (warmup_ratio * steps as f64).ceil() as u64,
            steps,
        }
    }

    /// The factor of update number `step + 1`. With warm-up the first update's is 0.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup.max(1) as f64;
        }
        let left = (self.steps.saturating_sub(self.warmup)).max(1) as f64;
        let done = (step - self.warmup) as f64 / left;
        match self.kind {
            ScheduleKind::Cosine => (0.5 * (1.0 + (PI * done).cos())).max(0.0),
            ScheduleKind::Linear => (1.0 - done).max(0.0),
            ScheduleKind::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_run_has_these_rates() {
        let schedule = Schedule::new(ScheduleKind::Cosine, 5198, 0.03);
        for (step, rate) in [
            (0, 0.0),
            (1, 1.28205e-7),
            (156, 2e-5),
            (2599, 1.04858e-5),
            (5198, 0.0),
        ] {
            let got = 2e-5 * schedule.factor(step);
            assert!((got - rate).abs() < 1e-10, "step {step}: {got:e}");
        }
        let linear = Schedule::new(ScheduleKind::Linear, 10, 0.2);
        assert_eq!(
            (linear.factor(2), linear.factor(6), linear.factor(10)),
            (1.0, 0.5, 0.0)
        );
        assert_eq!(
            Schedule::new(ScheduleKind::Constant, 10, 0.0).factor(0),
            1.0
        );
    }
}
