//! Adapters through the formats and back: nothing is lost that the types can hold.

mod answers;
mod small_model;

use std::path::Path;
use std::sync::Arc;

use answers::{golden, open};
use graft::adapter::peft::{self, ExportOptions, Layout};
use graft::adapter::{Adapter, Attached, LoraPair, MergeOptions, gguf_file, merge};
use graft::gguf::{Gguf, TensorDeclaration, Writer};
use graft::model::SiteKind;
use graft_kernels::{QuantType, blocks};
use small_model::{Place, site};

/// An adapter file's copy with its matrices in another type.
fn stored_as(file: &Path, quant_type: QuantType, out: &Path) {
    let gguf = Gguf::open(file).unwrap();
    let declarations = gguf.tensors().iter().map(|info| TensorDeclaration {
        name: info.name.clone(),
        shape: info.shape.clone(),
        quant_type,
    });
    let declarations: Vec<_> = declarations.collect();
    let mut writer = Writer::create(out, gguf.metadata(), &declarations).unwrap();
    for info in gguf.tensors() {
        let mut values = vec![0.0; info.elements()];
        let tensor = gguf.tensor(&info.name).unwrap();
        blocks::decode(info.quant_type, tensor.data, &mut values);
        let mut bytes = vec![0; quant_type.row_bytes(values.len()).unwrap()];
        blocks::encode(quant_type, &values, &mut bytes).unwrap();
        writer.write_tensor(&bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn values(pair: &LoraPair) -> impl Iterator<Item = f32> {
    pair.a.iter().chain(pair.b.iter()).copied()
}

#[test]
fn gguf_to_peft_to_gguf_changes_no_bit() {
    let place = Place::new();
    let ranks = [
        (site(0, SiteKind::Q), 3),
        (site(0, SiteKind::K), 7),
        (site(0, SiteKind::Down), 7),
        (site(1, SiteKind::V), 12),
    ];
    let adapter = place.adapter("a", 5, &ranks);
    let first = place.path("first.gguf");
    gguf_file::write(&first, &adapter).unwrap();
    let wanted = gguf_file::read(&first).unwrap();
    assert!(wanted.iter().eq(adapter.iter()));
    for (quant_type, step) in [
        (QuantType::F32, 0.0),
        (QuantType::F16, f32::powi(2.0, -11)),
        (QuantType::BF16, f32::powi(2.0, -8)),
    ] {
        let stored = place.path(&format!("{quant_type}.gguf"));
        stored_as(&first, quant_type, &stored);
        let stored = gguf_file::read(&stored).unwrap();
        for ((_, pair), (_, rounded)) in wanted.iter().zip(stored.iter()) {
            assert_eq!(pair.scale, rounded.scale);
            // The smallest f16 are not normal.
            let close = |(x, y): (f32, f32)| (x - y).abs() <= step * x.abs().max(6.2e-5);
            assert!(values(pair).zip(values(rounded)).all(close), "{quant_type}");
        }
        for layout in Layout::ALL {
            let folder = place.path(&format!("{quant_type} {layout:?}"));
            let options = ExportOptions {
                layout,
                base_model: None,
            };
            let shape = place.model.llama().shape();
            peft::write(&folder, &stored, shape, &options).unwrap();
            let imported = Adapter::open(&folder, &place.model).unwrap();
            let last = place.path("last.gguf");
            gguf_file::write(&last, &imported).unwrap();
            let last = gguf_file::read(&last).unwrap();
            assert!(last.iter().eq(stored.iter()), "{quant_type} {layout:?}");
        }
    }
}

#[test]
fn a_folder_in_half_precision_comes_back_as_it_was() {
    let base = open(&golden().join("llama/grouped_heads.gguf"));
    let place = tempfile::tempdir().unwrap();
    for name in ["peft/patterned", "peft/chosen", "mlx/plain", "mlx/keyed"] {
        let read = Adapter::open(&golden().join(name), &base).unwrap();
        let folder = place.path().join(name.replace('/', "-"));
        let options = ExportOptions::default();
        peft::write(&folder, &read, base.llama().shape(), &options).unwrap();
        let again = Adapter::open(&folder, &base).unwrap();
        assert!(again.iter().eq(read.iter()), "{name}");
    }
}

#[test]
fn adapters_that_share_targets_add_up_whatever_format_they_came_in() {
    let path = golden().join("llama/grouped_heads.gguf");
    let base = open(&path);
    let adapters = ["peft/plain", "mlx/plain", "mlx/keyed"]
        .map(|name| Adapter::open(&golden().join(name), &base).unwrap());
    let attached = |set: &[(usize, f32)]| {
        Attached::new(set.iter().map(|&(n, s)| (Arc::clone(&adapters[n]), s)))
    };
    let answer = |set: &Attached, model| answers::logits(model, set, &[1, 5, 79, 33, 2]);
    let together = attached(&[(0, 0.5), (1, -0.25), (2, 1.0)]);
    let place = tempfile::tempdir().unwrap();
    let merged = place.path().join("merged.gguf");
    merge(&path, &together, &merged, &MergeOptions::default()).unwrap();
    let merged = open(&merged);
    let merged = answer(&Attached::default(), &merged);
    let beside = answer(&together, &base);
    assert!(small_model::closeness::relative_error(&merged, &beside) < 1e-5);
    let one = answer(&attached(&[(0, 0.5)]), &base);
    assert!(small_model::closeness::relative_error(&one, &beside) > 1e-2);
}
