//! Logits to a token, with a seeded generator.
//!
//! The order is fixed: top-k, then top-p, then min-p on the probabilities of what is left, then
//! temperature, then a draw. Temperature 0 takes the largest logit, of equals the lowest id.

use crate::random::SplitMix;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Keep this many of the likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keep the likeliest up to this total probability; 1 keeps all.
    pub top_p: f32,
    /// Keep what is at least this part as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Of the generator.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
        }
    }
}

/// A stream of choices; the same seed and logits give the same tokens.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix,
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler at the beginning of its stream.
    pub fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            random: SplitMix::new(sampling.seed),
            candidates: Vec::new(),
        }
    }

    /// Chooses a token; `logits` is `[V]`, not empty. A NaN is never chosen unless all are.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.sampling;
        if temperature <= 0.0 {
            return greedy(logits);
        }
        let candidates = &mut self.candidates;
        candidates.clear();
        let numbered = logits.iter().enumerate().filter(|(_, l)| !l.is_nan());
        candidates.extend(numbered.map(|(i, &l)| (i as u32, l)));
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if top_k > 0 {
            candidates.truncate(top_k);
        }
        let Some(&(likeliest, largest)) = candidates.first() else {
            return greedy(logits);
        };
        if top_p < 1.0 || min_p > 0.0 {
            let weight = |l: f32| (l - largest).exp();
            let total: f32 = candidates.iter().map(|c| weight(c.1)).sum();
            let mut sum = 0.0;
            let kept = candidates.iter().take_while(|c| {
                let keep = sum < top_p * total && weight(c.1) >= min_p;
                sum += weight(c.1);
                keep
            });
            let kept = kept.count().max(1);
            candidates.truncate(kept);
        }
        let weight = |l: f32| f64::from((l - largest) / temperature).exp();
        let total: f64 = candidates.iter().map(|c| weight(c.1)).sum();
        let mut left = self.random.unit() * total;
        for &(id, logit) in &self.candidates {
            left -= weight(logit);
            if left < 0.0 {
                return id;
            }
        }
        likeliest
    }
}

fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || (logits[best].is_nan() && !logit.is_nan()) {
            best = i;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling);
        let mut counts = vec![0; logits.len()];
        (0..draws).for_each(|_| counts[sampler.choose(logits) as usize] += 1);
        counts
    }

    #[test]
    fn greedy_takes_the_lowest_of_equals_and_no_nan() {
        assert_eq!(
            Sampler::new(Sampling::default()).choose(&[1.0, 3.0, 3.0]),
            1
        );
        assert_eq!(
            Sampler::new(Sampling::default()).choose(&[f32::NAN, -1.0]),
            1
        );
        let hot = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        assert_eq!(Sampler::new(hot).choose(&[f32::NAN, f32::NAN]), 0);
    }

    #[test]
    fn draws_follow_the_probabilities_and_repeat() {
        let hot = Sampling {
            temperature: 1.0,
            seed: 3,
            ..Sampling::default()
        };
        let logits = [0.0, 1f32.exp().ln() + 1.0, f32::NEG_INFINITY];
        let seen = counts(hot, &logits, 20_000);
        let want = 20_000.0 / (1.0 + 2f64.exp());
        assert!(
            (seen[0] as f64 - want).abs() < 4.0 * want.sqrt(),
            "{seen:?}"
        );
        assert_eq!(seen[2], 0);
        assert_eq!(seen, counts(hot, &logits, 20_000));
    }

    #[test]
    fn the_cuts_leave_the_likeliest() {
        let logits = [2.0, 1.0, 0.0, -1.0];
        let hot = Sampling {
            temperature: 5.0,
            ..Sampling::default()
        };
        let alive = |s: Sampling| counts(s, &logits, 2_000).iter().filter(|&&n| n > 0).count();
        assert_eq!(alive(hot), 4);
        assert_eq!(alive(Sampling { top_k: 2, ..hot }), 2);
        assert_eq!(alive(Sampling { top_p: 0.5, ..hot }), 1);
        assert_eq!(alive(Sampling { min_p: 0.2, ..hot }), 2);
        assert_eq!(alive(Sampling { top_p: 0.0, ..hot }), 1);
    }
}
