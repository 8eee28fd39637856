//! The small LLaVA of the golden files, adapters of it with pairs everywhere, and what it answers.
#![allow(dead_code)] // each test needs some of it

#[path = "../model/closeness.rs"]
pub mod closeness;
#[path = "../model/formula.rs"]
pub mod formula;
#[path = "../model/golden.rs"]
pub mod golden;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use formula::{IMAGES, formula_image};
use graft::adapter::{Adapter, Attached, BaseIdentity, LoraPair};
use graft::model::{Model, ModelOptions, Site};
use graft::session::{Item, Session, SessionOptions, ShownImage};
use graft::tokenizer::IMAGE;

/// Ids of the golden prompt; -200 is the image.
pub const IDS: [i32; 9] = [1, IMAGE, 5, 17, 33, 8, 60, 61, 2];

pub fn text() -> PathBuf {
    golden::folder("llava").join("text.gguf")
}

pub fn mmproj() -> PathBuf {
    golden::folder("llava").join("mmproj.gguf")
}

pub fn open(text: &Path, mmproj: Option<&Path>) -> Arc<Model> {
    let options = ModelOptions {
        mmproj: mmproj.map(Path::to_owned),
        threads: 2,
        ..ModelOptions::default()
    };
    Model::open(text, &options).unwrap()
}

/// The model with both halves.
pub fn model() -> Arc<Model> {
    open(&text(), Some(&mmproj()))
}

/// A folder of PEFT's with an adapter for it.
pub fn folder(name: &str) -> PathBuf {
    golden::folder("places").join(name)
}

pub fn session(model: &Arc<Model>) -> Session {
    Session::new(Arc::clone(model), &SessionOptions::default()).unwrap()
}

pub fn image(model: &Arc<Model>) -> Arc<ShownImage> {
    ShownImage::new(model, &formula_image(IMAGES[0])).unwrap()
}

/// The golden prompt with an image in it.
pub fn prompt(image: &Arc<ShownImage>) -> Vec<Item> {
    let item = |&id: &i32| match u32::try_from(id) {
        Ok(id) => Item::Token(id),
        Err(_) => Item::Image(Arc::clone(image)),
    };
    IDS.iter().map(item).collect()
}

pub fn set(entries: &[(&Arc<Adapter>, f32)]) -> Attached {
    Attached::new(entries.iter().map(|&(a, s)| (Arc::clone(a), s)))
}

/// Logits after the golden prompt in a session of its own, the image prepared anew.
pub fn afresh(model: &Arc<Model>, adapters: &Attached) -> Vec<f32> {
    let mut session = session(model);
    session.set_adapters(adapters.clone()).unwrap();
    session.feed_items(prompt(&image(model))).unwrap();
    session.logits().unwrap().to_vec()
}

/// Every site of the model.
pub fn sites(model: &Model) -> Vec<Site> {
    let blocks = model.vision().unwrap().tower().shape().blocks;
    let mut sites: Vec<Site> = Site::of_layers(model.llama().shape().layers).collect();
    sites.extend(Site::of_vision(blocks));
    sites.extend([Site::Embedding, Site::Output]);
    sites
}

/// An adapter with pairs at these sites, of ranks 1 to 3 and values that a seed decides.
pub fn adapter(model: &Model, name: &str, seed: u64, sites: &[Site]) -> Adapter {
    let base = BaseIdentity {
        fingerprint: Some(model.fingerprint().to_owned()),
        name: Some("tiny".into()),
    };
    let pairs = sites.iter().enumerate().map(|(i, &site)| {
        let (outputs, inputs) = model.sizes(site).unwrap();
        let rank = 1 + i % 3;
        let mut state = seed.wrapping_mul(977) + site.index() as u64;
        let mut values = |count: usize| -> Vec<f32> {
            let mut next = || {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 0.2
            };
            (0..count).map(|_| next()).collect()
        };
        let (a, b) = (values(rank * inputs), values(outputs * rank));
        let scale = 6.0 / rank as f32;
        (site, LoraPair::new(a, b, rank, scale).unwrap())
    });
    Adapter::new(name, base, 6.0, pairs.collect::<Vec<_>>()).unwrap()
}
