//! Adapters combined, cut, scaled and renamed: what they answer, how far numpy's singular values are
//! off, and what is refused.

#[allow(dead_code)]
mod answers;
mod numpy;
mod small_model;

use graft::adapter::peft::{self, ExportOptions};
use graft::adapter::{
    Adapter, AdapterError, BaseIdentity, Compressed, Keep, LoraPair, combine, compress, gguf_file,
};
use graft::cancel::Cancel;
use graft::model::{Site, SiteKind};
use graft::threads::Pool;
use numpy::Numpy;
use small_model::closeness::relative_error;
use small_model::{Place, distance, norm, product, site};

fn pool() -> Pool {
    Pool::new(2).unwrap()
}

fn cut(adapter: &Adapter, keep: Keep) -> Compressed {
    compress(adapter, keep, &pool(), &Cancel::new()).unwrap()
}

#[test]
fn a_combined_adapter_answers_as_its_parts_attached_together() {
    let place = Place::new();
    let (q, up, down) = (
        site(0, SiteKind::Q),
        site(0, SiteKind::Up),
        site(1, SiteKind::Down),
    );
    let first = place.adapter("first", 1, &[(q, 3), (up, 2)]);
    let second = place.adapter("second", 2, &[(q, 5), (down, 4)]);
    let third = place.adapter("third", 3, &[(up, 1)]);
    let base = place.answer(&[]);
    for weights in [[1.0, 1.0, 1.0], [0.5, -2.0, 0.25], [1.0, 0.0, 0.0]] {
        let parts: Vec<_> = [&first, &second, &third].into_iter().zip(weights).collect();
        let sum = combine("sum", &parts).unwrap();
        assert_eq!((sum.name(), sum.base()), ("sum", &place.identity()));
        let (expected, found) = (place.answer(&parts), place.answer(&[(&sum, 1.0)]));
        assert!(relative_error(&found, &expected) < 1e-5);
        assert!(
            relative_error(&found, &base) > 1e-2,
            "the parts do something"
        );
        // Every site keeps the ranks of all that act there.
        for (site, pair) in sum.iter() {
            let ranks = parts.iter().filter(|(_, weight)| *weight != 0.0);
            let ranks = ranks.filter_map(|(part, _)| Some(part.pair(site)?.rank()));
            assert_eq!(pair.rank(), ranks.sum::<usize>(), "{site}");
        }
        // Enough rank for everything cuts nothing.
        let same = cut(&sum, Keep::Rank(8));
        assert!(same.relative() < 1e-6, "{}", same.relative());
        let found = place.answer(&[(&same.adapter, 1.0)]);
        assert!(relative_error(&found, &expected) < 1e-5);
    }
}

#[test]
fn parts_that_undo_each_other_leave_nothing() {
    let place = Place::new();
    let (q, up) = (site(0, SiteKind::Q), site(0, SiteKind::Up));
    let both = place.adapter("both", 1, &[(q, 3), (up, 2)]);
    let nothing = combine("nothing", &[(&both, 1.0), (&both, -1.0)]).unwrap();
    let error = compress(&nothing, Keep::Energy(1.0), &pool(), &Cancel::new());
    assert!(error.unwrap_err().to_string().contains("adds nothing"));
    // Twice the same is one of double weight, at its own rank again.
    let twice = combine("twice", &[(&both, 1.0), (&both, 1.0)]).unwrap();
    let again = cut(&twice, Keep::Energy(1.0));
    for (site, pair) in again.adapter.iter() {
        assert_eq!(pair.rank(), both.pair(site).unwrap().rank());
    }
    let expected = place.answer(&[(&both, 2.0)]);
    let found = place.answer(&[(&again.adapter, 1.0)]);
    assert!(relative_error(&found, &expected) < 1e-5);
    // A site at which nothing is added goes, the others stay.
    let zero = LoraPair::new(vec![1.0; 64], vec![0.0; 64], 1, 1.0).unwrap();
    let half = both.pair(up).unwrap().clone();
    let idle = Adapter::new("idle", place.identity(), 16.0, [(q, zero), (up, half)]).unwrap();
    let pruned = cut(&idle, Keep::Energy(0.5));
    assert_eq!(pruned.sites.len(), 2);
    assert_eq!((pruned.sites[0].rank_before, pruned.sites[0].rank), (1, 0));
    assert!(pruned.adapter.pair(q).is_none() && pruned.adapter.pair(up).is_some());
}

#[test]
fn singular_values_are_those_of_numpy() {
    let (numpy, place) = (Numpy::open(), Place::new());
    let at = site(0, SiteKind::Q);
    let pair = LoraPair::new(numpy.singles("pair.a"), numpy.singles("pair.b"), 12, 0.5).unwrap();
    let adapter = Adapter::new("golden", place.identity(), 6.0, [(at, pair)]).unwrap();
    let values = numpy.doubles("pair.values");
    let tail = |rank: usize| 0.5 * norm(values[rank..].iter().copied());
    for rank in 1..=9 {
        let kept = cut(&adapter, Keep::Rank(rank));
        let report = kept.sites[0];
        assert_eq!((report.rank_before, report.rank), (12, rank));
        assert!((report.norm / tail(0) - 1.0).abs() < 1e-12);
        assert!((report.cut - tail(rank)).abs() < 1e-12 * tail(0), "{rank}");
        assert!((kept.relative() - report.cut / report.norm).abs() < 1e-15);
        // What the stored values are really off.
        let (was, is) = (
            product(adapter.pair(at).unwrap()),
            product(kept.adapter.pair(at).unwrap()),
        );
        assert!(
            (distance(&was, &is) - tail(rank)).abs() < 1e-6 * tail(0),
            "{rank}"
        );
    }
    // The pair has nine values, whatever its rank.
    let all = cut(&adapter, Keep::Rank(12));
    assert_eq!(all.sites[0].rank, 9);
    let five = cut(&adapter, Keep::Rank(5)).adapter;
    let five = five.pair(at).unwrap();
    let best: Vec<f64> = numpy.doubles("pair.best").iter().map(|v| 0.5 * v).collect();
    assert!(distance(&product(five), &best) < 1e-6 * norm(best.iter().copied()));
    check_halves(five, &values);
}

/// A and B are orthogonal, and each has the root of every value.
fn check_halves(pair: &LoraPair, values: &[f64]) {
    let (rank, inputs) = (pair.rank(), pair.inputs());
    let a = |k: usize, i: usize| f64::from(pair.a[k * inputs + i]);
    let b = |k: usize, i: usize| f64::from(pair.b[i * rank + k]);
    for k in 0..rank {
        for l in 0..rank {
            let expected = if k == l { 0.5 * values[k] } else { 0.0 };
            let of_a: f64 = (0..inputs).map(|i| a(k, i) * a(l, i)).sum();
            let of_b: f64 = (0..pair.outputs()).map(|i| b(k, i) * b(l, i)).sum();
            for found in [of_a, of_b] {
                assert!(
                    (found - expected).abs() < 1e-6 * values[0],
                    "{k} {l} {found}"
                );
            }
        }
    }
}

#[test]
fn pruning_keeps_the_energy_asked_for_with_the_smallest_rank() {
    let place = Place::new();
    let ranks: Vec<(Site, usize)> = Site::of_layers(2)
        .zip([1, 2, 3, 5, 8, 4, 6].repeat(2))
        .collect();
    let adapter = place.adapter("all", 5, &ranks);
    for share in [0.3, 0.9, 0.99, 1.0] {
        let pruned = cut(&adapter, Keep::Energy(share));
        for report in &pruned.sites {
            let kept = 1.0 - report.relative().powi(2);
            assert!(kept >= share - 1e-12, "{} {kept}", report.site);
            assert_eq!(
                pruned.adapter.pair(report.site).unwrap().rank(),
                report.rank
            );
            if report.rank > 1 {
                let fewer = cut(&adapter, Keep::Rank(report.rank - 1));
                let fewer = fewer.sites.iter().find(|s| s.site == report.site).unwrap();
                assert!(1.0 - fewer.relative().powi(2) < share, "{}", report.site);
            }
        }
        if share == 1.0 {
            let same = pruned.sites.iter().all(|s| s.rank == s.rank_before);
            assert!(same && pruned.relative() < 1e-6);
        }
    }
    // The smallest shares of different sites are of different ranks, and still one adapter.
    let ranks =
        |adapter: &Adapter| -> Vec<usize> { adapter.iter().map(|(_, p)| p.rank()).collect() };
    let pruned = cut(&adapter, Keep::Energy(0.9)).adapter;
    assert!(ranks(&pruned).iter().any(|&r| r != ranks(&pruned)[0]));
}

#[test]
fn threads_change_no_bit_of_a_result() {
    let place = Place::new();
    let ranks: Vec<(Site, usize)> = Site::of_layers(2).map(|site| (site, 7)).collect();
    let adapter = place.adapter("all", 5, &ranks);
    let of = |threads: usize| {
        let pool = Pool::new(threads).unwrap();
        compress(&adapter, Keep::Rank(3), &pool, &Cancel::new()).unwrap()
    };
    assert_eq!(of(1), of(3));
}

#[test]
fn adapters_that_do_not_belong_together_are_refused_by_name() {
    let place = Place::new();
    let q = site(0, SiteKind::Q);
    let mine = place.adapter("mine", 1, &[(q, 2)]);
    let with = |name: &str, base: BaseIdentity, widths: (usize, usize), at: Site| {
        let (outputs, inputs) = widths;
        let pair = LoraPair::new(vec![1.0; inputs], vec![1.0; outputs], 1, 1.0).unwrap();
        Adapter::new(name, base, 1.0, [(at, pair)]).unwrap()
    };
    let stranger = BaseIdentity {
        fingerprint: Some("0123456789abcdef".into()),
        name: Some("elsewhere".into()),
    };
    let text = |parts: &[(&Adapter, f32)]| combine("sum", parts).unwrap_err().to_string();
    let theirs = with("theirs", stranger.clone(), (64, 64), q);
    let unknown = with("unknown", BaseIdentity::default(), (64, 64), q);
    for parts in [
        [(&mine, 1.0), (&theirs, 1.0)],
        [(&theirs, 1.0), (&mine, 1.0)],
    ] {
        let said = text(&parts);
        for word in ["mine", "theirs", "elsewhere (0123456789ab)"] {
            assert!(said.contains(word), "{said}");
        }
    }
    // An adapter that does not say its base belongs to that of the others.
    let sum = combine("sum", &[(&unknown, 1.0), (&mine, 1.0)]).unwrap();
    assert_eq!(sum.base(), &place.identity());
    // The third tells of another base than the second; the first says nothing.
    let said = text(&[(&unknown, 1.0), (&mine, 1.0), (&theirs, 1.0)]);
    assert!(said.contains("mine") && said.contains("theirs"), "{said}");
    // Widths are those of a kind of layer, in whatever layer it is.
    let wide = with(
        "wide",
        BaseIdentity::default(),
        (64, 80),
        site(1, SiteKind::Q),
    );
    let said = text(&[(&mine, 1.0), (&wide, 1.0)]);
    for word in [
        "mine, blk.0.attn_q is 64 to 64",
        "wide, blk.1.attn_q is 80 to 64",
    ] {
        assert!(said.contains(word), "{said}");
    }
    let said = text(&[(&mine, f32::NAN)]);
    assert!(said.contains("mine") && said.contains("NaN"), "{said}");
    assert!(text(&[(&mine, f32::INFINITY)]).contains("inf"));
    // Weights that are finite and products that are not.
    assert!(text(&[(&mine.clone().scaled(1e30).unwrap(), 1e30)]).contains("not finite"));
    assert!(matches!(combine("sum", &[]), Err(AdapterError::NoParts)));
    assert!(matches!(
        combine("sum", &[(&mine, 0.0)]),
        Err(AdapterError::NoParts)
    ));
    for (keep, word) in [
        (Keep::Rank(0), "rank of 0"),
        (Keep::Energy(0.0), "energy of 0"),
        (Keep::Energy(1.5), "1.5"),
        (Keep::Energy(f64::NAN), "NaN"),
        (Keep::Energy(-0.1), "-0.1"),
    ] {
        let error = compress(&mine, keep, &pool(), &Cancel::new()).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    // More rank than there is changes nothing.
    let same = cut(&mine, Keep::Rank(usize::MAX));
    assert_eq!(same.sites[0].rank, 2);
    let cancel = Cancel::new();
    cancel.raise();
    let stopped = compress(&mine, Keep::Rank(1), &pool(), &cancel);
    assert_eq!(stopped.unwrap_err().to_string(), "interrupted");
}

#[test]
fn a_scaled_adapter_answers_as_one_attached_at_that_strength() {
    let place = Place::new();
    let sites = [(site(0, SiteKind::Q), 3), (site(1, SiteKind::Down), 5)];
    let adapter = place.adapter("mine", 1, &sites);
    let sum = combine("sum", &[(&adapter, 1.0)]).unwrap();
    let file = place.path("scaled.gguf");
    for factor in [2.0, 0.3, -1.0, -0.7] {
        for original in [&adapter, &sum] {
            let scaled = original.clone().scaled(factor).unwrap();
            let expected = place.answer(&[(&adapter, factor)]);
            let found = place.answer(&[(&scaled, 1.0)]);
            assert!(relative_error(&found, &expected) < 1e-5, "{factor}");
            gguf_file::write(&file, &scaled).unwrap();
            let read = gguf_file::read(&file).unwrap();
            assert!(relative_error(&place.answer(&[(&read, 1.0)]), &expected) < 1e-5);
        }
        // Where a file has an alpha, the values keep every bit.
        let scaled = adapter.clone().scaled(factor).unwrap();
        gguf_file::write(&file, &scaled).unwrap();
        let read = gguf_file::read(&file).unwrap();
        assert_eq!(read, scaled);
        for (site, pair) in read.iter() {
            assert_eq!(pair.a, adapter.pair(site).unwrap().a);
        }
    }
    for factor in [0.0, f32::NAN, f32::INFINITY] {
        let error = adapter.clone().scaled(factor).unwrap_err().to_string();
        assert!(error.contains(&format!("{factor:?}")), "{error}");
    }
    // An alpha that rounds to 0 would mean a scale of 1.
    for factor in [1e-44, 3e38] {
        let error = adapter.clone().scaled(factor).unwrap_err().to_string();
        assert!(error.contains(&format!("{factor:?}")), "{error}");
    }
}

#[test]
fn a_renamed_adapter_is_the_same_adapter() {
    let place = Place::new();
    let adapter = place.adapter("old", 1, &[(site(0, SiteKind::Q), 3)]);
    let renamed = adapter.clone().renamed("new").unwrap();
    assert_eq!(renamed.name(), "new");
    assert_eq!(renamed.generation(), adapter.generation());
    let file = place.path("renamed.gguf");
    gguf_file::write(&file, &renamed).unwrap();
    assert_eq!(gguf_file::read(&file).unwrap(), renamed);
    for name in ["", "  ", "a\nb"] {
        assert!(adapter.clone().renamed(name).is_err(), "{name:?}");
    }
}

#[test]
fn results_of_many_ranks_survive_files_and_peft_folders() {
    let place = Place::new();
    let ranks: Vec<(Site, usize)> = Site::of_layers(2)
        .zip([1, 2, 3, 5, 8, 4, 6].repeat(2))
        .collect();
    let adapter = place.adapter("all", 5, &ranks);
    let some = place.adapter("some", 6, &[(site(1, SiteKind::V), 3)]);
    let sum = combine("sum", &[(&adapter, 0.5), (&some, 2.0)]).unwrap();
    let pruned = cut(&sum, Keep::Energy(0.9)).adapter;
    let few = place.adapter(
        "few",
        7,
        &[(site(0, SiteKind::O), 3), (site(1, SiteKind::Up), 1)],
    );
    let few = combine("few", &[(&few, 1.0)]).unwrap();
    for (name, adapter) in [("sum", sum), ("pruned", pruned), ("few", few)] {
        let file = place.path(&format!("{name}.gguf"));
        gguf_file::write(&file, &adapter).unwrap();
        let read = gguf_file::read(&file).unwrap();
        assert_eq!(read.generation(), adapter.generation(), "{name}");
        assert_eq!(read.alpha(), 0.0);
        let folder = place.path(name);
        let shape = place.model.llama().shape();
        peft::write(&folder, &adapter, shape, &ExportOptions::default()).unwrap();
        let again = peft::read(&folder, shape).unwrap();
        for (site, pair) in adapter.iter() {
            assert_eq!(again.pair(site), Some(pair), "{name} {site}");
        }
        assert_eq!(again.iter().count(), adapter.iter().count());
        let expected = place.answer(&[(&adapter, 1.0)]);
        assert_eq!(place.answer(&[(&again, 1.0)]), expected);
        // Through PEFT and back to a file.
        gguf_file::write(&file, &again).unwrap();
        let back = gguf_file::read(&file).unwrap();
        let error = relative_error(&place.answer(&[(&back, 1.0)]), &expected);
        assert!(error < 1e-5, "{name}: {error}");
    }
}
