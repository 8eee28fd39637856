//! How far one model's next-token distributions are from another's.

/// What was found at the positions that were looked at.
#[derive(Clone, Debug, Default)]
pub struct Divergence {
    /// KL divergence at each, in nats.
    each: Vec<f64>,
    /// Where both think the same token the likeliest.
    agreed: usize,
}

impl Divergence {
    /// Adds a position: logits of the model that is right, and of the other.
    pub fn add(&mut self, right: &[f32], other: &[f32]) {
        let (p, q) = (Logs::of(right), Logs::of(other));
        let terms = right.iter().zip(other).map(|(&r, &o)| {
            let log = p.of_logit(r);
            log.exp() * (log - q.of_logit(o))
        });
        // Rounding can make nothing a little less than nothing.
        self.each.push(terms.sum::<f64>().max(0.0));
        self.agreed += usize::from(p.place == q.place);
    }

    /// Positions.
    pub fn positions(&self) -> usize {
        self.each.len()
    }

    /// Mean over the positions, in nats.
    pub fn mean(&self) -> f64 {
        self.each.iter().sum::<f64>() / self.each.len().max(1) as f64
    }

    /// The divergence that this share of the positions does not exceed.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.each.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (share * sorted.len() as f64).ceil() as usize;
        let place = place.clamp(1, sorted.len().max(1)) - 1;
        sorted.get(place).copied().unwrap_or(0.0)
    }

    /// The share of positions where both think the same token the likeliest.
    pub fn agreement(&self) -> f64 {
        self.agreed as f64 / self.each.len().max(1) as f64
    }
}

/// Logits as logarithms of probabilities.
struct Logs {
    largest: f64,
    /// Logarithm of the sum of exponentials beside the largest.
    sum: f64,
    /// Of the largest.
    place: usize,
}

impl Logs {
    fn of(logits: &[f32]) -> Self {
        let mut place = 0;
        for (i, logit) in logits.iter().enumerate() {
            if *logit > logits[place] {
                place = i;
            }
        }
        let largest = f64::from(logits[place]);
        let sum: f64 = logits.iter().map(|&l| (f64::from(l) - largest).exp()).sum();
        Self {
            largest,
            sum: sum.ln(),
            place,
        }
    }

    fn of_logit(&self, logit: f32) -> f64 {
        f64::from(logit) - self.largest - self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_diverge_by_what_the_book_says() {
        let logits = |p: f32| [p.ln(), (1.0 - p).ln()];
        let mut found = Divergence::default();
        found.add(&logits(0.5), &logits(0.5));
        assert_eq!((found.mean(), found.agreement()), (0.0, 1.0));
        found.add(&logits(0.75), &logits(0.25));
        let expected = 0.5 * 3f64.ln();
        assert!((found.percentile(0.99) - expected).abs() < 1e-6);
        assert!((found.mean() - expected / 2.0).abs() < 1e-6);
        assert_eq!((found.positions(), found.agreement()), (2, 0.5));
        assert_eq!(found.percentile(0.5), 0.0);
        // A shift of all logits says nothing.
        let mut shifted = Divergence::default();
        shifted.add(&[1.0, 2.0, 3.0], &[101.0, 102.0, 103.0]);
        assert!(shifted.mean() < 1e-12);
    }
}
