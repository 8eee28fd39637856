//! In which order packs are seen: a function of the seed and the epoch alone, so that a resumed run
//! needs no state for it.

use super::TrainOptions;
use super::packs::Pack;
use crate::random::SplitMix;

/// How an epoch is ordered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Order {
    /// A new permutation every epoch.
    #[default]
    Shuffled,
    /// As the data set has them.
    Given,
    /// Permuted, then sorted by length within stretches of some updates' packs, so that an update holds
    /// packs of like length.
    ByLength,
    /// The same with images and without apart, so that an update holds only one kind.
    ByModality,
}

impl Order {
    fn of(options: &TrainOptions) -> Self {
        match (
            options.group_by_modality_length,
            options.group_by_length,
            options.shuffle,
        ) {
            (true, _, _) => Self::ByModality,
            (_, true, _) => Self::ByLength,
            (_, _, true) => Self::Shuffled,
            (_, _, false) => Self::Given,
        }
    }
}

/// The order of one epoch: numbers of packs. An update takes the next `batch * grad_accum` of them.
pub fn epoch(packs: &[Pack], options: &TrainOptions, epoch: u64) -> Vec<usize> {
    let group = options.batch * options.grad_accum;
    let mut indices: Vec<usize> = (0..packs.len()).collect();
    let order = Order::of(options);
    let mut random = SplitMix::new(options.seed ^ epoch.wrapping_mul(0xd134_2543_de82_ef95));
    match order {
        Order::Given => indices,
        Order::Shuffled => {
            shuffle(&mut indices, &mut random);
            indices
        }
        Order::ByLength => {
            shuffle(&mut indices, &mut random);
            let mut groups = like_lengths(indices, packs, group);
            shuffle_middle(&mut groups, &mut random);
            groups.concat()
        }
        Order::ByModality => by_modality(packs, options, &mut random),
    }
}

/// Groups of one update each, of like length; the last may be short.
fn like_lengths(mut indices: Vec<usize>, packs: &[Pack], group: usize) -> Vec<Vec<usize>> {
    const UPDATES: usize = 50;
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for part in indices.chunks_mut(group * UPDATES) {
        part.sort_by_key(|&i| std::cmp::Reverse(packs[i].rows()));
        groups.extend(part.chunks(group).map(<[usize]>::to_vec));
    }
    groups
}

/// The longest come first, so that a sequence too long for memory shows at once; a short group stays
/// last.
fn shuffle_middle(groups: &mut [Vec<usize>], random: &mut SplitMix) {
    if groups.len() > 2 {
        let last = groups.len() - 1;
        shuffle(&mut groups[1..last], random);
    }
}

/// LLaVA's `group_by_modality_length`: groups of one kind, in any order; what is left of both kinds
/// comes last, as the data set has it. LLaVA sorts within a group only; ours are of like length too.
fn by_modality(packs: &[Pack], options: &TrainOptions, random: &mut SplitMix) -> Vec<usize> {
    let group = options.batch * options.grad_accum;
    let mut kinds = [true, false].map(|image| {
        let of_kind = |&i: &usize| packs[i].image() == image;
        let mut indices: Vec<usize> = (0..packs.len()).filter(of_kind).collect();
        shuffle(&mut indices, random);
        let mut groups = like_lengths(indices, packs, group);
        for whole in groups.iter_mut().filter(|g| g.len() == group) {
            *whole = even(whole, packs, options.grad_accum);
        }
        groups
    });
    if let Some(alone) = kinds.iter().position(Vec::is_empty) {
        let groups = &mut kinds[1 - alone];
        shuffle_middle(groups, random);
        return groups.concat();
    }
    let (mut whole, short): (Vec<_>, Vec<_>) =
        kinds.into_iter().flatten().partition(|g| g.len() == group);
    shuffle(&mut whole, random);
    let mut rest = short.concat();
    rest.sort_unstable();
    whole.push(rest);
    whole.concat()
}

/// A group's packs, longest first, dealt to its micro-batches so that these are of about equal length:
/// each goes to the shortest that has room.
fn even(group: &[usize], packs: &[Pack], micro_batches: usize) -> Vec<usize> {
    let most = group.len() / micro_batches;
    let mut batches = vec![(0, Vec::with_capacity(most)); micro_batches];
    for &index in group {
        let open = batches.iter_mut().filter(|(_, batch)| batch.len() < most);
        if let Some((rows, batch)) = open.min_by_key(|(rows, _)| *rows) {
            *rows += packs[index].rows();
            batch.push(index);
        }
    }
    batches.into_iter().flat_map(|(_, batch)| batch).collect()
}

fn shuffle<T>(items: &mut [T], random: &mut SplitMix) {
    for i in (1..items.len()).rev() {
        items.swap(i, (random.next() % (i as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::super::packs::Extent;
    use super::*;

    /// One pack for each length; every third shows an image.
    fn packs(lengths: impl IntoIterator<Item = usize>) -> Vec<Pack> {
        let pack = |(i, tokens)| {
            let extent = Extent {
                tokens,
                learned: 1,
                image: i % 3 == 0,
            };
            Pack::one(i, extent)
        };
        lengths.into_iter().enumerate().map(pack).collect()
    }

    fn options(batch: usize, grad_accum: usize) -> TrainOptions {
        TrainOptions {
            batch,
            grad_accum,
            seed: 1,
            ..TrainOptions::default()
        }
    }

    #[test]
    fn every_epoch_sees_every_sample_once_and_repeats_with_its_seed() {
        let packs = packs((0..103).map(|i| i * 7 % 31));
        for (shuffle, group_by_length, group_by_modality_length) in [
            (true, false, false),
            (false, false, false),
            (true, true, false),
            (true, false, true),
        ] {
            let options = TrainOptions {
                shuffle,
                group_by_length,
                group_by_modality_length,
                ..options(2, 2)
            };
            let first = epoch(&packs, &options, 0);
            let mut sorted = first.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..103).collect::<Vec<_>>());
            assert_eq!(first, epoch(&packs, &options, 0));
            assert_eq!(first == epoch(&packs, &options, 1), !shuffle);
            let other = TrainOptions { seed: 2, ..options };
            assert_eq!(first == epoch(&packs, &other, 0), !shuffle);
        }
    }

    #[test]
    fn by_length_puts_like_lengths_together() {
        let options = TrainOptions {
            group_by_length: true,
            ..options(4, 1)
        };
        for group in epoch(&packs(0..100), &options, 0).chunks(4) {
            assert_eq!(group.iter().max().unwrap() - group.iter().min().unwrap(), 3);
        }
    }

    #[test]
    fn by_modality_no_update_mixes_kinds_and_its_lengths_are_alike() {
        // 34 with an image, 66 without: 2 of each are left.
        let packs = packs(0..100);
        let options = TrainOptions {
            group_by_modality_length: true,
            ..options(2, 2)
        };
        let mut firsts = Vec::new();
        for number in 0..20 {
            let order = epoch(&packs, &options, number);
            let (whole, rest) = order.split_at(96);
            let mut kinds = Vec::new();
            for group in whole.chunks(4) {
                let images = group.iter().filter(|&&i| packs[i].image()).count();
                assert!(images == 0 || images == 4, "{group:?}");
                let spread = group.iter().max().unwrap() - group.iter().min().unwrap();
                assert!(spread <= 9, "four neighbours of a kind: {group:?}");
                let [a, b] = [&group[..2], &group[2..]].map(|batch| batch.iter().sum::<usize>());
                assert!(a.abs_diff(b) <= 3, "even micro-batches: {group:?}");
                kinds.push(images > 0);
            }
            assert!(!kinds.is_sorted_by(|a, b| a >= b), "kinds alternate");
            assert!(rest.is_sorted(), "{rest:?}");
            assert_eq!(rest.iter().filter(|&&i| packs[i].image()).count(), 2);
            firsts.push(order);
        }
        firsts.sort();
        firsts.dedup();
        assert_eq!(firsts.len(), 20, "a new order every epoch");
    }

    #[test]
    fn by_modality_of_one_kind_is_by_length() {
        let text = packs(0..40).into_iter().filter(|pack| !pack.image());
        let text: Vec<Pack> = text.take(22).collect();
        let options = TrainOptions {
            group_by_modality_length: true,
            ..options(4, 1)
        };
        let order = epoch(&text, &options, 0);
        let mut groups = order.chunks(4).map(|group| group.to_vec());
        assert!(groups.all(|group| group.iter().max().unwrap() - group.iter().min().unwrap() < 4));
        assert_eq!(order[20..].len(), 2, "a short group is last");
        assert_eq!(
            *order.iter().take(4).max().unwrap(),
            21,
            "the longest first"
        );
    }
}
