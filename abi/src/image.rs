//! Images: pixels, and what models have seen in them.

use std::sync::{Arc, Mutex, PoisonError};

use graft::image::{ImageLimits, RgbImage, decode, open};
use graft::memory::Reservation;
use graft::model::Model;
use graft::session::{Item, ShownImage};

use crate::call::{self, DONE};
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::{Handle, shared_kind};
use crate::pointer::{In, Out, OutStruct, Text};
use crate::runtime::Runtime;
use crate::status::graft_status;
use crate::structs::{CStruct, c_struct, number};

/// Pixels, and the features that the model which saw them last has made of them.
pub struct ImageObject {
    image: RgbImage,
    shown: Mutex<Option<Arc<ShownImage>>>,
    _bytes: Reservation,
}

shared_kind!(
    ImageObject,
    "image",
    graft_image_retain,
    graft_image_release
);

c_struct! {
    /// What an image may cost before it is decoded.
    graft_image_limits {
        /// Longest side in pixels; 0 for 16,384.
        max_side: u32,
        /// Pixels; 0 for 64 Mi.
        max_pixels: u64,
        /// Bytes that its decoder may take; 0 for 512 MiB.
        max_bytes: u64,
    }
}

c_struct! {
    /// What an image is.
    graft_image_info {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Zero.
        reserved_0: u32,
    }
}

/// Bytes of a pixel.
const RGB: u64 = 3;

impl graft_image_limits {
    /// The limits, none of them beyond what is left of the runtime's memory.
    fn within(&self, runtime: &Runtime) -> ImageLimits {
        let or = |given: u64, default: u64| if given == 0 { default } else { given };
        let default = ImageLimits::default();
        let budget = runtime.budget();
        let left = budget.limit().saturating_sub(budget.reserved());
        ImageLimits {
            side: match self.max_side {
                0 => default.side,
                side => side,
            },
            pixels: or(self.max_pixels, default.pixels).min(left / RGB),
            bytes: or(self.max_bytes, default.bytes).min(left),
        }
    }
}

impl ImageObject {
    fn new(image: RgbImage, runtime: &Runtime) -> Result<Self, Fault> {
        Ok(Self {
            _bytes: runtime.budget().reserve(image.pixels().len() as u64)?,
            image,
            shown: Mutex::default(),
        })
    }

    /// The image as a session of a model is fed it: the same item as long as no other model sees it in between,
    /// so that its features are computed once.
    ///
    /// # Errors
    /// If the model does not see.
    pub fn item(&self, model: &Arc<Model>) -> Result<Item, Fault> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shown
            .as_ref()
            .filter(|shown| Arc::ptr_eq(shown.model(), model));
        let image = match known {
            Some(known) => Arc::clone(known),
            None => Arc::clone(shown.insert(ShownImage::new(model, &self.image)?)),
        };
        Ok(Item::Image(image))
    }
}

/// Images as items of a model's sessions.
///
/// # Errors
/// If the model does not see.
pub fn items(images: &[Arc<ImageObject>], model: &Arc<Model>) -> Result<Vec<Item>, Fault> {
    images.iter().map(|image| image.item(model)).collect()
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_image_open(
    runtime: Handle<Runtime>,
    path: Text,
    limits: In<graft_image_limits>,
    out: Out<Handle<ImageObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_image_open", err, || {
        out.check("out")?;
        let runtime = Runtime::of(runtime)?;
        let limits = limits.read()?.within(&runtime);
        out.give(ImageObject::new(
            open(path.path("path")?, &limits)?,
            &runtime,
        )?)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_image_decode(
    runtime: Handle<Runtime>,
    data: In<u8>,
    size: usize,
    limits: In<graft_image_limits>,
    out: Out<Handle<ImageObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_image_decode", err, || {
        out.check("out")?;
        let runtime = Runtime::of(runtime)?;
        let limits = limits.read()?.within(&runtime);
        let image = decode(data.slice(size, "data")?, "in memory", &limits)?;
        out.give(ImageObject::new(image, &runtime)?)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_image_from_pixels(
    runtime: Handle<Runtime>,
    pixels: In<u8>,
    width: u32,
    height: u32,
    stride: usize,
    out: Out<Handle<ImageObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_image_from_pixels", err, || {
        out.check("out")?;
        let runtime = Runtime::of(runtime)?;
        let (width, height) = (width as usize, height as usize);
        let row = width.saturating_mul(RGB as usize);
        let stride = if stride == 0 { row } else { stride };
        let before = stride.checked_mul(height.saturating_sub(1));
        let length = before.and_then(|before| before.checked_add(row));
        let length = length
            .filter(|_| width > 0 && height > 0 && stride >= row)
            .ok_or_else(|| {
                let message =
                    format!("{width} x {height} pixels in rows of {stride} bytes are no image");
                Fault::argument(message)
            })?;
        let bytes = runtime
            .budget()
            .reserve(RGB * width as u64 * height as u64)?;
        let image = RgbImage::from_rows(width, height, stride, pixels.slice(length, "pixels")?)?;
        out.give(ImageObject {
            image,
            shown: Mutex::default(),
            _bytes: bytes,
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_image_get_info(
    image: Handle<ImageObject>,
    out: OutStruct<graft_image_info>,
) -> graft_status {
    call::status("graft_image_get_info", || {
        let image = image.get()?;
        out.check("out")?;
        out.set(&graft_image_info {
            width: number(image.image.width()),
            height: number(image.image.height()),
            ..graft_image_info::zeroed()
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_image_pixels(image: Handle<ImageObject>) -> *const u8 {
    call::value("graft_image_pixels", std::ptr::null(), || {
        Ok(image.get()?.image.pixels().as_ptr())
    })
}
