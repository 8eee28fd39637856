//! How far the answers given are from the answers hoped for, as distributions.

use std::collections::BTreeMap;

/// Most different answers that are kept, over all groups.
const ANSWERS: usize = 500_000;
/// Longest answer given that is kept, in bytes; right answers are words.
const LONGEST: usize = 1000;

/// How often each answer was hoped for and given, by group of questions.
#[derive(Debug, Default)]
pub struct Distribution {
    groups: BTreeMap<String, BTreeMap<String, Count>>,
    kept: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    hoped: u64,
    given: u64,
}

impl Distribution {
    /// Counts one question of `group`.
    pub fn add(&mut self, group: &str, hoped: &str, given: &str) {
        self.count(group, hoped, |count| count.hoped += 1);
        if given.len() <= LONGEST {
            self.count(group, given, |count| count.given += 1);
        }
    }

    fn count(&mut self, group: &str, answer: &str, change: impl FnOnce(&mut Count)) {
        let known = self
            .groups
            .get_mut(group)
            .and_then(|group| group.get_mut(answer));
        if let Some(count) = known {
            change(count);
        } else if self.kept < ANSWERS {
            self.kept += 1;
            let group = self.groups.entry(group.to_owned()).or_default();
            change(group.entry(answer.to_owned()).or_default());
        }
    }

    /// A hundredth of the chi-square statistic of a group, averaged over the groups by the number of
    /// their questions, and that number; none without groups.
    pub fn distance(&self) -> Option<(f64, u64)> {
        let (mut sum, mut overall) = (0.0, 0);
        for group in self.groups.values() {
            let hoped = group.values().filter(|count| count.hoped > 0);
            let (mut statistic, mut questions) = (0.0, 0);
            for count in hoped {
                let expected = count.hoped as f64;
                statistic += (count.given as f64 - expected).powi(2) / expected;
                questions += count.hoped;
            }
            sum += statistic * questions as f64;
            overall += questions;
        }
        (overall > 0).then(|| (sum / overall as f64 / 100.0, overall))
    }
}
