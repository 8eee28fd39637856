//! A byte budget in front of every allocation on a device.
//!
//! The driver's own refusals come late or never (a system that is out of video memory slows down
//! instead), so what was not granted here is not asked of the driver.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{GpuError, Result};

/// What bytes of a device hold.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[allow(missing_docs)] // `name` says what each is
pub enum Part {
    Weights,
    StreamedWeights,
    Norms,
    KeysAndValues,
    SavedActivations,
    LayerBuffers,
    Loss,
    Trained,
    Gradients,
    Optimizer,
    Upload,
    Download,
}

impl Part {
    /// Every part, in the order reports show them.
    pub const ALL: [Self; 12] = [
        Self::Weights,
        Self::StreamedWeights,
        Self::Norms,
        Self::KeysAndValues,
        Self::SavedActivations,
        Self::LayerBuffers,
        Self::Loss,
        Self::Trained,
        Self::Gradients,
        Self::Optimizer,
        Self::Upload,
        Self::Download,
    ];

    /// Its name for people and for JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights, resident",
            Self::StreamedWeights => "weights of a layer, streamed",
            Self::Norms => "norms, biases and tables",
            Self::KeysAndValues => "keys and values",
            Self::SavedActivations => "saved activations",
            Self::LayerBuffers => "buffers of a layer",
            Self::Loss => "logits and loss",
            Self::Trained => "adapter and other trained values",
            Self::Gradients => "gradients",
            Self::Optimizer => "optimizer state",
            Self::Upload => "upload ring",
            Self::Download => "download staging",
        }
    }

    /// Whether it holds matrices, which kernels only read, and nothing else.
    pub(crate) fn holds_matrices(self) -> bool {
        matches!(self, Self::Weights | Self::StreamedWeights)
    }
}

/// What a device's memory is used for, for a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryReport {
    /// Parts that hold any bytes, and how many.
    pub parts: Vec<(Part, u64)>,
    /// Their sum.
    pub held: u64,
    /// The most it ever was.
    pub peak: u64,
    /// What it may be.
    pub limit: u64,
}

/// The account of one device; clones are the same account.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    parts: [u64; Part::ALL.len()],
    total: u64,
    peak: u64,
}

impl Ledger {
    /// An account that grants `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self(Arc::new(Account {
            limit,
            held: Mutex::default(),
        }))
    }

    /// Takes `bytes` until the hold is dropped.
    ///
    /// # Errors
    /// If they do not fit; nothing is taken then.
    pub(crate) fn hold(&self, part: Part, bytes: u64) -> Result<Hold> {
        let mut held = self.lock();
        if bytes > self.0.limit.saturating_sub(held.total) {
            return Err(GpuError::Budget {
                part,
                asked: bytes,
                held: held.total,
                limit: self.0.limit,
            });
        }
        held.parts[part as usize] += bytes;
        held.total += bytes;
        held.peak = held.peak.max(held.total);
        Ok(Hold {
            ledger: self.clone(),
            part,
            bytes,
        })
    }

    pub(crate) fn report(&self) -> MemoryReport {
        let held = self.lock();
        let all = Part::ALL
            .into_iter()
            .map(|part| (part, held.parts[part as usize]));
        MemoryReport {
            parts: all.filter(|&(_, bytes)| bytes > 0).collect(),
            held: held.total,
            peak: held.peak,
            limit: self.0.limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a part, counted until dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    ledger: Ledger,
    part: Part,
    bytes: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.ledger.lock();
        held.parts[self.part as usize] -= self.bytes;
        held.total -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_above_the_limit_and_all_comes_back() {
        let ledger = Ledger::new(100);
        let weights = ledger.hold(Part::Weights, 60).unwrap();
        let loss = ledger.hold(Part::Loss, 40).unwrap();
        let refused = ledger.hold(Part::Gradients, 1).unwrap_err();
        let expected = GpuError::Budget {
            part: Part::Gradients,
            asked: 1,
            held: 100,
            limit: 100,
        };
        assert_eq!(refused, expected);
        drop(weights);
        let report = ledger.report();
        assert_eq!(report.parts, [(Part::Loss, 40)]);
        assert_eq!((report.held, report.peak, report.limit), (40, 100, 100));
        assert!(ledger.hold(Part::Weights, u64::MAX).is_err());
        drop(loss);
        assert_eq!(ledger.report().held, 0);
    }
}
