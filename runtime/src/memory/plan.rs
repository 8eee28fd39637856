//! A memory plan: bytes per part, as data, before anything is allocated.

use serde::{Serialize, Serializer};

/// What no buffer counts: code, the vocabulary, stacks of threads. Measured on models with 32,000
/// tokens.
pub const PROGRAM_BYTES: usize = 16 << 20;

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

/// What bytes hold. [`MemoryPlan`] says how many of each there will be, [`super::Arena`] sees to it
/// that there are no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)] // `name` says what each is
pub enum Part {
    Program,
    Samples,
    ImageFeatures,
    VisionWeights,
    VisionTower,
    Weights,
    StreamedWeights,
    ProjectorWeights,
    SavedActivations,
    KeysAndValues,
    RecomputeScratch,
    LayerBuffers,
    Attention,
    Loss,
    Projector,
    Trained,
    Gradients,
    Optimizer,
}

impl Part {
    /// Every part, in the order plans are shown.
    pub const ALL: [Self; 18] = [
        Self::Program,
        Self::Samples,
        Self::ImageFeatures,
        Self::VisionWeights,
        Self::VisionTower,
        Self::Weights,
        Self::StreamedWeights,
        Self::ProjectorWeights,
        Self::SavedActivations,
        Self::KeysAndValues,
        Self::RecomputeScratch,
        Self::LayerBuffers,
        Self::Attention,
        Self::Loss,
        Self::Projector,
        Self::Trained,
        Self::Gradients,
        Self::Optimizer,
    ];

    /// Its name for people and for JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Program => "program and vocabulary",
            Self::Samples => "samples",
            Self::ImageFeatures => "image features",
            Self::VisionWeights => "vision weights, mapped",
            Self::VisionTower => "vision tower",
            Self::Weights => "weights, mapped",
            Self::StreamedWeights => "weights of a layer, streamed",
            Self::ProjectorWeights => "projector weights, mapped",
            Self::SavedActivations => "saved activations",
            Self::KeysAndValues => "keys and values",
            Self::RecomputeScratch => "recompute scratch",
            Self::LayerBuffers => "buffers of a layer",
            Self::Attention => "attention and decoded tiles, per thread",
            Self::Loss => "logits and loss",
            Self::Projector => "projector",
            Self::Trained => "adapter and other trained values",
            Self::Gradients => "gradients",
            Self::Optimizer => "optimizer state",
        }
    }

    /// When it exists.
    pub fn phase(self) -> Phase {
        match self {
            Self::Program | Self::Samples | Self::ImageFeatures => Phase::Always,
            Self::VisionWeights | Self::VisionTower => Phase::Images,
            _ => Phase::Work,
        }
    }

    /// Whether its bytes are pages of a file, which the system can drop and read again.
    pub fn is_mapped(self) -> bool {
        matches!(
            self,
            Self::VisionWeights | Self::Weights | Self::StreamedWeights | Self::ProjectorWeights
        )
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Every large buffer of some work.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MemoryPlan([u64; Part::ALL.len()]);

impl MemoryPlan {
    /// Adds bytes to a part.
    pub fn add(&mut self, part: Part, bytes: usize) {
        let planned = &mut self.0[part as usize];
        *planned = planned.saturating_add(bytes as u64);
    }

    pub(super) fn set(&mut self, part: Part, bytes: u64) {
        self.0[part as usize] = bytes;
    }

    /// Bytes of a part.
    pub fn bytes(&self, part: Part) -> u64 {
        self.0[part as usize]
    }

    /// The parts that have any bytes.
    pub fn parts(&self) -> impl Iterator<Item = (Part, u64)> + '_ {
        let all = Part::ALL.into_iter().map(|part| (part, self.bytes(part)));
        all.filter(|&(_, bytes)| bytes > 0)
    }

    /// Most bytes at once.
    pub fn peak(&self) -> u64 {
        self.peak_of(|_| true)
    }

    /// Most bytes at once that are no pages of a file.
    pub fn anonymous_peak(&self) -> u64 {
        self.peak_of(|part| !part.is_mapped())
    }

    fn peak_of(&self, counts: impl Fn(Part) -> bool) -> u64 {
        let of = |phase| {
            let parts = self.parts();
            let parts = parts.filter(|&(part, _)| part.phase() == phase && counts(part));
            parts.fold(0_u64, |sum, (_, bytes)| sum.saturating_add(bytes))
        };
        of(Phase::Always).saturating_add(of(Phase::Images).max(of(Phase::Work)))
    }
}

impl Serialize for MemoryPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line {
            name: Part,
            phase: Phase,
            bytes: u64,
        }
        #[derive(Serialize)]
        struct Lines {
            parts: Vec<Line>,
        }
        let lines = self.parts().map(|(name, bytes)| Line {
            name,
            phase: name.phase(),
            bytes,
        });
        let parts = lines.collect();
        Lines { parts }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_share_their_bytes() {
        let mut plan = MemoryPlan::default();
        plan.add(Part::ImageFeatures, 100);
        plan.add(Part::VisionTower, 50);
        plan.add(Part::SavedActivations, 20);
        plan.add(Part::SavedActivations, 10);
        plan.add(Part::Gradients, 10);
        plan.add(Part::Loss, 0);
        assert_eq!((plan.peak(), plan.parts().count()), (150, 4));
        plan.add(Part::Weights, 60);
        assert_eq!((plan.peak(), plan.anonymous_peak()), (200, 150));
    }

    #[test]
    fn every_part_has_its_place() {
        for (place, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, place);
        }
    }
}
