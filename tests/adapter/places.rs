//! Adapters at every place of a vision-language model: it answers as in PEFT, features of an image are those of
//! the set at work, and what can be done with pairs in layers can be done with all.

mod seeing;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use graft::adapter::peft::{self, ExportOptions, Layout};
use graft::adapter::{Adapter, Attached, Keep, MergeOptions, combine, compress, merge};
use graft::cancel::Cancel;
use graft::model::{Model, ModelOptions, ProjectorKind, Site, SiteKind, TowerKind};
use graft::session::{Batch, BatchOptions, Item, Session, SessionOptions, ShownImage};
use graft::threads::Pool;
use graft::train::{Example, TrainOptions, Trainer};
use seeing::closeness::relative_error;
use seeing::formula::{IMAGES, formula_image};
use seeing::golden::{Golden, folder as golden_folder};
use seeing::{
    adapter, afresh, folder, image, mmproj, model, open, prompt, session, set, sites, text,
};

const Q0: Site = Site::Layer {
    layer: 0,
    linear: SiteKind::Q,
};
const TOWER_Q1: Site = Site::Tower {
    block: 1,
    linear: TowerKind::Q,
};
const SECOND: Site = Site::Projector(ProjectorKind::Second);

#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &[f32], most: f32) {
    let error = relative_error(got, want);
    println!("{what}: {error:.1e}");
    assert!(error < most, "{what}: {error:e}");
}

fn golden() -> Golden {
    Golden::open(&golden_folder("places").join("golden.safetensors"))
}

fn opened(model: &Model, name: &str) -> Arc<Adapter> {
    Adapter::open(&folder(name), model).unwrap()
}

#[test]
fn a_model_adapted_everywhere_answers_as_in_peft() {
    let (model, golden) = (model(), golden());
    let vocabulary = model.llama().shape().vocabulary;
    for name in ["everything", "all_linear"] {
        let adapter = opened(&model, name);
        let attached = set(&[(&adapter, 1.0)]);
        let shown = image(&model);
        let rows = shown.rows(&attached).unwrap();
        let want = golden.get(&format!("{name}.projected"));
        assert_close(&format!("{name}: features"), &rows, want, 2e-5);

        // The session gives the logits of its last position: all of them, one prefix after another.
        let mut session = session(&model);
        session.set_adapters(attached.clone()).unwrap();
        let mut want = golden
            .get(&format!("{name}.logits"))
            .chunks_exact(vocabulary);
        for item in prompt(&shown) {
            let skipped = item.positions(model.llama().shape().width) - 1;
            session.feed_items(vec![item]).unwrap();
            let got = session.logits().unwrap();
            assert_close(name, got, want.nth(skipped).unwrap(), 2e-5);
        }
        assert!(want.next().is_none());

        session.reset();
        let want = golden.get(&format!("{name}.text_logits"));
        for (id, want) in golden
            .get("text_ids")
            .iter()
            .zip(want.chunks_exact(vocabulary))
        {
            session.feed(&[*id as u32]).unwrap();
            assert_close(name, session.logits().unwrap(), want, 2e-5);
        }
        // Many tokens at once go by other kernels than one.
        let ids: Vec<u32> = golden.get("text_ids").iter().map(|&id| id as u32).collect();
        session.reset();
        session.feed(&ids).unwrap();
        let last = want.chunks_exact(vocabulary).last().unwrap();
        assert_close(name, session.logits().unwrap(), last, 2e-5);
    }
}

#[test]
fn every_place_counts() {
    let model = model();
    let base = afresh(&model, &Attached::default());
    for site in sites(&model) {
        let one = Arc::new(adapter(&model, "one", 3, &[site]));
        let answer = afresh(&model, &set(&[(&one, 1.0)]));
        assert!(relative_error(&answer, &base) > 1e-5, "{site} adds nothing");
    }
}

#[test]
fn a_switch_never_shows_features_of_another_set() {
    let model = model();
    let whole: Vec<Site> = sites(&model);
    let seeing: Vec<Site> = whole
        .iter()
        .copied()
        .filter(|site| site.is_vision())
        .collect();
    let a = Arc::new(adapter(&model, "a", 1, &whole));
    let b = Arc::new(adapter(&model, "b", 2, &seeing));
    let c = Arc::new(adapter(&model, "c", 3, &[Q0, Site::Output]));
    let all = [
        set(&[]),
        set(&[(&a, 1.0)]),
        set(&[(&b, 1.0)]),
        set(&[(&b, 0.5)]),
        set(&[(&c, 1.0)]),
        set(&[(&b, 1.0), (&c, 1.0)]),
        set(&[(&a, 1.0), (&b, -1.0)]),
        set(&[(&b, 0.0)]),
    ];
    let want: Vec<Vec<f32>> = all
        .iter()
        .map(|adapters| afresh(&model, adapters))
        .collect();
    assert_eq!(want[0], want[7], "strength 0 is the base, bit for bit");
    for (i, one) in want.iter().enumerate().take(7) {
        assert!(want[i + 1..7].iter().all(|other| other != one));
    }
    // One image and one session through all sets, in an order that comes back to each.
    let mut live = session(&model);
    live.feed_items(prompt(&image(&model))).unwrap();
    let fork = live.fork(&Default::default()).unwrap();
    let mut sessions = [live, fork];
    for i in [1, 0, 2, 3, 2, 4, 5, 0, 6, 1, 7, 4, 3, 1] {
        for session in &mut sessions {
            session.set_adapters(all[i].clone()).unwrap();
            assert_eq!(session.logits().unwrap(), want[i], "set {i}");
        }
    }
}

#[test]
fn sessions_of_a_batch_see_and_speak_by_their_own_sets() {
    let model = model();
    let a = Arc::new(adapter(&model, "a", 1, &sites(&model)));
    let b = Arc::new(adapter(&model, "b", 2, &sites(&model)));
    let outside = [Site::Embedding, Site::Output, SECOND];
    let c = Arc::new(adapter(&model, "c", 3, &outside));
    let all = [
        set(&[(&a, 1.0)]),
        set(&[]),
        set(&[(&b, 0.5), (&c, 1.0)]),
        set(&[(&c, 1.0)]),
        set(&[(&a, 1.0)]),
        set(&[(&c, 1.0)]),
    ];
    let want: Vec<Vec<f32>> = all
        .iter()
        .map(|adapters| afresh(&model, adapters))
        .collect();
    let shown = image(&model);
    // Whole prompts at once, and images cut into several passes.
    for chunk in [0, 7] {
        let options = BatchOptions {
            sessions: all.len(),
            context_length: 64,
            chunk,
        };
        let mut batch = Batch::new(Arc::clone(&model), &options).unwrap();
        let mut sessions: Vec<Session> = Vec::new();
        for adapters in &all {
            let mut one = Session::new(Arc::clone(&model), &SessionOptions::with_context(64));
            one.as_mut()
                .unwrap()
                .set_adapters(adapters.clone())
                .unwrap();
            sessions.push(one.unwrap());
        }
        let mut lanes: Vec<&mut Session> = sessions.iter_mut().collect();
        let prompts = all.iter().map(|_| prompt(&shown)).collect();
        batch.feed_items(&mut lanes, prompts).unwrap();
        let logits = batch.logits(&mut lanes).unwrap();
        let vocabulary = model.llama().shape().vocabulary;
        for (n, (got, want)) in logits.chunks_exact(vocabulary).zip(&want).enumerate() {
            assert_close(&format!("chunk {chunk}, session {n}"), got, want, 1e-5);
        }
    }
}

#[test]
fn sets_that_see_alike_share_features_and_none_outlives_its_adapter() {
    let model = model();
    let seeing = Arc::new(adapter(&model, "seeing", 1, &[TOWER_Q1]));
    let blind = Arc::new(adapter(&model, "blind", 2, &[Q0, Site::Embedding]));
    let shown = image(&model);
    let rows = |adapters: &Attached| shown.rows(adapters).unwrap();
    let base = rows(&set(&[]));
    assert!(Arc::ptr_eq(&base, &rows(&set(&[(&blind, 1.0)]))));
    let seen = rows(&set(&[(&seeing, 1.0)]));
    assert_ne!(base, seen);
    assert!(Arc::ptr_eq(
        &seen,
        &rows(&set(&[(&blind, 0.5), (&seeing, 1.0)]))
    ));
    assert!(Arc::ptr_eq(&base, &rows(&set(&[]))), "two sets are kept");
    assert_ne!(seen, rows(&set(&[(&seeing, 0.5)])));
    // An adapter that takes a gone one's place in memory is another.
    for seed in 10..30 {
        let one = Arc::new(adapter(&model, "one", seed, &[TOWER_Q1]));
        let adapters = set(&[(&one, 1.0)]);
        assert_eq!(rows(&adapters), image(&model).rows(&adapters).unwrap());
    }
    assert_eq!(Arc::strong_count(&seeing), 1, "features hold no adapter");
}

#[test]
fn images_of_a_set_without_vision_pairs_are_those_of_before_bit_for_bit() {
    let model = model();
    let rows = model.image_rows(&formula_image(IMAGES[0])).unwrap();
    let blind = Arc::new(adapter(&model, "blind", 2, &[Q0]));
    for adapters in [set(&[]), set(&[(&blind, 1.0)])] {
        let mut fed = session(&model);
        fed.set_adapters(adapters.clone()).unwrap();
        let items = prompt(&image(&model)).into_iter().map(|item| match item {
            Item::Image(_) => Item::Rows(Arc::clone(&rows)),
            item => item,
        });
        fed.feed_items(items.collect()).unwrap();
        assert_eq!(fed.logits().unwrap(), afresh(&model, &adapters));
    }
}

#[test]
fn an_image_of_another_model_is_refused_and_so_is_any_by_one_that_does_not_see() {
    let (one, other) = (model(), model());
    let error = session(&one)
        .feed_items(prompt(&image(&other)))
        .unwrap_err();
    assert!(error.to_string().contains("prepare it again"), "{error}");
    let blind = open(&text(), None);
    let error = ShownImage::new(&blind, &formula_image(IMAGES[0])).unwrap_err();
    assert!(error.to_string().contains("--mmproj"), "{error}");
}

#[test]
fn shapes_are_compared_at_every_place() {
    let (model, blind) = (model(), open(&text(), None));
    let shape = *model.vision().unwrap().tower().shape();
    let sound = adapter(&model, "sound", 1, &sites(&model));
    sound.check_base(&model).unwrap();
    sound.check_language(&blind).unwrap();
    let text = sound.check_base(&blind).unwrap_err().to_string();
    assert!(
        text.contains("without one") && text.contains("--mmproj"),
        "{text}"
    );
    let refused = |site: Site, (outputs, inputs): (usize, usize)| {
        let pair = graft::adapter::LoraPair::new(vec![0.0; inputs], vec![0.0; outputs], 1, 1.0);
        let pairs = [(site, pair.unwrap())];
        let odd = Adapter::new("odd", Default::default(), 1.0, pairs).unwrap();
        let mut live = session(&model);
        let error = live
            .set_adapters(set(&[(&Arc::new(odd), 1.0)]))
            .unwrap_err();
        error.to_string()
    };
    for site in sites(&model) {
        let (outputs, inputs) = model.sizes(site).unwrap();
        for sizes in [(outputs + 1, inputs), (outputs, inputs + 1)] {
            let text = refused(site, sizes);
            assert!(text.contains(&site.to_string()), "{text}");
        }
    }
    // The first block above the features has a place and no effect; the next has none.
    let at = |block| Site::Tower {
        block,
        linear: TowerKind::O,
    };
    let idle = Arc::new(adapter(&model, "idle", 1, &[at(shape.blocks)]));
    let base = afresh(&model, &Attached::default());
    assert_eq!(afresh(&model, &set(&[(&idle, 1.0)])), base);
    let text = refused(at(shape.blocks + 1), (shape.width, shape.width));
    assert!(text.contains("does not have"), "{text}");
}

#[test]
fn folders_give_back_every_pair_in_every_class() {
    let model = model();
    let shape = model.llama().shape();
    let place = tempfile::tempdir().unwrap();
    for name in ["everything", "all_linear"] {
        let adapter = opened(&model, name);
        let vision = adapter.iter().filter(|(site, _)| site.is_vision()).count();
        // Four blocks, the unused one included, and the projector.
        assert_eq!(vision, 4 * 6 + 2);
        let outside = [Site::Embedding, Site::Output].map(|site| adapter.pair(site).is_some());
        assert_eq!(outside, [name == "everything"; 2]);
        for layout in Layout::ALL {
            let path = place.path().join(format!("{name}-{layout:?}"));
            let options = ExportOptions {
                layout,
                base_model: None,
            };
            peft::write(&path, &adapter, shape, &options).unwrap();
            let again = peft::read(&path, shape).unwrap();
            assert_eq!(again.iter().count(), adapter.iter().count());
            for (site, pair) in adapter.iter() {
                assert_eq!(again.pair(site), Some(pair), "{site} as {layout:?}");
            }
        }
    }
}

#[test]
fn one_pair_for_embedding_and_output_is_refused() {
    let (model, place) = (model(), tempfile::tempdir().unwrap());
    for name in ["everything", "all_linear"] {
        let copy = place.path().join(name);
        fs::create_dir(&copy).unwrap();
        let (config, tensors) = ("adapter_config.json", "adapter_model.safetensors");
        fs::copy(folder(name).join(tensors), copy.join(tensors)).unwrap();
        let text = fs::read_to_string(folder(name).join(config)).unwrap();
        let (untied, tied) = (
            "\"ensure_weight_tying\": false",
            "\"ensure_weight_tying\": true",
        );
        assert!(text.contains(untied));
        fs::write(copy.join(config), text.replace(untied, tied)).unwrap();
        let read = Adapter::open(&copy, &model);
        match name {
            "everything" => {
                let text = read.unwrap_err().to_string();
                assert!(text.contains("ensure_weight_tying"), "{text}");
            }
            // Nothing is tied where neither has a pair.
            _ => drop(read.unwrap()),
        }
    }
}

#[test]
fn merged_files_answer_as_the_base_with_its_adapters() {
    let (model, place) = (model(), tempfile::tempdir().unwrap());
    let adapter = opened(&model, "everything");
    let attached = set(&[(&adapter, 0.25)]);
    let (output, seeing) = (place.path().join("m.gguf"), place.path().join("v.gguf"));
    let half = mmproj();
    let options = MergeOptions {
        vision: Some((&half, &seeing)),
        ..MergeOptions::default()
    };
    let report = merge(&text(), &attached, &output, &options).unwrap();
    // All but those of the block that the file does not store.
    assert_eq!(report.sites.len(), adapter.iter().count() - 6);
    assert!(report.sites.is_sorted_by_key(|merged| merged.site));
    let merged = open(&output, Some(&seeing));
    let (got, want) = (
        afresh(&merged, &Attached::default()),
        afresh(&model, &attached),
    );
    // The vision half is stored in F16.
    assert_close("merged", &got, &want, 5e-3);
    let base = afresh(&model, &Attached::default());
    assert!(relative_error(&base, &want) > 0.2);
}

#[test]
fn nothing_is_lost_on_the_way_into_a_base() {
    let (model, place) = (model(), tempfile::tempdir().unwrap());
    let output = place.path().join("m.gguf");
    let refused = |base: &Path, adapters: &Attached| {
        let error = merge(base, adapters, &output, &MergeOptions::default()).unwrap_err();
        assert!(!output.exists());
        error.to_string()
    };
    let seeing = Arc::new(adapter(&model, "seeing", 1, &[Q0, SECOND]));
    let text = refused(&seeing::text(), &set(&[(&seeing, 1.0)]));
    assert!(text.contains("--mmproj-output"), "{text}");

    let tied = golden_folder("llama").join("tied_output.gguf");
    let one_matrix = Model::open(&tied, &ModelOptions::default()).unwrap();
    for site in [Site::Embedding, Site::Output] {
        let one = Arc::new(adapter(&one_matrix, "one", 1, &[site]));
        let text = refused(&tied, &set(&[(&one, 1.0)]));
        assert!(text.contains("one matrix for both"), "{text}");
    }
}

#[test]
fn adapters_become_others_at_every_place() {
    let model = model();
    let whole = sites(&model);
    let one = Arc::new(adapter(&model, "one", 1, &whole));
    let two = Arc::new(adapter(&model, "two", 2, &whole));
    let both = afresh(&model, &set(&[(&one, 0.5), (&two, -0.25)]));
    let sum = Arc::new(combine("sum", &[(&one, 0.5), (&two, -0.25)]).unwrap());
    assert_close(
        "combined",
        &afresh(&model, &set(&[(&sum, 1.0)])),
        &both,
        2e-5,
    );
    let pool = Pool::new(2).unwrap();
    let small = compress(&sum, Keep::Rank(6), &pool, &Cancel::new()).unwrap();
    let small = Arc::new(small.adapter);
    assert_close(
        "compressed",
        &afresh(&model, &set(&[(&small, 1.0)])),
        &both,
        1e-4,
    );
    let half = Arc::new((*one).clone().scaled(0.5).unwrap());
    let want = afresh(&model, &set(&[(&one, 0.5)]));
    assert_close(
        "scaled",
        &afresh(&model, &set(&[(&half, 1.0)])),
        &want,
        2e-5,
    );
    let named = (*one).clone().renamed("another").unwrap();
    assert_eq!(named.generation(), one.generation());
    assert_ne!(half.generation(), one.generation());
}

#[test]
fn training_does_not_begin_from_pairs_that_it_cannot_reach() {
    let model = model();
    for site in [Site::Embedding, Site::Output, TOWER_Q1, SECOND] {
        let initial = adapter(&model, "initial", 1, &[Q0, site]);
        let example = Example {
            id: "one".into(),
            sequence: graft::model::llava::splice(&[1, 5, 7], &[-100, 5, 7], 25, 64),
            features: Vec::new(),
        };
        let options = TrainOptions::default();
        let refused = Trainer::new(Arc::clone(&model), options, vec![example], Some(initial));
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(&format!("a pair at {site}")), "{text}");
    }
}
