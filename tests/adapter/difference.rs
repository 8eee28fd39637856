//! The adapter between two models: how far it is off, beside numpy's singular values, what it cannot
//! hold, and what is refused.

#[allow(dead_code)]
mod answers;
mod numpy;
mod small_model;

use std::path::Path;
use std::sync::Arc;

use graft::adapter::{
    Attached, Difference, DifferenceOptions, MergeOptions, difference, gguf_file, merge,
};
use graft::cancel::Cancel;
use graft::gguf::Gguf;
use graft::model::{Model, ModelOptions, Site, SiteKind};
use graft::quantize::{Mix, QuantizeOptions, quantize};
use graft_kernels::QuantType;
use numpy::Numpy;
use small_model::closeness::relative_error;
use small_model::random::{self, Sizes, uniform};
use small_model::{Place, SIZES, answer, distance, norm, product, site, weights};

fn find(base: &Path, tuned: &Path, rank: usize, threads: usize) -> Difference {
    let options = DifferenceOptions {
        rank,
        threads,
        progress: None,
        cancel: None,
    };
    difference(base, tuned, &options).unwrap()
}

#[test]
fn the_adapter_between_two_models_is_the_one_that_was_merged() {
    let place = Place::new();
    let sites = [(site(0, SiteKind::K), 2), (site(1, SiteKind::Gate), 3)];
    let adapter = place.adapter("merged", 4, &sites);
    let merged = place.path("merged.gguf");
    let attached = Attached::new([(Arc::new(adapter.clone()), 1.0)]);
    merge(&place.base(), &attached, &merged, &MergeOptions::default()).unwrap();
    let found = find(&place.base(), &merged, 3, 2);
    assert_eq!(
        found.adapter.base().fingerprint.as_deref(),
        Some(place.model.fingerprint())
    );
    found.adapter.check_base(&place.model).unwrap();
    assert!(found.relative() < 1e-5, "{}", found.relative());
    assert_eq!(found.sites.len(), 1 + 14 + 1);
    for report in &found.sites {
        match adapter.pair(report.site) {
            Some(pair) => {
                let (was, is) = (
                    product(pair),
                    product(found.adapter.pair(report.site).unwrap()),
                );
                let size = norm(was.iter().copied());
                assert!((report.difference / size - 1.0).abs() < 1e-4);
                assert!(distance(&was, &is) < 1e-5 * size);
            }
            None => {
                assert_eq!(
                    (report.rank, report.difference, report.left_out),
                    (0, 0.0, 0.0)
                );
                assert!(report.weights > 0.0);
            }
        }
    }
    assert!(
        found
            .outside
            .iter()
            .all(|tensor| tensor.change == Some(0.0))
    );
    let expected = place.answer(&[(&adapter, 1.0)]);
    let error = relative_error(&place.answer(&[(&found.adapter, 1.0)]), &expected);
    assert!(error < 1e-4, "{error}");
}

#[test]
fn the_adapter_between_two_models_leaves_out_little_more_than_it_must() {
    let (numpy, place) = (Numpy::open(), Place::new());
    let sites = [
        "blk.0.attn_q",
        "blk.0.attn_k",
        "blk.1.ffn_down",
        "blk.1.ffn_gate",
    ];
    let tuned = place.tuned("tuned.gguf", |name, values| {
        let stem = name.strip_suffix(".weight").unwrap();
        if sites.contains(&stem) {
            let added = numpy.singles(stem);
            values.iter_mut().zip(added).for_each(|(v, a)| *v += a);
        }
    });
    let (base, tuned_file) = (
        Gguf::open(&place.base()).unwrap(),
        Gguf::open(&tuned).unwrap(),
    );
    for rank in [1, 4, 16, 64] {
        let found = find(&place.base(), &tuned, rank, 2);
        for name in sites {
            let at = Site::parse(name).unwrap();
            let report = found.sites.iter().find(|s| s.site == at).unwrap();
            let values = numpy.doubles(&format!("{name}.values"));
            let (whole, best) = (
                norm(values.iter().copied()),
                norm(values.iter().skip(rank).copied()),
            );
            assert!((report.difference / whole - 1.0).abs() < 1e-5, "{name}");
            // The sum was rounded to f32 beside weights that are larger.
            let rounding = 1e-5 * whole;
            assert!(report.left_out > best - rounding, "{name} {rank}");
            let most = 1.02 * best + rounding;
            assert!(
                report.left_out < most,
                "{name} {rank} {} {best}",
                report.left_out
            );
            // The report is about the values as they are stored.
            let tensor = format!("{name}.weight");
            let is = weights(&tuned_file, &tensor);
            let was = weights(&base, &tensor);
            let wanted: Vec<f64> = is.iter().zip(&was).map(|(i, w)| f64::from(i - w)).collect();
            let pair = found.adapter.pair(at).unwrap();
            assert_eq!(pair.rank(), report.rank);
            let off = distance(&product(pair), &wanted);
            assert!((off - report.left_out).abs() < rounding, "{name} {rank}");
        }
        assert_eq!(found.adapter.iter().count(), sites.len());
    }
}

#[test]
fn what_an_adapter_cannot_hold_is_listed_and_block_types_are_compared_as_decoded() {
    let place = Place::new();
    let tuned = place.tuned("tuned.gguf", |name, values| match name {
        "output_norm.weight" => values.iter_mut().for_each(|v| *v *= 1.5),
        "token_embd.weight" => values[0] += 1.0,
        _ => {}
    });
    let packed = place.path("packed.gguf");
    let options = QuantizeOptions::default();
    quantize(&tuned, &packed, Mix::Q8_0, &options).unwrap();
    let found = find(&place.base(), &packed, 2, 1);
    let change = |name: &str| {
        let tensor = found.outside.iter().find(|t| t.name == name).unwrap();
        tensor.change.unwrap()
    };
    assert!((change("output_norm.weight") - 0.5).abs() < 1e-6);
    assert_eq!(change("blk.0.attn_norm.weight"), 0.0);
    let before = weights(&Gguf::open(&place.base()).unwrap(), "token_embd.weight");
    let after = weights(&Gguf::open(&packed).unwrap(), "token_embd.weight");
    let off = norm(before.iter().zip(&after).map(|(b, a)| f64::from(a - b)));
    let whole = norm(before.iter().map(|&v| f64::from(v)));
    let (embedding, others) = found.sites.split_first().unwrap();
    assert_eq!(embedding.site, Site::Embedding);
    let found_change = embedding.difference / embedding.weights;
    assert!((found_change / (off / whole) - 1.0).abs() < 1e-6);
    assert_eq!(found.outside.len(), 1 + 2 * 2);
    // Rounding to 8 bits is small and no adapter of rank 2.
    for report in others {
        let size = report.difference / report.weights;
        assert!((1e-4..1e-2).contains(&size), "{} {size}", report.site);
        assert!(report.relative() > 0.8);
    }
}

#[test]
fn what_the_embedding_and_the_output_learned_is_part_of_the_adapter() {
    let place = Place::new();
    let tuned = place.tuned("tuned.gguf", |name, values| {
        if let "token_embd.weight" | "output.weight" = name {
            // A change of rank 1: half of every row's first weight is gone.
            let width = SIZES.width;
            values.iter_mut().step_by(width).for_each(|v| *v *= 0.5);
        }
    });
    let found = find(&place.base(), &tuned, 1, 2);
    let sites: Vec<_> = found.adapter.iter().map(|(site, _)| site).collect();
    assert_eq!(sites, [Site::Embedding, Site::Output]);
    assert!(found.relative() < 1e-5, "{}", found.relative());
    let tuned = Model::open(&tuned, &ModelOptions::default()).unwrap();
    let expected = answer(&tuned, &[]);
    let error = relative_error(&place.answer(&[(&found.adapter, 1.0)]), &expected);
    assert!(error < 1e-4, "{error}");
    assert!(relative_error(&place.answer(&[]), &expected) > 1e-2);
}

#[test]
fn a_larger_vocabulary_is_no_obstacle_but_another_shape_is() {
    let place = Place::new();
    let write = |name: &str, sizes: Sizes| {
        let path = place.path(name);
        random::write(&[&path], &sizes, &[&|_| QuantType::F32]);
        path
    };
    let more = write(
        "more.gguf",
        Sizes {
            vocabulary: 50,
            ..SIZES
        },
    );
    let found = find(&place.base(), &more, 2, 1);
    let unlike: Vec<&str> = found
        .outside
        .iter()
        .filter(|t| t.change.is_none())
        .map(|t| t.name.as_str())
        .collect();
    assert_eq!(unlike, ["token_embd.weight", "output.weight"]);
    for (sizes, words) in [
        (
            Sizes { layers: 3, ..SIZES },
            "the number of layers is 2 in one and 3",
        ),
        (
            Sizes {
                feed_forward: 64,
                ..SIZES
            },
            "the feed-forward width is 96",
        ),
        (
            Sizes {
                kv_heads: 4,
                ..SIZES
            },
            "key/value heads",
        ),
    ] {
        let other = write("other.gguf", sizes);
        let text = refused(&place.base(), &other, 2, None);
        assert!(
            text.contains(words) && text.contains("other.gguf"),
            "{text}"
        );
    }
}

fn refused(base: &Path, tuned: &Path, rank: usize, cancel: Option<&Cancel>) -> String {
    let options = DifferenceOptions {
        rank,
        threads: 1,
        progress: None,
        cancel,
    };
    difference(base, tuned, &options).unwrap_err().to_string()
}

#[test]
fn differences_that_cannot_be_are_refused() {
    let place = Place::new();
    let base = place.base();
    assert!(refused(&base, &base, 2, None).contains("are the same"));
    assert!(refused(&base, &base, 0, None).contains("rank of 0"));
    assert!(refused(&base, &base, 65, None).contains("64 is the most"));
    for damage in [f32::NAN, f32::INFINITY] {
        for tensor in ["blk.1.ffn_up.weight", "token_embd.weight"] {
            let broken = place.tuned("broken.gguf", |name, values| {
                if name == tensor {
                    values[70] = damage;
                }
            });
            for (one, other) in [(&base, &broken), (&broken, &base)] {
                let text = refused(one, other, 2, None);
                let named = ["broken.gguf", tensor, "index 70"];
                assert!(named.iter().all(|word| text.contains(word)), "{text}");
            }
        }
    }
    let cancel = Cancel::new();
    cancel.raise();
    assert_eq!(refused(&base, &base, 2, Some(&cancel)), "interrupted");
    // In the middle, too.
    let cancel = Cancel::new();
    let options = DifferenceOptions {
        rank: 2,
        threads: 1,
        progress: Some(&|_| cancel.raise()),
        cancel: Some(&cancel),
    };
    let error = difference(&base, &base, &options).unwrap_err();
    assert_eq!(error.to_string(), "interrupted");
    let adapter = place.path("adapter.gguf");
    let q = [(site(0, SiteKind::Q), 1)];
    gguf_file::write(&adapter, &place.adapter("a", 1, &q)).unwrap();
    assert!(refused(&base, &adapter, 2, None).contains("adapter.gguf"));
}

#[test]
fn threads_change_no_bit_and_progress_ends_at_the_whole() {
    let place = Place::new();
    let tuned = place.tuned("tuned.gguf", |name, values| {
        let mut seed = name.len() as u64;
        values
            .iter_mut()
            .for_each(|v| *v += 0.01 * uniform(&mut seed));
    });
    assert_eq!(
        find(&place.base(), &tuned, 4, 1),
        find(&place.base(), &tuned, 4, 3)
    );
    let told = std::cell::RefCell::new(Vec::new());
    let options = DifferenceOptions {
        rank: 1,
        threads: 1,
        progress: Some(&|done| {
            let line = (done.tensor.to_owned(), done.weights, done.of);
            told.borrow_mut().push(line);
        }),
        cancel: None,
    };
    difference(&place.base(), &tuned, &options).unwrap();
    let told = told.into_inner();
    assert_eq!(told.len(), 16);
    assert_eq!((&told[0].0[..], &told[15].0[..]), ("token_embd", "output"));
    assert!(told.is_sorted_by_key(|line| line.1));
    assert_eq!(told[15].1, told[15].2);
}
