//! Adapters with random values for any model or shape.

use std::path::Path;

use graft::adapter::{Adapter, BaseIdentity, LoraPair, gguf_file};
use graft::model::{LlamaShape, Model, Site, SiteKind};
use graft_kernels::QuantType;

use crate::random;

/// What a random adapter has pairs for.
pub struct Recipe<'a> {
    /// R of every pair.
    pub rank: usize,
    /// Which linear layers of each transformer layer.
    pub kinds: &'a [SiteKind],
}

impl Recipe<'_> {
    /// Writes an adapter for a model, values as F16; `seed` tells them apart.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&self, path: &Path, model: &Model, seed: usize) -> graft::Result<()> {
        let fingerprint = Some(model.fingerprint().to_owned());
        self.write_for(path, model.llama().shape(), fingerprint, seed)
    }

    /// The same for a shape of which there is no model.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write_for(
        &self,
        path: &Path,
        shape: &LlamaShape,
        fingerprint: Option<String>,
        seed: usize,
    ) -> graft::Result<()> {
        let rank = self.rank;
        let wanted = |site: &Site| {
            let kind = site.in_layer().map(|(_, kind)| kind);
            kind.is_some_and(|kind| self.kinds.contains(&kind))
        };
        let pairs = Site::of_layers(shape.layers).filter(wanted).map(|site| {
            let (outputs, inputs) = shape.sizes(site).expect("a site of its layers");
            let small = |n: usize, salt: usize| {
                let seed = (seed << 32 | site.index() << 1 | salt) as u64;
                let values = random(seed, n).into_iter().map(|v| v * 0.01);
                values.collect::<Vec<_>>()
            };
            let pair = LoraPair::new(small(rank * inputs, 0), small(rank * outputs, 1), rank, 1.0);
            (site, pair.expect("whole rows"))
        });
        let base = BaseIdentity {
            fingerprint,
            name: None,
        };
        let adapter = Adapter::new(format!("random-{seed}"), base, 0.0, pairs)?;
        gguf_file::write_as(path, &adapter, QuantType::F16)
    }
}
