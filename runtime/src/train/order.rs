//! In which order samples are seen: a function of the seed and the epoch alone, so that a resumed
//! run needs no state for it.

/// How an epoch is ordered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Order {
    /// A new permutation every epoch.
    #[default]
    Shuffled,
    /// As the data set has them.
    Given,
    /// Permuted, then sorted by length within stretches of this many updates' samples, so that an
    /// update holds samples of like length.
    ByLength,
}

/// The order of one epoch; `group` is the number of samples of an update.
pub fn epoch(order: Order, lengths: &[usize], group: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..lengths.len()).collect();
    if order == Order::Given {
        return indices;
    }
    let mut random = SplitMix(seed ^ epoch.wrapping_mul(0xd134_2543_de82_ef95));
    shuffle(&mut indices, &mut random);
    if order == Order::ByLength {
        const UPDATES: usize = 50;
        let stretch = group.max(1) * UPDATES;
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for part in indices.chunks_mut(stretch) {
            part.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
            groups.extend(part.chunks(group.max(1)).map(<[usize]>::to_vec));
        }
        // The longest come first, so that a sequence too long for memory shows at once; a short
        // group stays last.
        if groups.len() > 2 {
            let last = groups.len() - 1;
            shuffle(&mut groups[1..last], &mut random);
        }
        indices = groups.concat();
    }
    indices
}

fn shuffle<T>(items: &mut [T], random: &mut SplitMix) {
    for i in (1..items.len()).rev() {
        items.swap(i, (random.next() % (i as u64 + 1)) as usize);
    }
}

/// SplitMix64 (Steele, Lea & Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_sample_once_and_repeats_with_its_seed() {
        let lengths: Vec<usize> = (0..103).map(|i| i * 7 % 31).collect();
        for order in [Order::Shuffled, Order::Given, Order::ByLength] {
            let first = epoch(order, &lengths, 4, 1, 0);
            let mut sorted = first.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..103).collect::<Vec<_>>());
            assert_eq!(first, epoch(order, &lengths, 4, 1, 0));
            assert_eq!(
                first == epoch(order, &lengths, 4, 1, 1),
                order == Order::Given
            );
        }
    }

    #[test]
    fn by_length_puts_like_lengths_together() {
        let lengths: Vec<usize> = (0..100).collect();
        for group in epoch(Order::ByLength, &lengths, 4, 1, 0).chunks(4) {
            assert_eq!(group.iter().max().unwrap() - group.iter().min().unwrap(), 3);
        }
    }
}
