//! Inverted dropout: `y = x * keep / (1 - rate)`, `keep` zero with probability `rate`.
//!
//! Shapes: `x` and `y` have the same length; the operator is elementwise. Whether an element is
//! kept is a pure function of seed, stream and the element's number, so backward and recomputation
//! need no stored mask, and a run cut into pieces (see [`Dropout::after`]) drops the same elements.
//! Source: Srivastava et al. 2014, JMLR 15; the mixing function is SplitMix64's (Steele, Lea &
//! Flood 2014, OOPSLA), which is made to be called on a counter.

use super::real::Real;

/// Which elements are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of being dropped, 0 to below 1, used in steps of 2^-16.
    pub rate: f32,
    /// One training run's seed.
    pub seed: u64,
    /// Tells the uses of one seed apart: the step and the place in the model.
    pub stream: u64,
    /// Number of the first element of the run.
    pub first: u64,
}

impl Dropout {
    /// No dropout: every element is kept as it is.
    pub const NONE: Self = Self {
        rate: 0.0,
        seed: 0,
        stream: 0,
        first: 0,
    };

    /// The same dropout for what follows the first `elements`.
    pub fn after(self, elements: usize) -> Self {
        Self {
            first: self.first + elements as u64,
            ..self
        }
    }

    /// What element `index` of this run is multiplied by: 0 or `1 / (1 - rate)`.
    ///
    /// Four elements share one 64-bit word, 16 bits each.
    #[inline(always)]
    pub fn factor(&self, index: usize) -> f32 {
        let key = mix(self.seed ^ mix(self.stream));
        let number = self.first.wrapping_add(index as u64);
        let word = mix(key.wrapping_add((number / 4).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let draw = (word >> (16 * (number % 4))) & 0xffff;
        let threshold = (self.rate * 65536.0) as u64;
        if draw < threshold {
            0.0
        } else {
            65536.0 / (65536 - threshold.min(65535)) as f32
        }
    }
}

/// SplitMix64's finaliser: a bijection whose every output bit depends on every input bit.
#[inline(always)]
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes `y`.
pub fn forward<R: Real>(y: &mut [R], x: &[R], dropout: &Dropout) {
    for (index, (y, &x)) in y.iter_mut().zip(x).enumerate() {
        *y = x * R::of(dropout.factor(index) as f64);
    }
}

/// Adds `d loss / d x` to `dx`.
pub fn backward<R: Real>(dx: &mut [R], dy: &[R], dropout: &Dropout) {
    for (index, (dx, &dy)) in dx.iter_mut().zip(dy).enumerate() {
        *dx += dy * R::of(dropout.factor(index) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::real::{central_difference, dot, relative_error, values};
    use super::*;

    const DROPOUT: Dropout = Dropout {
        rate: 0.3,
        seed: 7,
        stream: 9,
        first: 5,
    };

    #[test]
    fn backward_is_the_derivative_of_forward() {
        let (x, dy) = (values(1, 30), values(2, 30));
        let mut dx = vec![0.0; 30];
        backward(&mut dx, &dy, &DROPOUT);
        let want = central_difference(&x, |x| {
            let mut y = vec![0.0; 30];
            forward(&mut y, x, &DROPOUT);
            dot(&y, &dy)
        });
        assert!(relative_error(&dx, &want) < 1e-8);
    }

    #[test]
    fn the_mean_is_kept_and_neighbours_are_independent() {
        let n = 1 << 16;
        let factor: Vec<f64> = (0..n).map(|i| DROPOUT.factor(i) as f64).collect();
        let mean = factor.iter().sum::<f64>() / n as f64;
        let deviation = (0.3 / 0.7 / n as f64).sqrt(); // of the mean of n draws
        assert!((mean - 1.0).abs() < 5.0 * deviation, "{mean}");
        for lag in 1..9 {
            let product: f64 = factor.windows(lag + 1).map(|w| w[0] * w[lag]).sum();
            let product = product / (n as f64 - lag as f64);
            assert!((product - 1.0).abs() < 10.0 * deviation, "{lag}: {product}");
        }
    }

    #[test]
    fn a_run_in_pieces_drops_the_same_elements() {
        let x = values(1, 30);
        let (mut whole, mut pieces) = (vec![0.0; 30], vec![0.0; 30]);
        forward(&mut whole, &x, &DROPOUT);
        forward(&mut pieces[..13], &x[..13], &DROPOUT);
        forward(&mut pieces[13..], &x[13..], &DROPOUT.after(13));
        assert_eq!(whole, pieces);
    }

    #[test]
    fn no_dropout_changes_nothing() {
        assert!((0..100).all(|i| Dropout::NONE.factor(i) == 1.0));
    }
}
