//! A merged model answers as its base with the adapters attached, and the report tells the truth.

mod answers;
#[path = "../model/closeness.rs"]
mod closeness;

use std::path::Path;
use std::sync::Arc;

use answers::{golden, logits, open};
use closeness::relative_error;
use graft::adapter::{Adapter, Attached, LoraPair, MergeOptions, MergedSite, gguf_file, merge};
use graft::cancel::Cancel;
use graft::gguf::Gguf;
use graft::model::Site;
use graft::quantize::{Mix, QuantizeOptions, quantize};
use graft_kernels::{QuantType, blocks};
use safetensors::SafeTensors;

const TOKENS: [u32; 9] = [1, 5, 79, 33, 2, 60, 41, 8, 17];

fn base() -> std::path::PathBuf {
    golden().join("llama/grouped_heads.gguf")
}

fn adapter(name: &str) -> Arc<Adapter> {
    Adapter::open(&golden().join("peft").join(name), &open(&base())).unwrap()
}

fn weights(gguf: &Gguf, name: &str) -> Vec<f32> {
    let tensor = gguf.tensor(name).unwrap();
    let mut out = vec![0.0; tensor.info.elements()];
    blocks::decode(tensor.info.quant_type, tensor.data, &mut out);
    out
}

/// `scale · B A`, the plain way.
fn product(pair: &LoraPair) -> Vec<f32> {
    let (rank, inputs) = (pair.rank(), pair.inputs());
    let row = |b: &[f32]| -> Vec<f32> {
        let at = |i: usize| {
            (0..rank)
                .map(|k| b[k] * pair.a[k * inputs + i])
                .sum::<f32>()
        };
        (0..inputs).map(|i| pair.scale * at(i)).collect()
    };
    pair.b.chunks_exact(rank).flat_map(row).collect()
}

fn rms(values: impl ExactSizeIterator<Item = f32>) -> f64 {
    let count = values.len() as f64;
    (values.map(|v| f64::from(v).powi(2)).sum::<f64>() / count).sqrt()
}

#[test]
fn a_merged_model_answers_as_the_base_with_its_adapters() {
    let place = tempfile::tempdir().unwrap();
    let model = open(&base());
    let (plain, patterned) = (adapter("plain"), adapter("patterned"));
    for (n, set) in [
        vec![(plain.clone(), 1.0)],
        vec![(plain.clone(), -0.5), (patterned.clone(), 2.0)],
        vec![(patterned.clone(), 0.25)],
    ]
    .into_iter()
    .enumerate()
    {
        let attached = Attached::new(set);
        let path = place.path().join(format!("{n}.gguf"));
        let report = merge(&base(), &attached, &path, &MergeOptions::default()).unwrap();
        let merged = open(&path);
        let expected = logits(&model, &attached, &TOKENS);
        let found = logits(&merged, &Attached::default(), &TOKENS);
        let error = relative_error(&found, &expected);
        assert!(error < 1e-5, "{n}: {error:e}");
        assert!(
            report
                .sites
                .iter()
                .all(|s| s.stored.error.rms == 0.0 && s.added_rms > 0.0)
        );
        assert_ne!(merged.fingerprint(), model.fingerprint());
        let names = merged.gguf().metadata().str_array("graft.merged").unwrap();
        assert_eq!(names.len(), attached.entries().len());
    }
}

/// Checks every tensor of `merged` against the base plus the adapter, and the report.
fn check(stored: &Path, adapter: &Arc<Adapter>, mix: Option<Mix>, output: &Path) {
    let options = MergeOptions {
        mix,
        ..MergeOptions::default()
    };
    let attached = Attached::new([(Arc::clone(adapter), 0.5)]);
    let report = merge(stored, &attached, output, &options).unwrap();
    let (before, after) = (Gguf::open(stored).unwrap(), Gguf::open(output).unwrap());
    assert_eq!(
        report.sites.len() + report.others.len(),
        before.tensors().len()
    );
    for merged in &report.sites {
        let (name, pair) = (&merged.stored.name, adapter.pair(merged.site).unwrap());
        let added: Vec<f32> = product(pair).iter().map(|v| v * 0.5).collect();
        let added_rms = rms(added.iter().copied());
        assert!(
            (merged.added_rms - added_rms).abs() < 1e-5 * added_rms,
            "{name}"
        );
        let (was, is) = (weights(&before, name), weights(&after, name));
        let wanted: Vec<f32> = was.iter().zip(&added).map(|(w, a)| w + a).collect();
        let lost = rms(wanted.iter().zip(&is).map(|(w, i)| i - w));
        let said = merged.stored.error.rms;
        // The sum itself is rounded to f32, here and there.
        let close = 1e-3 * said + 1e-6 * rms(was.iter().copied());
        assert!((lost - said).abs() < close, "{name}: {lost} {said}");
        let moved = is.iter().zip(&was).map(|(i, w)| f64::from(i - w));
        let along: f64 = moved.zip(&added).map(|(m, &a)| m * f64::from(a)).sum();
        let kept = along / added.iter().map(|&a| f64::from(a).powi(2)).sum::<f64>();
        assert!((kept - merged.kept).abs() < 1e-4, "{name}: {kept}");
        if mix.is_none() {
            assert!(said <= added_rms * 1.000_001, "{name}: {said} {added_rms}");
        }
    }
    for other in &report.others {
        let (was, is) = (
            before.tensor(&other.name).unwrap(),
            after.tensor(&other.name).unwrap(),
        );
        assert_eq!(
            (other.from, other.to),
            (was.info.quant_type, is.info.quant_type)
        );
        assert!(
            other.from != other.to || was.data == is.data,
            "{}",
            other.name
        );
    }
    assert!(report.worst().is_some());
}

#[test]
fn types_are_kept_or_chosen_anew_and_the_report_says_what_that_cost() {
    let place = tempfile::tempdir().unwrap();
    let stored = place.path().join("stored.gguf");
    quantize(&base(), &stored, Mix::Q4_0, &QuantizeOptions::default()).unwrap();
    let adapter = adapter("patterned");
    let kept = place.path().join("kept.gguf");
    check(&stored, &adapter, None, &kept);
    let types = |path: &Path| -> Vec<QuantType> {
        let gguf = Gguf::open(path).unwrap();
        gguf.tensors().iter().map(|t| t.quant_type).collect()
    };
    assert_eq!(types(&kept), types(&stored));
    assert!(types(&kept).contains(&QuantType::Q4_0));
    let wide = place.path().join("wide.gguf");
    check(&stored, &adapter, Some(Mix::F32), &wide);
    assert!(types(&wide).iter().all(|&t| t == QuantType::F32));
    let gguf = Gguf::open(&wide).unwrap();
    assert_eq!(gguf.metadata().u32("general.file_type").unwrap(), 0);
    check(
        &base(),
        &adapter,
        Some(Mix::Q8_0),
        &place.path().join("packed.gguf"),
    );
}

#[test]
fn a_change_below_the_step_of_its_type_is_said_to_be_erased() {
    let place = tempfile::tempdir().unwrap();
    let (stored, output) = (
        place.path().join("stored.gguf"),
        place.path().join("o.gguf"),
    );
    quantize(&base(), &stored, Mix::Q4_0, &QuantizeOptions::default()).unwrap();
    let with = |base: &Path, strength| {
        let attached = Attached::new([(adapter("plain"), strength)]);
        merge(base, &attached, &output, &MergeOptions::default()).unwrap()
    };
    let report = with(&stored, 1e-3);
    // Rows of `ffn_down` hold no whole blocks of this type; they are stored in F16.
    let blocks = |s: &&MergedSite| s.stored.to == QuantType::Q4_0;
    assert!(report.erased().all(|s| blocks(&s)));
    assert_eq!(report.erased().count(), 12);
    for site in report.sites.iter().filter(blocks) {
        // The sum is rounded to f32 before it is compared.
        let (kept, lost, added) = (site.kept, site.stored.error.rms, site.added_rms);
        assert!(
            kept.abs() < 0.3 && lost <= added * 1.001,
            "{kept} {lost} {added}"
        );
    }
    // No change at all leaves every block as it was.
    with(&stored, 1e-12);
    let (was, is) = (Gguf::open(&stored).unwrap(), Gguf::open(&output).unwrap());
    for info in was.tensors() {
        let [was, is] = [&was, &is].map(|gguf| gguf.tensor(&info.name).unwrap().data);
        assert!(was == is, "{}", info.name);
    }
    drop((was, is));
    // The same change in floats is kept.
    let report = with(&base(), 1e-2);
    assert_eq!(report.erased().count(), 0);
    assert!(report.sites.iter().all(|s| (s.kept - 1.0).abs() < 1e-3));
    // In the float model first, then quantized: rounding falls to both sides.
    let float = with(&base(), 0.05);
    quantize(&output, &stored, Mix::Q4_0, &QuantizeOptions::default()).unwrap();
    let (old, new) = (Gguf::open(&base()).unwrap(), Gguf::open(&stored).unwrap());
    let plain = adapter("plain");
    let (mut along, mut added) = (0.0, 0.0);
    for site in &float.sites {
        let name = &site.stored.name;
        let moved = weights(&new, name).into_iter().zip(weights(&old, name));
        for ((is, was), a) in moved.zip(product(plain.pair(site.site).unwrap())) {
            let a = 0.05 * f64::from(a);
            along += f64::from(is - was) * a;
            added += a * a;
        }
    }
    let kept: f64 = along / added;
    assert!((kept - 1.0).abs() < 0.3, "{kept}");
}

#[test]
fn float_bases_are_merged_as_peft_merges_them() {
    let place = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(golden().join("peft/merged.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let adapter = adapter("patterned");
    for (mix, quant_type, name, step) in [
        (Mix::F32, QuantType::F32, "f32", 2f64.powi(-24)),
        (Mix::F16, QuantType::F16, "f16", 2f64.powi(-11)),
        (Mix::BF16, QuantType::BF16, "bf16", 2f64.powi(-8)),
    ] {
        let (stored, output) = (place.path().join(name), place.path().join("merged"));
        quantize(&base(), &stored, mix, &QuantizeOptions::default()).unwrap();
        let attached = Attached::new([(Arc::clone(&adapter), 1.0)]);
        let report = merge(&stored, &attached, &output, &MergeOptions::default()).unwrap();
        let (was, is) = (Gguf::open(&stored).unwrap(), Gguf::open(&output).unwrap());
        let (mut same, mut all) = (0, 0);
        for site in &report.sites {
            let tensor = &site.stored.name;
            let of_peft = file.tensor(&format!("{name}.{tensor}")).unwrap();
            let mut expected = vec![0.0; of_peft.shape().iter().product()];
            blocks::decode(quant_type, of_peft.data(), &mut expected);
            let added = product(adapter.pair(site.site).unwrap());
            let (was, is) = (weights(&was, tensor), weights(&is, tensor));
            for (((was, added), is), expected) in was.iter().zip(added).zip(is).zip(expected) {
                let (sum, added) = (f64::from(*was) + f64::from(added), f64::from(added));
                // Of the sum itself one rounding; terms of the product in f32 come on top.
                let exact = step * sum.abs() + 1e-6 * added.abs() + 1e-7;
                assert!((f64::from(is) - sum).abs() <= exact, "{name} {tensor}");
                // PEFT rounds what is added as well.
                let twice = exact + step * (sum.abs() + added.abs());
                let distance = f64::from(is) - f64::from(expected);
                assert!(distance.abs() <= twice, "{name} {tensor}: {is} {expected}");
                same += usize::from(is == expected);
                all += 1;
            }
        }
        println!("{name}: {same} of {all} the same as PEFT's");
        assert!(2 * same > all, "{name}: {same} of {all}");
    }
}

#[test]
fn a_merge_that_cannot_be_leaves_no_file() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("out.gguf");
    let plain = adapter("plain");
    let refused = |base: &Path, attached: &Attached, options: &MergeOptions<'_>| {
        let error = merge(base, attached, &output, options).unwrap_err();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        error.to_string()
    };
    let attached = Attached::new([(Arc::clone(&plain), 1.0)]);
    let other = golden().join("llama/wide_heads.gguf");
    let text = refused(&other, &attached, &MergeOptions::default());
    assert!(text.contains("does not fit"), "{text}");
    let endless = Attached::new([(Arc::clone(&plain), f32::INFINITY)]);
    let text = refused(&base(), &endless, &MergeOptions::default());
    assert!(text.contains("not finite"), "{text}");
    let cancel = Cancel::new();
    cancel.raise();
    let options = MergeOptions {
        cancel: Some(&cancel),
        ..MergeOptions::default()
    };
    assert_eq!(refused(&base(), &attached, &options), "interrupted");
}

#[test]
fn an_adapter_file_merges_like_the_folder_it_came_from() {
    let place = tempfile::tempdir().unwrap();
    let (file, plain) = (place.path().join("a.gguf"), adapter("plain"));
    gguf_file::write(&file, &plain).unwrap();
    let read = Arc::new(gguf_file::read(&file).unwrap());
    let outputs = [plain, read].map(|adapter| {
        let path = place.path().join("merged.gguf");
        let attached = Attached::new([(adapter, 1.0)]);
        merge(&base(), &attached, &path, &MergeOptions::default()).unwrap();
        let gguf = Gguf::open(&path).unwrap();
        Site::of_layers(2)
            .map(|site| weights(&gguf, &format!("{site}.weight")))
            .collect::<Vec<_>>()
    });
    assert!(outputs[0] == outputs[1]);
}
