//! Adapters for the demonstration's model, as files.

use std::path::{Path, PathBuf};

use graft::adapter::{Adapter, BaseIdentity, LoraPair, gguf_file};
use graft::model::{Model, ModelOptions, ProjectorKind, Site};

use crate::program;

/// Writes one adapter that changes every layer of the model, the same one for a model elsewhere, and one that changes
/// what is seen as well, with its second file.
pub fn write(folder: &Path) -> [PathBuf; 3] {
    let demo = program::root().join("runtime/cli/demo");
    let options = ModelOptions {
        mmproj: Some(demo.join("mmproj.gguf")),
        ..ModelOptions::default()
    };
    let model = Model::open(&demo.join("model.gguf"), &options).expect("the demonstration's model");
    let projector = Site::Projector(ProjectorKind::First);
    let pairs = |seeing: Option<Site>| {
        let sites = Site::of_layers(model.llama().shape().layers).chain(seeing);
        sites.enumerate().map(|(n, site)| {
            let (outputs, inputs) = model.sizes(site).expect("a site of the model");
            let value = |i: usize| ((i * 7 + n * 3) % 11) as f32 / 11.0 - 0.5;
            let values = |len: usize, by: f32| (0..len).map(|i| by * value(i)).collect::<Vec<_>>();
            let (a, b) = (values(2 * inputs, 0.3), values(2 * outputs, 0.3));
            (site, LoraPair::new(a, b, 2, 1.0).expect("whole rows"))
        })
    };
    let identity = |fingerprint: &str, name: &str| BaseIdentity {
        fingerprint: Some(fingerprint.into()),
        name: Some(name.into()),
    };
    let own = || identity(model.fingerprint(), &model.name());
    let adapters = [
        ("test", own(), None),
        ("other", identity("0", "a model elsewhere"), None),
        ("seeing", own(), Some(projector)),
    ];
    adapters.map(|(name, base, seeing)| {
        let path = folder.join(format!("{name}.gguf"));
        let adapter = Adapter::new(name, base, 2.0, pairs(seeing)).expect("finite pairs");
        gguf_file::write(&path, &adapter).expect("room on the disk");
        path
    })
}
