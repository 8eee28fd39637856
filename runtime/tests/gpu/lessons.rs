//! Small runs of training, on the processor or beside a device.

use std::sync::Arc;

use graft::adapter::{Adapter, BaseIdentity, LoraPair};
use graft::model::llava::splice;
use graft::model::{Model, Site};
use graft::train::{Example, TrainOptions, Trainer};

use super::random::uniform;

/// Positions of the longest example.
pub const LONGEST: usize = 11;

/// Repeatable sequences whose every third token is not learned.
pub fn examples(count: i32, vocabulary: usize) -> Vec<Example> {
    let most = vocabulary as i32 - 1;
    let example = |i: i32| {
        let length = LONGEST as i32 - i % 3;
        let ids: Vec<i32> = (0..length).map(|t| (t * 71 + i * 37) % most + 1).collect();
        let labels = ids.iter().enumerate();
        let labels = labels.map(|(t, &id)| if t % 3 == 2 { -100 } else { id });
        Example {
            id: format!("sample {i}"),
            sequence: splice(&ids, &labels.collect::<Vec<_>>(), 0, 64),
            features: Vec::new(),
        }
    };
    (0..count).map(example).collect()
}

/// A run from random pairs: both halves of every pair have gradients from the first update on.
pub fn trainer(model: &Arc<Model>, options: TrainOptions, examples: Vec<Example>) -> Trainer {
    let mut seed = 11;
    let rank = options.rank;
    let sites = Site::of_layers(model.llama().shape().layers);
    let pairs = sites.map(|site| {
        let (outputs, inputs) = model.sizes(site).unwrap();
        let mut values = |n: usize| {
            (0..n)
                .map(|_| 0.1 * uniform(&mut seed))
                .collect::<Vec<f32>>()
        };
        let (a, b) = (values(rank * inputs), values(outputs * rank));
        (site, LoraPair::new(a, b, rank, 2.0).unwrap())
    });
    let alpha = 2.0 * rank as f32;
    let pairs: Vec<_> = pairs.collect();
    let adapter = Adapter::new("random", BaseIdentity::default(), alpha, pairs).unwrap();
    Trainer::new(Arc::clone(model), options, examples, Some(adapter)).unwrap()
}
