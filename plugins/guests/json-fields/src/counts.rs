//! Right, hoped-for and given values, counted for a document, a field or a data set.

use std::cmp::Ordering;

use crate::fields::{Fields, Leaf, Plain};

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

/// Counts for the values as they are, and made alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pair {
    /// As they are.
    pub exact: Counts,
    /// Made alike.
    pub normalised: Counts,
}

impl Pair {
    /// Adds `other`.
    pub fn add(&mut self, other: Self) {
        self.exact.add(other.exact);
        self.normalised.add(other.normalised);
    }
}

/// The counts of every path of `hoped` or `given`, in order.
pub fn compare(hoped: &mut Fields<'_>, given: &mut Fields<'_>, mut tell: impl FnMut(&str, Pair)) {
    let (mut hoped, mut given) = (hoped.groups().peekable(), given.groups().peekable());
    loop {
        let order = match (hoped.peek(), given.peek()) {
            (Some((one, _)), Some((other, _))) => one.cmp(other),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        let one = hoped.next_if(|_| order.is_le());
        let other = given.next_if(|_| order.is_ge());
        let path = one.as_ref().map(|(path, _)| *path);
        let path = path.or(other.as_ref().map(|(path, _)| *path));
        let one = one.map(|(_, leaves)| leaves).unwrap_or_default();
        let other = other.map(|(_, leaves)| leaves).unwrap_or_default();
        tell(path.unwrap_or_default(), pair(one, other));
    }
}

fn pair(hoped: &mut [Leaf<'_>], given: &mut [Leaf<'_>]) -> Pair {
    let exact = shared(hoped, given, |leaf| &leaf.exact);
    let normalised = shared(hoped, given, |leaf| &leaf.normalised);
    let (hoped, given) = (hoped.len() as u64, given.len() as u64);
    let counts = |right| Counts {
        right,
        hoped,
        given,
        missing: hoped.saturating_sub(given),
        extra: given.saturating_sub(hoped),
    };
    Pair {
        exact: counts(exact),
        normalised: counts(normalised),
    }
}

/// How many values two multisets have in common; both are sorted for it.
fn shared(
    one: &mut [Leaf<'_>],
    other: &mut [Leaf<'_>],
    value: impl for<'l, 'v> Fn(&'l Leaf<'v>) -> &'l Plain<'v>,
) -> u64 {
    one.sort_unstable_by(|a, b| value(a).cmp(value(b)));
    other.sort_unstable_by(|a, b| value(a).cmp(value(b)));
    let (mut i, mut j, mut count) = (0, 0, 0);
    while let (Some(a), Some(b)) = (one.get(i), other.get(j)) {
        let order = value(a).cmp(value(b));
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
        count += u64::from(order.is_eq());
    }
    count
}
