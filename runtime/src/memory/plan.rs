//! A memory plan: bytes per part, as data, before anything is allocated.

use serde::Serialize;

/// When a part exists. Parts of different phases never exist at once, except those of `Always`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// From beginning to end.
    Always,
    /// While images go through the vision tower.
    Images,
    /// While the language model works.
    Work,
}

/// One line of a plan.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Part {
    /// What the bytes hold.
    pub name: &'static str,
    /// When.
    pub phase: Phase,
    /// How many.
    pub bytes: u64,
}

/// Every large buffer of some work.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct MemoryPlan {
    parts: Vec<Part>,
}

impl MemoryPlan {
    /// Adds a part; parts of no bytes are left out.
    pub fn add(&mut self, name: &'static str, phase: Phase, bytes: usize) {
        if bytes > 0 {
            let bytes = bytes as u64;
            self.parts.push(Part { name, phase, bytes });
        }
    }

    /// The parts, in the order they were added.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Most bytes at once.
    pub fn peak(&self) -> u64 {
        let of = |phase| -> u64 {
            let parts = self.parts.iter().filter(|p| p.phase == phase);
            parts.map(|p| p.bytes).sum()
        };
        of(Phase::Always) + of(Phase::Images).max(of(Phase::Work))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_share_their_bytes() {
        let mut plan = MemoryPlan::default();
        plan.add("weights", Phase::Always, 100);
        plan.add("tower", Phase::Images, 50);
        plan.add("activations", Phase::Work, 30);
        plan.add("gradients", Phase::Work, 10);
        plan.add("dropout", Phase::Work, 0);
        assert_eq!((plan.peak(), plan.parts().len()), (150, 4));
    }
}
