//! Images that a graphics device encodes have the features and the rows of the processor, in every block type, with
//! weights that stay or are written for each image, with adapters; where there is no room the processor does it.

#[path = "../../../tests/model/closeness.rs"]
mod closeness;
mod machine;
mod mmproj;
#[path = "../../../tests/model/random.rs"]
mod random;

use std::sync::Arc;

use closeness::relative_error;
use graft::adapter::{Adapter, Attached, BaseIdentity, LoraPair};
use graft::cancel::Cancel;
use graft::device::DeviceOptions;
use graft::image::RgbImage;
use graft::memory::Arena;
use graft::model::{
    AdapterView, ImageEncoder, Model, ModelOptions, ProjectorSaved, Site, Unadapted, VisionWork,
    Widest,
};
use graft_kernels::QuantType;
use machine::{Models, SIZES, device};
use mmproj::BLOCKS;
use random::uniform;

/// A language model and a vision half for it, in files.
struct Seeing(Models);

impl Seeing {
    fn write(ty: QuantType, exact_gelu: bool) -> Self {
        let models = Models::write(&|_| QuantType::Q4K);
        mmproj::write(&models.path("mmproj"), SIZES.width, ty, exact_gelu);
        Self(models)
    }

    fn open(&self, device: &DeviceOptions) -> Arc<Model> {
        let options = ModelOptions {
            mmproj: Some(self.0.path("mmproj")),
            threads: 2,
            device: device.clone(),
        };
        Model::open(&self.0.path("stored"), &options).unwrap()
    }
}

fn pixels(model: &Model) -> Vec<f32> {
    let side = model.vision().unwrap().tower().shape().image_size;
    let mut seed = 8;
    (0..3 * side * side).map(|_| uniform(&mut seed)).collect()
}

/// Features and rows from an encoder of the model's.
fn encoded(model: &Model, adapters: &dyn AdapterView, on_device: bool) -> [Vec<f32>; 2] {
    let (llama, vision) = (model.llama(), model.vision().unwrap());
    let mut encoder = ImageEncoder::new(llama, vision, &Arena::unlimited()).unwrap();
    assert_eq!(encoder.on_device(), on_device);
    let of = (llama, vision);
    let mut image = || {
        let features = encoder.features(of, &pixels(model), adapters, &|| Ok(()));
        let features = features.unwrap();
        let rows = encoder.project(of, &features, adapters).unwrap();
        [features, rows]
    };
    let first = image();
    assert!(first == image(), "an image twice gives the same bits");
    first
}

/// The same on the processor, in floats throughout.
fn exact(model: &Model, adapters: &dyn AdapterView) -> [Vec<f32>; 2] {
    let (vision, arena) = (model.vision().unwrap(), Arena::unlimited());
    let (tower, projector) = (vision.tower(), vision.projector());
    let (patches, width) = (tower.shape().patches(), tower.shape().width);
    let mut work = VisionWork::exact(tower, &arena).unwrap();
    let mut saved =
        ProjectorSaved::new(patches, projector.outputs(), Widest::default(), &arena).unwrap();
    let mut features = vec![0.0; patches * width];
    let mut rows = vec![0.0; patches * projector.outputs()];
    model.llama().pool().run(|| {
        tower.features_adapted(&mut features, &pixels(model), adapters, &mut work);
        projector.forward_adapted(&mut rows, &features, adapters, &mut saved);
    });
    [features, rows]
}

fn compare(got: &[Vec<f32>; 2], want: &[Vec<f32>; 2], what: &str) {
    let [features, rows] = [0, 1].map(|i| relative_error(&got[i], &want[i]));
    println!("{what}: {features:.1e} {rows:.1e}");
    assert!(
        features < 1e-4 && rows < 1e-4,
        "{what}: {features:e} {rows:e}"
    );
}

#[test]
fn features_and_rows_are_those_of_the_processor_in_every_block_type() {
    let Some(device) = device() else { return };
    for ty in machine::types() {
        let files = Seeing::write(ty, false);
        let got = encoded(&files.open(&device), &Unadapted, true);
        let want = exact(&files.open(&DeviceOptions::CPU), &Unadapted);
        compare(&got, &want, &ty.to_string());
    }
}

/// Random pairs at every site of the vision half.
fn adapter(model: &Model, rank: usize) -> Arc<Adapter> {
    let mut seed = 21;
    let pairs = Site::of_vision(BLOCKS).map(|site| {
        let (outputs, inputs) = model.sizes(site).unwrap();
        let mut values = |n: usize| {
            (0..n)
                .map(|_| 0.1 * uniform(&mut seed))
                .collect::<Vec<f32>>()
        };
        let (a, b) = (values(rank * inputs), values(outputs * rank));
        (site, LoraPair::new(a, b, rank, 1.5).unwrap())
    });
    let pairs: Vec<_> = pairs.collect();
    Arc::new(Adapter::new("eyes", BaseIdentity::default(), 1.0, pairs).unwrap())
}

#[test]
fn weights_may_stay_or_pass_and_adapters_change_what_is_seen() {
    let Some(device) = device() else { return };
    let files = Seeing::write(QuantType::F16, true);
    let cpu = files.open(&DeviceOptions::CPU);
    let (one, two) = (adapter(&cpu, 3), adapter(&cpu, 5));
    let set = Attached::new([(one, 1.0), (two, -0.5)]);
    let (plain, adapted) = (exact(&cpu, &Unadapted), exact(&cpu, &set));
    assert!(relative_error(&plain[0], &adapted[0]) > 1e-2);
    for (layers, memory) in [(None, 64 << 20), (Some(1), 6 << 20)] {
        let options = DeviceOptions {
            layers,
            memory: Some(memory),
            ..device.clone()
        };
        let model = files.open(&options);
        let held = || {
            let report = model.llama().device().unwrap().report();
            report.parts.iter().map(|(_, bytes)| bytes).sum::<u64>()
        };
        let before = held();
        let what = format!("{memory} bytes");
        compare(&encoded(&model, &Unadapted, true), &plain, &what);
        compare(&encoded(&model, &set, true), &adapted, &what);
        assert_eq!(held(), before, "what an encoder took is given back");
        // As a session sees an image.
        let image = RgbImage::new(9, 5, (0..135_u8).map(|i| i.wrapping_mul(53)).collect()).unwrap();
        let rows = model.image_rows(&image).unwrap();
        let error = relative_error(&rows, &cpu.image_rows(&image).unwrap());
        assert!(error < 1e-4, "{what}: {error:e}");
        let cancelled = Cancel::new();
        cancelled.raise();
        let vision = model.vision().unwrap();
        let of = (model.llama(), vision);
        let mut encoder = ImageEncoder::new(of.0, vision, &Arena::unlimited()).unwrap();
        let report = model.llama().device().unwrap().report();
        let passes = report
            .parts
            .iter()
            .any(|(part, _)| part.contains("streamed"));
        assert_eq!(passes, layers.is_some(), "{report:?}");
        let stopped = encoder.features(of, &pixels(&model), &Unadapted, &|| cancelled.check());
        assert!(matches!(stopped, Err(graft::Error::Cancelled)));
    }
}

#[test]
fn the_processor_encodes_what_the_device_has_no_room_for() {
    let Some(device) = device() else { return };
    let files = Seeing::write(QuantType::F16, false);
    let model = files.open(&device);
    let llama = model.llama();
    // Keys and values take what was left.
    let mut taken = Vec::new();
    for capacity in [4096, 512, 64, 16] {
        while let Ok(cache) = llama.kv_cache(capacity) {
            taken.push(cache);
        }
    }
    let got = encoded(&model, &Unadapted, false);
    drop(taken);
    compare(&got, &encoded(&model, &Unadapted, true), "without room");
}
