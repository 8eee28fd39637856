//! Adapter files: round trips, and everything that must be refused.

use graft_kernels::QuantType;

use super::*;
use crate::gguf::{Metadata, TensorDeclaration, Value, Writer};
use crate::model::SiteKind;

fn site(layer: usize, linear: SiteKind) -> Site {
    Site::Layer { layer, linear }
}

fn adapter() -> Adapter {
    let pair = |s, rank| {
        let mut pair = LoraPair::begin(s, (4, 8), rank, 32.0 / rank as f32, 1);
        pair.b
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v = i as f32);
        (s, pair)
    };
    let base = BaseIdentity {
        fingerprint: Some("abc".into()),
        name: Some("tiny".into()),
    };
    let pairs = [
        pair(site(0, SiteKind::Q), 2),
        pair(site(3, SiteKind::Down), 4),
    ];
    Adapter::new("mine", base, 32.0, pairs).unwrap()
}

#[test]
fn what_was_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    gguf_file::write(&path, &adapter()).unwrap();
    assert_eq!(gguf_file::read(&path).unwrap(), adapter());
}

#[test]
fn a_scale_of_its_own_is_kept_in_b() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let mut odd = adapter();
    odd.pair_mut(site(0, SiteKind::Q)).unwrap().scale *= 0.5;
    gguf_file::write(&path, &odd).unwrap();
    let read = gguf_file::read(&path).unwrap();
    let (was, is) = (
        odd.pair(site(0, SiteKind::Q)).unwrap(),
        read.pair(site(0, SiteKind::Q)).unwrap(),
    );
    for (b, again) in was.b.iter().zip(is.b.iter()) {
        assert_eq!(b * was.scale, again * is.scale);
    }
}

#[test]
fn beginnings_repeat_and_stay_in_bounds() {
    let begin = |s, seed| LoraPair::begin(s, (4, 64), 8, 1.0, seed);
    let (a, b) = (
        begin(site(0, SiteKind::Q), 1),
        begin(site(0, SiteKind::Q), 1),
    );
    assert_eq!(a, b);
    assert_ne!(a, begin(site(0, SiteKind::K), 1));
    assert_ne!(a, begin(site(0, SiteKind::Q), 2));
    assert!(a.a.iter().all(|v| v.abs() <= 0.125) && a.a.iter().any(|v| v.abs() > 0.1));
    assert!(a.b.iter().all(|&v| v == 0.0));
}

#[test]
fn sets_are_told_apart_and_strength_zero_is_the_base() {
    let (a, b) = (Arc::new(adapter()), Arc::new(adapter()));
    let set = |entries: &[(&Arc<Adapter>, f32)]| {
        Attached::new(entries.iter().map(|&(a, s)| (Arc::clone(a), s)))
    };
    assert_eq!(set(&[]).made_by(), crate::kv_cache::MadeBy::BASE);
    assert_eq!(set(&[(&a, 0.0)]).made_by(), crate::kv_cache::MadeBy::BASE);
    assert_eq!(set(&[(&a, 1.0)]), set(&[(&a, 1.0), (&b, 0.0)]));
    assert_ne!(set(&[(&a, 1.0)]), set(&[(&b, 1.0)]));
    assert_ne!(set(&[(&a, 1.0)]), set(&[(&a, 0.5)]));
    let one = set(&[(&a, 1.0)]);
    assert_eq!(one.made_by(), one.clone().made_by());
    assert_ne!(
        one.made_by(),
        set(&[(&a, 1.0)]).made_by(),
        "never used again"
    );
}

/// Writes an adapter file with these tensors (all F32 and zero, unless `fill` says otherwise).
fn refused(keys: &[(&str, &str)], tensors: &[(&str, &[usize])], fill: f32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let mut metadata: Metadata = [
        ("general.type", "adapter"),
        ("general.architecture", "llama"),
        ("adapter.type", "lora"),
    ]
    .into_iter()
    .map(|(k, v)| (k, Value::String(v.into())))
    .collect();
    for (key, value) in keys {
        metadata.insert(*key, Value::String((*value).into()));
    }
    let declared: Vec<_> = tensors
        .iter()
        .map(|(name, shape)| TensorDeclaration {
            name: (*name).into(),
            shape: shape.to_vec(),
            quant_type: QuantType::F32,
        })
        .collect();
    let mut writer = Writer::create(&path, &metadata, &declared).unwrap();
    for tensor in &declared {
        let n = tensor.shape.iter().product();
        writer
            .write_tensor(
                &vec![fill; n]
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect::<Vec<_>>(),
            )
            .unwrap();
    }
    writer.finish().unwrap();
    gguf_file::read(&path).unwrap_err().to_string()
}

#[test]
fn nothing_is_silently_ignored() {
    const Q_A: &str = "blk.0.attn_q.weight.lora_a";
    const Q_B: &str = "blk.0.attn_q.weight.lora_b";
    let good: &[(&str, &[usize])] = &[(Q_A, &[8, 2]), (Q_B, &[2, 4])];
    assert!(refused(&[], &[], 0.0).contains("no low-rank pairs"));
    assert!(refused(&[("general.type", "model")], good, 0.0).contains("general.type"));
    assert!(refused(&[("general.architecture", "bert")], good, 0.0).contains("bert"));
    assert!(refused(&[], &good[..1], 0.0).contains("no partner"));
    assert!(refused(&[], &good[1..], 0.0).contains("no partner"));
    assert!(refused(&[], &[(Q_A, &[8, 2]), (Q_B, &[3, 4])], 0.0).contains("rank 2"));
    assert!(refused(&[], &[(Q_A, &[8]), (Q_B, &[2, 4])], 0.0).contains("two matrices"));
    assert!(refused(&[], good, f32::NAN).contains("not finite"));
    let foreign: &[(&str, &[usize])] = &[("output_norm.weight", &[8])];
    assert!(refused(&[], foreign, 0.0).contains("nothing is silently ignored"));
}
