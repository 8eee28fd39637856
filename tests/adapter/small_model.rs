//! A random model, adapters for it, and models trained further from it.
#![allow(dead_code)] // each test needs some of it

#[path = "../model/closeness.rs"]
pub mod closeness;
#[path = "../model/random.rs"]
pub mod random;

use std::path::PathBuf;
use std::sync::Arc;

use graft::adapter::{Adapter, Attached, BaseIdentity, LoraPair};
use graft::gguf::{Gguf, TensorDeclaration, Writer};
use graft::model::{Model, Site, SiteKind};
use graft::session::{Session, SessionOptions};
use graft_kernels::{QuantType, blocks};
use random::{Sizes, uniform};

use crate::answers::open;

/// Sizes of the model.
pub const SIZES: Sizes = Sizes {
    width: 64,
    layers: 2,
    heads: 4,
    kv_heads: 2,
    feed_forward: 96,
    vocabulary: 48,
};
const TOKENS: [u32; 9] = [1, 5, 7, 33, 2, 40, 41, 8, 17];

/// A folder with a random model in f32.
pub struct Place {
    folder: tempfile::TempDir,
    pub model: Arc<Model>,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.gguf");
        random::write(&[&path], &SIZES, &[&|_| QuantType::F32]);
        let model = open(&path);
        Self { folder, model }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn base(&self) -> PathBuf {
        self.path("base.gguf")
    }

    /// What a session answers to [`TOKENS`] with these adapters.
    pub fn answer(&self, adapters: &[(&Adapter, f32)]) -> Vec<f32> {
        answer(&self.model, adapters)
    }

    pub fn identity(&self) -> BaseIdentity {
        BaseIdentity {
            fingerprint: Some(self.model.fingerprint().to_owned()),
            name: Some("base".into()),
        }
    }

    /// An adapter with random pairs of these ranks.
    pub fn adapter(&self, name: &str, seed: u64, ranks: &[(Site, usize)]) -> Adapter {
        let mut seed = seed;
        let pairs = ranks.iter().map(|&(site, rank)| {
            let (outputs, inputs) = self.model.llama().shape().sizes(site).unwrap();
            let mut values = |count: usize, size: f32| -> Vec<f32> {
                (0..count).map(|_| size * uniform(&mut seed)).collect()
            };
            let (a, b) = (values(rank * inputs, 0.1), values(outputs * rank, 0.1));
            (site, LoraPair::new(a, b, rank, 16.0 / rank as f32).unwrap())
        });
        Adapter::new(name, self.identity(), 16.0, pairs.collect::<Vec<_>>()).unwrap()
    }

    /// The base with something added to some matrices, or changed in any tensor.
    pub fn tuned(&self, name: &str, change: impl Fn(&str, &mut Vec<f32>)) -> PathBuf {
        let gguf = Gguf::open(&self.base()).unwrap();
        let declarations = gguf.tensors().iter().map(|info| TensorDeclaration {
            name: info.name.clone(),
            shape: info.shape.clone(),
            quant_type: QuantType::F32,
        });
        let declarations: Vec<_> = declarations.collect();
        let path = self.path(name);
        let mut writer = Writer::create(&path, gguf.metadata(), &declarations).unwrap();
        for info in gguf.tensors() {
            let mut values = weights(&gguf, &info.name);
            change(&info.name, &mut values);
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            writer.write_tensor(&bytes).unwrap();
        }
        writer.finish().unwrap();
        path
    }
}

pub fn answer(model: &Arc<Model>, adapters: &[(&Adapter, f32)]) -> Vec<f32> {
    let attached = adapters.iter().map(|&(a, s)| (Arc::new(a.clone()), s));
    let mut session = Session::new(Arc::clone(model), &SessionOptions::default()).unwrap();
    session.set_adapters(Attached::new(attached)).unwrap();
    session.feed(&TOKENS).unwrap();
    session.logits().unwrap().to_vec()
}

pub fn weights(gguf: &Gguf, name: &str) -> Vec<f32> {
    let tensor = gguf.tensor(name).unwrap();
    let mut out = vec![0.0; tensor.info.elements()];
    blocks::decode(tensor.info.quant_type, tensor.data, &mut out);
    out
}

pub fn site(layer: usize, linear: SiteKind) -> Site {
    Site::Layer { layer, linear }
}

/// `scale · B A`, the plain way in f64.
pub fn product(pair: &LoraPair) -> Vec<f64> {
    let (rank, inputs) = (pair.rank(), pair.inputs());
    let at = |b: &[f32], i: usize| -> f64 {
        let terms = (0..rank).map(|k| f64::from(b[k]) * f64::from(pair.a[k * inputs + i]));
        f64::from(pair.scale) * terms.sum::<f64>()
    };
    let rows = pair.b.chunks_exact(rank);
    rows.flat_map(|b| (0..inputs).map(move |i| at(b, i)))
        .collect()
}

/// Frobenius norm.
pub fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|v| v * v).sum::<f64>().sqrt()
}

pub fn distance(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    norm(x.iter().zip(y).map(|(x, y)| x - y))
}
