//! A LoRA at every site, and the gradients of a whole model.

use graft::memory::Arena;
use graft::model::{
    ActivationPlan, Activations, AdapterView, Dropout, GradientView, LoraGradient, LoraRef,
    LowRank, Model, RowSpan, Site, Words,
};

/// R of every term.
pub const RANK: usize = 4;

/// One pair of arrays for each site: A and B, or their gradients.
#[derive(Clone, PartialEq)]
pub struct Pairs(pub Vec<(Vec<f32>, Vec<f32>)>);

/// An adapter of scale 2.
pub struct Lora {
    pub pairs: Pairs,
    pub dropout: f32,
    pub words: Words,
}

impl AdapterView for Lora {
    fn count(&self) -> usize {
        1
    }
    fn term(&self, _: usize, site: Site) -> Option<LoraRef<'_>> {
        let (a, b) = &self.pairs.0[site.index()];
        Some(LoraRef {
            a: LowRank::Floats(a),
            b: LowRank::Floats(b),
            rank: RANK,
            scale: 2.0,
            dropout: Dropout {
                rate: self.dropout,
                seed: 7,
                stream: site.index() as u64,
                first: 0,
            },
            rows: RowSpan::ALL,
        })
    }
    fn max_rank(&self) -> usize {
        RANK
    }
}

impl GradientView for Pairs {
    fn at(&mut self, site: Site) -> Option<LoraGradient<'_>> {
        let (da, db) = &mut self.0[site.index()];
        Some(LoraGradient { da, db })
    }
}

impl Lora {
    /// From the pair of each site.
    pub fn new(model: &Model, pair: impl Fn(Site) -> (Vec<f32>, Vec<f32>)) -> Self {
        let sites = Site::of_layers(model.llama().shape().layers);
        Self {
            pairs: Pairs(sites.map(pair).collect()),
            dropout: 0.0,
            words: Words::Never,
        }
    }

    /// Small repeatable values everywhere.
    #[allow(dead_code)] // not every test that includes this file
    pub fn random(model: &Model, dropout: f32) -> Self {
        let pair = |site: Site| {
            let (outputs, inputs) = model.llama().shape().sizes(site).unwrap();
            let values = |n: usize, seed: usize| {
                let wave = (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 101.0 - 0.5);
                wave.map(|w| 0.1 * w).collect()
            };
            (
                values(RANK * inputs, site.index()),
                values(outputs * RANK, site.index() + 50),
            )
        };
        Self {
            dropout,
            ..Self::new(model, pair)
        }
    }
}

/// What [`differentiate`] computes.
#[derive(PartialEq)]
pub struct Outcome {
    /// `[T, V]`.
    pub logits: Vec<f32>,
    /// Of A and B.
    pub gradients: Pairs,
    /// Of the rows, `[T, W]`.
    pub drows: Vec<f32>,
}

/// Forward and backward of `sum(logits * dlogits)`.
#[allow(dead_code)] // not every test that includes this file
pub fn differentiate(
    model: &Model,
    rows: &[f32],
    dlogits: &[f32],
    lora: &Lora,
    kept: usize,
) -> Outcome {
    differentiate_packed(model, (rows, &[]), dlogits, lora, kept)
}

/// The same of the sequences that end at `ends`, one behind the other.
pub fn differentiate_packed(
    model: &Model,
    (rows, ends): (&[f32], &[usize]),
    dlogits: &[f32],
    lora: &Lora,
    kept: usize,
) -> Outcome {
    let llama = model.llama();
    let shape = llama.shape();
    let tokens = rows.len() / shape.width;
    let plan = ActivationPlan {
        tokens: tokens + 3,
        layers: llama.own_layers().len(),
        loss_on_device: false,
        lowest: 0,
        kept,
        offloaded: 0,
        host_inputs: 0,
        max_rank: RANK,
        dropout: lora.dropout > 0.0,
        stream_weights: false,
        inputs_in: None,
        half_inputs: false,
        words: lora.words,
    };
    let plan = match llama.device() {
        Some(device) => plan.clone().beside(device.kept(&plan), shape.layers),
        None => plan,
    };
    let mut activations = Activations::new(llama, &plan, &Arena::unlimited()).unwrap();
    let mut stream = rows.to_vec();
    let forward = llama.forward_saving(&mut stream, ends, lora, &mut activations);
    forward.unwrap();
    let (mut normed, mut inv_rms) = (vec![0.0; rows.len()], vec![0.0; tokens]);
    llama.final_norm(&mut normed, &mut inv_rms, &stream);
    let mut logits = vec![0.0; tokens * shape.vocabulary];
    llama.logits(&mut logits, &normed, plan.words);

    let mut dnormed = vec![0.0; rows.len()];
    llama.logits_backward(&mut dnormed, dlogits, plan.words);
    let mut drows = vec![0.0; rows.len()];
    llama.final_norm_backward(&mut drows, &dnormed, &stream, &inv_rms);
    let zeros = |(a, b): &(Vec<f32>, Vec<f32>)| (vec![0.0; a.len()], vec![0.0; b.len()]);
    let mut gradients = Pairs(lora.pairs.0.iter().map(zeros).collect());
    let backward = llama.backward(
        &mut drows,
        ends,
        lora,
        &mut gradients,
        true,
        &mut activations,
    );
    backward.unwrap();
    Outcome {
        logits,
        gradients,
        drows,
    }
}
