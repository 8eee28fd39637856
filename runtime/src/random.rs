//! Repeatable random numbers: SplitMix64 (Steele, Lea & Flood 2014). Everything that is drawn is a function
//! of a seed that the user chose, so that runs repeat and go on.

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    /// The sequence of a seed; near seeds give near states, see [`SplitMix::of`].
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The sequence of part number `part` of something that has one seed.
    pub fn of(seed: u64, part: u64) -> Self {
        Self(mix(seed ^ mix(part)))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The next number, from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `len` numbers, uniform between `-bound` and `bound`.
    pub fn uniform(mut self, len: usize, bound: f64) -> Vec<f32> {
        let value = |_| ((2.0 * self.unit() - 1.0) * bound) as f32;
        (0..len).map(value).collect()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::SplitMix;

    /// The first numbers of seed 1234567, as the authors' own program prints them.
    #[test]
    fn the_sequence_is_the_published_one() {
        let mut random = SplitMix::new(1_234_567);
        let first = [(); 3].map(|()| random.next());
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
        let values = SplitMix::of(1, 2).uniform(1000, 0.5);
        assert!(values.iter().all(|v| v.abs() <= 0.5));
        assert!(values.iter().any(|v| *v > 0.4) && values.iter().any(|v| *v < -0.4));
        assert_ne!(values, SplitMix::of(1, 3).uniform(1000, 0.5));
    }
}
