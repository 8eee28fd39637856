//! Sites by the kind of linear layer: what every table about an adapter has its rows from.

use std::collections::BTreeMap;
use std::io::{self, Write};

use graft::adapter::Adapter;
use graft::model::{ProjectorKind, Site, SiteKind, TowerKind};

use crate::table::Table;

/// Sites that have a row together.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// In layers of the language model.
    Layer(SiteKind),
    /// The embedding or the output.
    Outside(Site),
    /// In blocks of the vision tower.
    Tower(TowerKind),
    /// Of the projector.
    Projector(ProjectorKind),
}

impl Kind {
    /// The kind of a site, and its layer or block if there are several of this kind.
    fn of(site: Site) -> (Self, Option<usize>) {
        match site {
            Site::Layer { layer, linear } => (Self::Layer(linear), Some(layer)),
            Site::Tower { block, linear } => (Self::Tower(linear), Some(block)),
            Site::Projector(linear) => (Self::Projector(linear), None),
            site => (Self::Outside(site), None),
        }
    }

    /// Its name in Hugging Face checkpoints, with what tells it from others.
    pub fn name(self) -> String {
        match self {
            Self::Layer(linear) => linear.hf_name().into(),
            Self::Outside(site) => site.hf_path(),
            Self::Tower(linear) => format!("vision_tower {}", linear.hf_name()),
            Self::Projector(linear) => format!("projector {}", linear.hf_name()),
        }
    }
}

/// What is known of the sites of one kind, with the layer or block of each if there are several.
pub type OfKind<T> = Vec<(Option<usize>, T)>;

/// What is known of the sites of each kind, in the order a layer uses them.
pub fn by_kind<T>(sites: impl Iterator<Item = (Site, T)>) -> Vec<(Kind, OfKind<T>)> {
    let mut kinds: BTreeMap<Kind, OfKind<T>> = BTreeMap::new();
    for (site, value) in sites {
        let (kind, layer) = Kind::of(site);
        kinds.entry(kind).or_default().push((layer, value));
    }
    kinds.into_iter().collect()
}

/// Writes the pairs of an adapter as a table.
pub fn write_pairs(adapter: &Adapter, out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new(
        ["place", "layers", "rank", "scale", "values"],
        &[false, false, true, true, true],
    );
    for (kind, pairs) in by_kind(adapter.iter()) {
        let values = pairs.iter().map(|(_, pair)| pair.a.len() + pair.b.len());
        let mut scales: Vec<f32> = pairs.iter().map(|(_, pair)| pair.scale).collect();
        scales.sort_by(f32::total_cmp);
        table.row([
            kind.name(),
            ranges(pairs.iter().filter_map(|(layer, _)| *layer)),
            ranges(pairs.iter().map(|(_, pair)| pair.rank())),
            match scales[..] {
                [first, .., last] if first != last => format!("{first} to {last}"),
                [first, ..] => first.to_string(),
                [] => String::new(),
            },
            values.sum::<usize>().to_string(),
        ]);
    }
    table.write(out)
}

/// `0-3, 7` of `[0, 1, 2, 3, 7]`.
pub fn ranges(numbers: impl IntoIterator<Item = usize>) -> String {
    let mut numbers: Vec<usize> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let words: Vec<String> = runs
        .map(|run| match run {
            [only] => only.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect();
    words.join(", ")
}

/// A part of a whole in percent, with digits left where it is small.
pub fn percent(share: f64) -> String {
    match share {
        0.0 => "0 %".into(),
        _ if share >= 0.001 => format!("{:.1} %", 100.0 * share),
        _ => format!("{:.0e} %", 100.0 * share),
    }
}

/// Several parts of several wholes together, from their norms; 0 of nothing.
pub fn together(norms: impl Iterator<Item = (f64, f64)>) -> f64 {
    let squares = norms.fold((0.0, 0.0), |sum, (part, whole)| {
        (sum.0 + part * part, sum.1 + whole * whole)
    });
    match squares {
        (_, 0.0) => 0.0,
        (part, whole) => f64::sqrt(part / whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_ranges() {
        assert_eq!(ranges([3, 0, 1, 2, 7]), "0-3, 7");
        assert_eq!(ranges([16, 16]), "16");
        assert_eq!(ranges([]), "");
    }

    #[test]
    fn small_parts_keep_a_digit() {
        assert_eq!(percent(0.1234), "12.3 %");
        assert_eq!(percent(0.00001), "1e-3 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(together([(3.0, 0.0), (4.0, 10.0)].into_iter()), 0.5);
        assert_eq!(together(std::iter::empty()), 0.0);
    }
}
