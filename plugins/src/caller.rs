//! The caller of a plugin, as the plugin's host functions see it.
//!
//! A plugin runs on a stack of its own, which it leaves whenever it asks something of the borrowed source, sink
//! or host: one of these then does it.

use graft::dataset::assets::ImageHeader;
use graft::dataset::converter::LogLevel;
use graft::dataset::{ConvertError, ConvertHost, Diagnostic, ImageRef, Sample, SampleSink, Source};
use graft::evaluate::evaluator::{JudgeReply, JudgeRequest};
use graft::evaluate::{EvaluateError, EvaluateHost};

/// What a plugin may ask of whoever called it.
///
/// `Err` of [`Failure::Final`] ends the plugin; the plugin sees any other error.
pub trait Caller {
    fn log(&mut self, level: LogLevel, message: &str);
    fn report(&mut self, diagnostic: Diagnostic);
    fn checkpoint(&mut self, done: u64, total: Option<u64>) -> Result<(), Failure>;

    fn read(&mut self, _max: usize) -> Result<Vec<u8>, Failure> {
        Err(Failure::not_here())
    }
    fn read_at(&mut self, _offset: u64, _max: usize) -> Result<Vec<u8>, Failure> {
        Err(Failure::not_here())
    }
    fn emit(&mut self, _samples: Vec<Sample>) -> Result<(), Failure> {
        Err(Failure::not_here())
    }
    fn open_asset(&mut self, _name: &str) -> Result<Box<dyn Source + Send>, Failure> {
        Err(Failure::not_here())
    }
    fn probe_image(&mut self, _name: &str) -> Result<ImageHeader, Failure> {
        Err(Failure::not_here())
    }
    fn list_assets(
        &mut self,
        _prefix: &str,
        _after: Option<&str>,
        _max: usize,
    ) -> Result<Vec<String>, Failure> {
        Err(Failure::not_here())
    }
    fn generate(&mut self, _request: &JudgeRequest) -> Result<JudgeReply, Failure> {
        Err(Failure::not_here())
    }
}

/// Why the caller did not do what it was asked.
pub enum Failure {
    /// The plugin gets this and may go on.
    Told(ConvertError),
    /// The work is over; the caller keeps the reason.
    Final,
}

impl Failure {
    fn not_here() -> Self {
        let message = "this plugin was started without files to read or samples to write";
        Self::Told(ConvertError::Unsupported(message.into()))
    }
}

/// Who called a converter.
pub struct ConvertCaller<'a> {
    pub input: &'a mut dyn Source,
    pub output: &'a mut dyn SampleSink,
    pub host: &'a dyn ConvertHost,
    /// Why the work ended on our side: a full disk, an unreadable input, a wish to stop.
    pub failure: Option<ConvertError>,
}

impl ConvertCaller<'_> {
    /// Keeps what ends the work; the rest is for the plugin to handle.
    fn sort(&mut self, error: ConvertError) -> Failure {
        match error {
            ConvertError::NotFound(_)
            | ConvertError::Denied(_)
            | ConvertError::Unsupported(_)
            | ConvertError::Cancelled => Failure::Told(error),
            _ => {
                self.failure = Some(error);
                Failure::Final
            }
        }
    }

    fn taken(&mut self, buffer: Vec<u8>, read: std::io::Result<usize>) -> Result<Vec<u8>, Failure> {
        match read {
            Ok(bytes) => {
                let mut buffer = buffer;
                buffer.truncate(bytes);
                Ok(buffer)
            }
            Err(source) if source.kind() == std::io::ErrorKind::Unsupported => {
                let message = format!("{} can only be read in order", self.input.name());
                Err(Failure::Told(ConvertError::Unsupported(message)))
            }
            Err(source) => {
                let what = format!("cannot read {}", self.input.name());
                Err(self.sort(ConvertError::Io { what, source }))
            }
        }
    }
}

impl Caller for ConvertCaller<'_> {
    fn log(&mut self, level: LogLevel, message: &str) {
        self.host.log(level, message);
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.host.report(diagnostic);
    }

    fn checkpoint(&mut self, done: u64, total: Option<u64>) -> Result<(), Failure> {
        let wish = self.host.checkpoint(done, total);
        wish.map_err(|error| self.sort(error))
    }

    fn read(&mut self, max: usize) -> Result<Vec<u8>, Failure> {
        let mut buffer = vec![0; max];
        let read = self.input.read(&mut buffer);
        self.taken(buffer, read)
    }

    fn read_at(&mut self, offset: u64, max: usize) -> Result<Vec<u8>, Failure> {
        let mut buffer = vec![0; max];
        let read = self.input.read_at(offset, &mut buffer);
        self.taken(buffer, read)
    }

    fn emit(&mut self, samples: Vec<Sample>) -> Result<(), Failure> {
        for sample in samples {
            if let Err(error) = self.output.emit(sample) {
                self.failure = Some(error);
                return Err(Failure::Final);
            }
        }
        Ok(())
    }

    fn open_asset(&mut self, name: &str) -> Result<Box<dyn Source + Send>, Failure> {
        self.host.open_asset(name).map_err(|e| self.sort(e))
    }

    fn probe_image(&mut self, name: &str) -> Result<ImageHeader, Failure> {
        self.host.probe_image(name).map_err(|e| self.sort(e))
    }

    fn list_assets(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<String>, Failure> {
        let names = self.host.list_assets(prefix, after, max);
        names.map_err(|e| self.sort(e))
    }
}

/// Who called an evaluator.
pub struct EvaluateCaller<'a> {
    pub host: &'a dyn EvaluateHost,
    /// Those of the sample that is scored: a model may be shown these and no other files.
    pub images: &'a [ImageRef],
}

impl EvaluateCaller<'_> {
    /// An image of the sample as the caller has it, by the name that the plugin was given.
    fn own(&self, image: &ImageRef) -> Result<ImageRef, Failure> {
        let ImageRef::Path(name) = image else {
            return Ok(image.clone());
        };
        let name = name.to_string_lossy();
        let mut images = self.images.iter();
        let found = images.find(|own| match own {
            ImageRef::Path(path) => path.to_string_lossy() == name,
            ImageRef::Bytes(_) => false,
        });
        found.cloned().ok_or_else(|| {
            let reason = format!("{name:?} is no image of the sample that is scored");
            Failure::Told(ConvertError::Denied(reason))
        })
    }
}

impl Caller for EvaluateCaller<'_> {
    fn log(&mut self, level: LogLevel, message: &str) {
        self.host.log(level, message);
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.host.report(diagnostic);
    }

    fn checkpoint(&mut self, _done: u64, _total: Option<u64>) -> Result<(), Failure> {
        match self.host.cancel().is_raised() {
            true => Err(Failure::Told(ConvertError::Cancelled)),
            false => Ok(()),
        }
    }

    fn generate(&mut self, request: &JudgeRequest) -> Result<JudgeReply, Failure> {
        let images = request.images.iter().map(|image| self.own(image));
        let request = JudgeRequest {
            images: images.collect::<Result<_, _>>()?,
            ..request.clone()
        };
        self.host.generate(&request).map_err(|error| {
            Failure::Told(match error {
                EvaluateError::Cancelled => ConvertError::Cancelled,
                EvaluateError::Denied(reason) => ConvertError::Denied(reason),
                EvaluateError::Unsupported(reason) => ConvertError::Unsupported(reason),
                other => ConvertError::Internal(other.to_string()),
            })
        })
    }
}
