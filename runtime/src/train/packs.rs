//! Which samples run through the model together, as one block of rows.
//!
//! A sample alone is a pack of one. Several lie one behind the other, each with positions of its own
//! and with attention inside itself, so a pack computes what its samples would compute alone; it only
//! reads each weight once for all of them. Packs are a function of the samples' lengths and kinds, so
//! that a resumed run needs no state for them.

use std::collections::BTreeSet;

use super::{TrainError, TrainOptions};
use crate::model::llava::Sequence;

/// What packs and the order of a run depend on, of one sample.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    /// Its positions, T.
    pub tokens: usize,
    /// Those of them that are learned.
    pub learned: usize,
    /// Whether it shows an image.
    pub image: bool,
}

impl Extent {
    /// Of a sample's positions.
    pub fn of(sequence: &Sequence) -> Self {
        Self {
            tokens: sequence.len(),
            learned: sequence.targets().count(),
            image: sequence.shows_image(),
        }
    }

    /// Whether a run with these options learns anything from it: without pairs only images teach.
    pub fn teaches(&self, options: &TrainOptions) -> bool {
        self.learned > 0 && (self.image || !options.projector_alone())
    }
}

/// The error of a run that learns nothing from any of these samples.
pub fn nothing_to_learn(
    mut extents: impl Iterator<Item = Extent>,
    options: &TrainOptions,
) -> TrainError {
    match extents.any(|extent| extent.learned > 0) {
        true => TrainError::NoImages,
        false => TrainError::NothingToLearn {
            max_tokens: options.max_len,
        },
    }
}

/// Samples that run together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pack {
    members: Vec<usize>,
    ends: Vec<usize>,
    image: bool,
}

impl Pack {
    /// A sample alone.
    pub fn one(member: usize, extent: Extent) -> Self {
        Self {
            members: vec![member],
            ends: vec![extent.tokens],
            image: extent.image,
        }
    }

    fn of(members: Vec<usize>, extents: &[Extent]) -> Self {
        let mut end = 0;
        let grow = |&member: &usize| {
            end += extents[member].tokens;
            end
        };
        Self {
            ends: members.iter().map(grow).collect(),
            image: members.iter().any(|&member| extents[member].image),
            members,
        }
    }

    /// Numbers of its samples.
    pub fn members(&self) -> &[usize] {
        &self.members
    }

    /// The row at which each sample ends.
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// Rows of all.
    pub fn rows(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether any of them shows an image.
    pub fn image(&self) -> bool {
        self.image
    }

    /// Each sample's number and first row.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.members.iter().copied().zip(starts)
    }
}

/// The packs of a run, in the order of their first samples: one for each sample, unless the options ask
/// for packing. Then they have room for `room` rows, or for one sample that is longer.
pub fn packs(extents: &[Extent], options: &TrainOptions, room: usize) -> Vec<Pack> {
    if !options.packing {
        let alone = extents.iter().enumerate();
        return alone.map(|(i, &extent)| Pack::one(i, extent)).collect();
    }
    // Kinds that must not meet in an update must not meet in a pack.
    let of_kind = |image: bool| {
        let fits = |&i: &usize| !options.group_by_modality_length || extents[i].image == image;
        (0..extents.len()).filter(fits).collect::<Vec<_>>()
    };
    let mut all = fill(&of_kind(true), extents, room);
    if options.group_by_modality_length {
        all.extend(fill(&of_kind(false), extents, room));
    }
    all.sort_by_key(|pack| pack.members[0]);
    all
}

/// Best fit, longest first: each sample goes where it leaves the least room.
fn fill(members: &[usize], extents: &[Extent], room: usize) -> Vec<Pack> {
    let mut longest_first = members.to_vec();
    longest_first.sort_by_key(|&i| std::cmp::Reverse(extents[i].tokens));
    let mut packs: Vec<Vec<usize>> = Vec::new();
    // Room that is left, and in which pack.
    let mut left = BTreeSet::new();
    for member in longest_first {
        let tokens = extents[member].tokens;
        let best = left.range((tokens, 0)..).next().copied();
        let (rest, pack) = match best {
            Some((rest, pack)) => {
                left.remove(&(rest, pack));
                (rest, pack)
            }
            None => {
                packs.push(Vec::new());
                (room.max(tokens), packs.len() - 1)
            }
        };
        packs[pack].push(member);
        left.insert((rest - tokens, pack));
    }
    let packs = packs.into_iter().map(|mut members| {
        members.sort_unstable();
        Pack::of(members, extents)
    });
    packs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(lengths: &[usize]) -> Vec<Extent> {
        let lengths = lengths.iter().enumerate();
        let extent = |(i, &tokens)| Extent {
            tokens,
            learned: 1,
            image: i % 3 == 0,
        };
        lengths.map(extent).collect()
    }

    fn options(packing: bool, group_by_modality_length: bool) -> TrainOptions {
        TrainOptions {
            packing,
            group_by_modality_length,
            ..TrainOptions::default()
        }
    }

    #[test]
    fn every_sample_is_in_one_pack_and_no_pack_is_larger_than_its_room() {
        let lengths: Vec<usize> = (0..400).map(|i| 1 + i * i % 97).collect();
        let extents = extents(&lengths);
        for apart in [false, true] {
            let packs = packs(&extents, &options(true, apart), 100);
            let mut all: Vec<usize> = packs.iter().flat_map(|p| p.members()).copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..400).collect::<Vec<_>>());
            assert!(packs.iter().all(|p| p.rows() <= 100));
            // What best fit promises is 11/9 of the best and a little; the best is no less than this.
            let least = lengths.iter().sum::<usize>().div_ceil(100);
            assert!(packs.len() <= least * 11 / 9 + 2, "{} {least}", packs.len());
            for pack in &packs {
                assert!(pack.members().is_sorted());
                let image = |&i: &usize| extents[i].image;
                assert_eq!(pack.members().iter().any(image), pack.image());
                assert!(!apart || pack.members().iter().all(image) == pack.image());
            }
            assert!(packs.is_sorted_by_key(|p| p.members()[0]));
        }
    }

    #[test]
    fn samples_lie_one_behind_the_other() {
        let extents = extents(&[4, 9, 3, 12, 2]);
        let packs = packs(&extents, &options(true, false), 10);
        let members: Vec<&[usize]> = packs.iter().map(Pack::members).collect();
        // 12 is longer than the room and has a pack of its own; 4 + 3 + 2 fill one.
        assert_eq!(members, [&[0, 2, 4][..], &[1], &[3]]);
        assert_eq!(packs[0].ends(), [4, 7, 9]);
        assert_eq!(
            packs[0].places().collect::<Vec<_>>(),
            [(0, 0), (2, 4), (4, 7)]
        );
        assert_eq!(packs[2].rows(), 12);
    }

    #[test]
    fn without_packing_every_sample_is_alone() {
        let extents = extents(&[4, 9, 3]);
        let packs = packs(&extents, &options(false, true), 100);
        let rows: Vec<usize> = packs.iter().map(Pack::rows).collect();
        assert_eq!(rows, [4, 9, 3]);
    }
}
