//! Right, hoped-for and given values, counted for a document, a field or a data set.

use crate::fields::Fields;

/// How many values there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Values that reference and answer share.
    pub right: u64,
    /// Values of the reference.
    pub hoped: u64,
    /// Values of the answer.
    pub given: u64,
    /// Values of the reference in whose place the answer has none.
    pub missing: u64,
    /// Values of the answer in whose place the reference has none.
    pub extra: u64,
}

impl Counts {
    /// Adds `other`.
    pub fn add(&mut self, other: Self) {
        self.right += other.right;
        self.hoped += other.hoped;
        self.given += other.given;
        self.missing += other.missing;
        self.extra += other.extra;
    }

    /// Right values as a share of those given; of none, 1 if none were hoped for.
    pub fn precision(self) -> f64 {
        share(self.right, self.given, self.hoped == 0)
    }

    /// Right values as a share of those hoped for; of none, 1 if none were given.
    pub fn recall(self) -> f64 {
        share(self.right, self.hoped, self.given == 0)
    }

    /// The harmonic mean of precision and recall: 2 right / (hoped + given).
    pub fn f1(self) -> f64 {
        share(2 * self.right, self.hoped + self.given, true)
    }

    /// Whether every value is right and none is left over.
    pub fn is_perfect(self) -> bool {
        self.right == self.hoped && self.right == self.given
    }
}

fn share(some: u64, of: u64, of_nothing_is_all: bool) -> f64 {
    match of {
        0 => f64::from(u8::from(of_nothing_is_all)),
        of => some as f64 / of as f64,
    }
}

/// The counts of every path of `hoped` or `given`, in order.
pub fn compare<'f>(
    hoped: &'f Fields,
    given: &'f Fields,
) -> impl Iterator<Item = (&'f str, Counts)> {
    let only_given = given.keys().filter(|path| !hoped.contains_key(*path));
    let paths = hoped.keys().chain(only_given);
    paths.map(|path| {
        let (hoped, given) = (hoped.get(path), given.get(path));
        let all = |values: Option<&std::collections::BTreeMap<_, u64>>| -> u64 {
            values.map_or(0, |values| values.values().sum())
        };
        let shared = hoped.iter().flat_map(|values| values.iter());
        let shared = shared.map(|(value, &count)| {
            let other = given.and_then(|given| given.get(value));
            count.min(other.copied().unwrap_or(0))
        });
        let (right, hoped, given) = (shared.sum(), all(hoped), all(given));
        let counts = Counts {
            right,
            hoped,
            given,
            missing: hoped.saturating_sub(given),
            extra: given.saturating_sub(hoped),
        };
        (path.as_str(), counts)
    })
}
