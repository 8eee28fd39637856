//! Converters: the trait a plugin implements, what it may call, and how it becomes a component.

use std::cell::Cell;

use crate::bindings::converter::exports::graft::plugin::converter as export;
use crate::bindings::converter::graft::plugin::{dataset, host, input};
use crate::{Diagnostic, Error, ImageInfo, ImageRef, Level, Part, Sample, Value};

pub use export::Summary;

/// Turns foreign exports into samples.
pub trait Converter {
    /// The formats it reads.
    const FORMATS: &'static [Format];
    /// JSON Schema (2020-12) of its options.
    const OPTIONS_SCHEMA: &'static str;

    /// 0 not mine, 100 certain; `head` is the start of a file called `name`.
    fn detect(head: &[u8], name: &str) -> u8;

    /// Reads all of `input`, emits its samples in order. `options` is the text of a JSON object.
    fn convert(
        input: &mut dyn Source,
        output: &mut dyn Sink,
        options: &str,
        host: &dyn Host,
    ) -> Result<Summary, Error>;
}

/// A format that a converter reads.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Stable name: `ubiai-relations`.
    pub id: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// Usual file name extensions, without the dot.
    pub extensions: &'static [&'static str],
}

/// Bytes to read.
pub trait Source {
    /// What messages call it.
    fn name(&self) -> String;
    /// Bytes in all, if known.
    fn size(&self) -> Option<u64>;
    /// The next bytes, at most `max`; none at the end.
    fn read(&mut self, max: u32) -> Result<Vec<u8>, Error>;
    /// At most `max` bytes from `offset` on; [`Error::Unsupported`] on a pipe.
    fn read_at(&mut self, offset: u64, max: u32) -> Result<Vec<u8>, Error>;
}

/// Takes samples.
pub trait Sink {
    /// Takes one sample.
    fn emit(&mut self, sample: Sample) -> Result<(), Error>;
}

/// What surrounds a conversion.
pub trait Host {
    /// A line for the log.
    fn log(&self, level: Level, message: &str);
    /// A remark about the input that does not stop the work.
    fn report(&self, diagnostic: Diagnostic) -> Result<(), Error>;
    /// Reports progress; [`Error::Cancelled`], which the plugin passes on, to stop.
    fn checkpoint(&self, done: u64, total: Option<u64>) -> Result<(), Error>;
    /// Opens a companion file of the export.
    fn open_asset(&self, name: &str) -> Result<Box<dyn Source>, Error>;
    /// Size and format of an image, from its header.
    fn probe_image(&self, name: &str) -> Result<ImageInfo, Error>;
    /// A page of the sorted names of companion files.
    fn list_assets(
        &self,
        prefix: &str,
        after: Option<&str>,
        max: u32,
    ) -> Result<Vec<String>, Error>;
}

/// All bytes of `source`, which may have at most `limit` of them.
pub fn read_all(source: &mut dyn Source, limit: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    loop {
        let chunk = source.read(1 << 18)?;
        if chunk.is_empty() {
            return Ok(bytes);
        }
        if bytes.len() + chunk.len() > limit {
            let name = source.name();
            let message = format!("{name} is larger than the {limit} bytes this format may have");
            return Err(Error::Unsupported(message));
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// How the trait meets the component model; [`export_converter!`](crate::export_converter) uses it.
#[doc(hidden)]
pub mod component {
    use super::*;

    pub fn describe<C: Converter>() -> export::Description {
        let format = |f: &Format| export::Format {
            id: f.id.to_owned(),
            title: f.title.to_owned(),
            extensions: f.extensions.iter().map(|&e| e.to_owned()).collect(),
        };
        export::Description {
            formats: C::FORMATS.iter().map(format).collect(),
            options_schema: C::OPTIONS_SCHEMA.to_owned(),
        }
    }

    pub fn convert<C: Converter>(
        input: &input::Source,
        output: &dataset::Sink,
        options: &str,
    ) -> Result<Summary, Error> {
        let mut batch = Batch::new(output);
        let imports = Imports::default();
        let summary = C::convert(&mut Borrowed(input), &mut batch, options, &imports)?;
        batch.flush()?;
        Ok(summary)
    }

    struct Borrowed<'a>(&'a input::Source);

    impl Source for Borrowed<'_> {
        fn name(&self) -> String {
            self.0.name()
        }
        fn size(&self) -> Option<u64> {
            self.0.size()
        }
        fn read(&mut self, max: u32) -> Result<Vec<u8>, Error> {
            self.0.read(max)
        }
        fn read_at(&mut self, offset: u64, max: u32) -> Result<Vec<u8>, Error> {
            self.0.read_at(offset, max)
        }
    }

    struct Asset(input::Source);

    impl Source for Asset {
        fn name(&self) -> String {
            self.0.name()
        }
        fn size(&self) -> Option<u64> {
            self.0.size()
        }
        fn read(&mut self, max: u32) -> Result<Vec<u8>, Error> {
            self.0.read(max)
        }
        fn read_at(&mut self, offset: u64, max: u32) -> Result<Vec<u8>, Error> {
            self.0.read_at(offset, max)
        }
    }

    #[derive(Default)]
    struct Imports {
        /// Bytes done when the host was last told, and how often it was.
        told: Cell<(u64, u32)>,
    }

    impl Imports {
        /// Bytes that pass without a word: telling the host means leaving the plugin, which takes as long as
        /// many a record.
        const QUIET: u64 = 256 << 10;
        /// It is told this often in any case.
        const ALWAYS: u32 = 16;
    }

    impl Host for Imports {
        fn log(&self, level: Level, message: &str) {
            host::log(level, message);
        }
        fn report(&self, diagnostic: Diagnostic) -> Result<(), Error> {
            host::report(&diagnostic)
        }
        fn checkpoint(&self, done: u64, total: Option<u64>) -> Result<(), Error> {
            let (told, times) = self.told.get();
            let soon = (told..told.saturating_add(Self::QUIET)).contains(&done);
            if times >= Self::ALWAYS && soon && total != Some(done) {
                return Ok(());
            }
            self.told.set((done, times.saturating_add(1)));
            host::checkpoint(done, total)
        }
        fn open_asset(&self, name: &str) -> Result<Box<dyn Source>, Error> {
            Ok(Box::new(Asset(input::open_asset(name)?)))
        }
        fn probe_image(&self, name: &str) -> Result<ImageInfo, Error> {
            input::probe_image(name)
        }
        fn list_assets(
            &self,
            prefix: &str,
            after: Option<&str>,
            max: u32,
        ) -> Result<Vec<String>, Error> {
            input::list_assets(prefix, after, max)
        }
    }

    /// Samples on their way out: crossing into the host once per batch, not once per sample.
    struct Batch<'a> {
        sink: &'a dataset::Sink,
        samples: Vec<Sample>,
        bytes: usize,
    }

    impl<'a> Batch<'a> {
        const SAMPLES: usize = 64;
        const BYTES: usize = 256 << 10;

        fn new(sink: &'a dataset::Sink) -> Self {
            let samples = Vec::with_capacity(Self::SAMPLES);
            Self {
                sink,
                samples,
                bytes: 0,
            }
        }

        fn flush(&mut self) -> Result<(), Error> {
            if !self.samples.is_empty() {
                self.sink.emit(&self.samples)?;
                self.samples.clear();
                self.bytes = 0;
            }
            Ok(())
        }
    }

    impl Sink for Batch<'_> {
        fn emit(&mut self, sample: Sample) -> Result<(), Error> {
            self.bytes += size_of_sample(&sample);
            self.samples.push(sample);
            if self.samples.len() >= Self::SAMPLES || self.bytes >= Self::BYTES {
                self.flush()?;
            }
            Ok(())
        }
    }

    fn size_of_sample(sample: &Sample) -> usize {
        let images = sample.images.iter().map(|image| match image {
            ImageRef::Asset(name) | ImageRef::AssetPage((name, _)) => name.len(),
            ImageRef::Encoded(bytes) => bytes.len(),
        });
        let parts = sample.turns.iter().flat_map(|turn| &turn.content);
        let texts = parts.map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Image(_) => 0,
        });
        let extra = sample.extra.iter().map(|(_, value)| match value {
            Value::Text(text) | Value::Json(text) => text.len(),
            _ => 0,
        });
        images.chain(texts).chain(extra).sum()
    }
}

/// Makes a type that implements [`Converter`] the converter of this component.
///
/// Compiled natively it expands to nothing.
#[macro_export]
macro_rules! export_converter {
    ($converter:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::converter::exports::graft::plugin::converter as export;

            struct Component;

            impl export::Guest for Component {
                fn describe() -> export::Description {
                    $crate::converter_component::describe::<$converter>()
                }
                fn detect(head: Vec<u8>, name: String) -> u8 {
                    <$converter as $crate::Converter>::detect(&head, &name)
                }
                fn convert(
                    input: &export::Source,
                    output: &export::Sink,
                    options: String,
                ) -> Result<export::Summary, export::Error> {
                    $crate::converter_component::convert::<$converter>(input, output, &options)
                }
            }

            $crate::bindings::converter::export!(
                Component with_types_in $crate::bindings::converter
            );
        };
    };
}
