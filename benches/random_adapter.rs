//! Adapters with random values on every linear layer of a model.

use graft::adapter::{Adapter, BaseIdentity, LoraPair};
use graft::model::{Model, Site};

use crate::random;

/// An adapter of rank `rank`; `seed` tells them apart.
///
/// # Errors
/// None: the pairs fit each other.
pub fn new(model: &Model, rank: usize, seed: usize) -> graft::Result<Adapter> {
    let shape = model.llama().shape();
    let pairs = Site::of_layers(shape.layers).map(|site| {
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
        fingerprint: Some(model.fingerprint().to_owned()),
        name: None,
    };
    Ok(Adapter::new(format!("random-{seed}"), base, 0.0, pairs)?)
}
