//! Images per second of CLIP-L/14-336 with random weights, projected for a model of 2048.
//!
//! `bench-vision <folder> [F16 | Q8_0] [threads]`; `peers.py see` has this and PyTorch or
//! llama.cpp take turns.

use graft::image::RgbImage;
use graft::memory::Arena;
use graft::model::{ProjectorSaved, Vision, VisionWork};
use graft::threads::Pool;
use graft_benches::turns::{self, Kind};
use graft_benches::{Work, random_vision};

/// Width of the language model.
const WIDTH: usize = 2048;

fn main() -> graft::Result<()> {
    let mut arguments = turns::arguments();
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (folder, ty) = (next("target/bench-models"), next("F16"));
    let threads: usize = next("0").parse().expect("a number of threads");
    let pool = Pool::new(threads)?;
    let vision = Vision::open(&random_vision::path(&folder, WIDTH, &ty)?, WIDTH)?;
    let shape = vision.tower().shape();
    let mut work = VisionWork::new(vision.tower(), &Arena::unlimited())?;
    let side = shape.image_size;
    let pixels = (0..3 * side * side).map(|i| (i * 31) as u8);
    let image = RgbImage::new(side, side, pixels.collect()).expect("a whole image");
    let (patches, width) = (shape.patches(), shape.width);
    let rounding = vision.projector().rounding(patches);
    let mut saved = ProjectorSaved::new(patches, WIDTH, rounding, &Arena::unlimited())?;
    let mut rows = vec![0.0; patches * WIDTH];
    // Four square matrices and two of the feed-forward a block; the scores and their use.
    let block = 4 * width * width + 2 * width * shape.feed_forward;
    let attention = 2 * (patches + 1) * width;
    let each = shape.blocks * (block + attention) + width * WIDTH + WIDTH * WIDTH;
    let encoding = Kind {
        name: format!("CLIP-L/14-336 {ty}, an image"),
        work: Work::Flop((2 * patches * each) as f64),
        count: 1,
        units: "images",
    };
    turns::take(&[encoding], pool.threads(), &[], |_| {
        pool.run(|| {
            let features = vision.features(&image, &mut work);
            vision.projector().forward(&mut rows, &features, &mut saved);
        });
    });
    Ok(())
}
