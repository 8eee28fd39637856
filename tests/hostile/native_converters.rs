//! The converters that ship with graft on damaged exports: as native code, where a fuzzer sees its way,
//! read in pieces of several sizes, and now and then in their sandbox. All must give the same.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use graft::cancel::Cancel;
use graft::dataset::assets::{ImageHeader, check_name};
use graft::dataset::converter::LogLevel;
use graft::dataset::{
    ConvertError, ConvertHost, Converter as _, ImageRef, Part, Role, Sample, Source,
};
use graft_plugin as sdk;
use graft_plugin::testing::{Memory, Samples};
use graft_plugins::{Grants, Host, Limits, WasmConverter, shipped};

/// What stands between an export and the file beside it.
const SEPARATOR: &[u8] = b"\n\xfe\n";

type Native = fn(&[u8], &[u8], usize) -> Outcome;

const CONVERTERS: [(&str, Native); 9] = [
    ("alpaca", native::<alpaca::Alpaca>),
    ("coco-captions", native::<coco_captions::CocoCaptions>),
    ("csv", native::<csv::Csv>),
    ("doccano", native::<doccano::Doccano>),
    ("label-studio", native::<label_studio::LabelStudio>),
    ("openai-chat", native::<openai_chat::OpenAiChat>),
    ("sharegpt", native::<sharegpt::ShareGpt>),
    ("ubiai", native::<ubiai::Ubiai>),
    ("vqa-v2", native::<vqa_v2::VqaV2>),
];

/// What came of an export, in words that both sides have.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Records, samples and skipped records, or the kind of error.
    end: Result<(u64, u64, u64), &'static str>,
    samples: Vec<String>,
    remarks: Vec<String>,
}

/// An export: the first byte says which converter reads it, and whether it does so in its sandbox too. A
/// file that lies beside the export, whatever its name, follows behind [`SEPARATOR`].
pub fn converters(bytes: &[u8]) -> Option<()> {
    let (first, rest) = bytes.split_first()?;
    let (name, native) = CONVERTERS[usize::from(first & 15) % CONVERTERS.len()];
    let split = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR);
    let (export, beside) = match split {
        Some(at) => (&rest[..at], &rest[at + SEPARATOR.len()..]),
        None => (rest, &[][..]),
    };
    let whole = native(export, beside, usize::MAX);
    for step in [1, 7] {
        assert_eq!(native(export, beside, step), whole, "{name} by {step}");
    }
    match whole.end {
        Ok((_, samples, skipped)) => {
            assert_eq!(samples as usize, whole.samples.len(), "{name} miscounts");
            let silent = skipped > 0 && whole.remarks.is_empty();
            assert!(!silent, "{name}: records vanish");
        }
        Err(kind) => assert_ne!(kind, "internal", "{name}"),
    }
    if first & 16 != 0 {
        let within = in_sandbox(name, export, beside);
        assert_eq!(within.end, whole.end, "{name} in its sandbox");
        // Of a conversion that fails, the last samples are not passed on.
        if whole.end.is_ok() {
            assert_eq!(within.samples, whole.samples, "{name} in its sandbox");
        }
    }
    whole.end.ok().map(|_| ())
}

fn native<C: sdk::Converter>(export: &[u8], beside: &[u8], step: usize) -> Outcome {
    let head = &export[..export.len().min(64 << 10)];
    assert!(C::detect(head, "export.json") <= 100);
    let desk = Desk {
        beside: beside.to_vec(),
        remarks: RefCell::default(),
    };
    let mut samples = Samples::default();
    let mut source = Memory::new("export", export, step);
    let end = C::convert(&mut source, &mut samples, "{}", &desk);
    Outcome {
        end: match end {
            Ok(summary) => Ok((summary.records, summary.samples, summary.skipped)),
            Err(sdk::Error::InvalidInput(fault)) => {
                assert!(fault.at.is_some(), "{} has no place", fault.code);
                Err("invalid input")
            }
            Err(sdk::Error::InvalidOptions(_)) => Err("invalid options"),
            Err(sdk::Error::Unsupported(_)) => Err("unsupported"),
            Err(sdk::Error::NotFound(_)) => Err("not found"),
            Err(error) => panic!("{error:?}"),
        },
        samples: samples.0.iter().map(of_guest).collect(),
        remarks: desk.remarks.into_inner(),
    }
}

fn of_guest(sample: &sdk::Sample) -> String {
    let turns = sample.turns.iter().map(|turn| {
        let role = match turn.role {
            sdk::Role::System => "system",
            sdk::Role::User => "user",
            sdk::Role::Assistant => "assistant",
        };
        let parts = turn.content.iter().map(|part| match part {
            sdk::Part::Text(text) => format!("{text:?}"),
            sdk::Part::Image(index) => format!("[{index}]"),
        });
        format!("{role} {}", parts.collect::<String>())
    });
    let turns: Vec<String> = turns.collect();
    let images = sample.images.iter().map(|image| match image {
        sdk::ImageRef::Asset(name) => format!("{name:?}"),
        sdk::ImageRef::AssetPage((name, page)) => format!("{name:?} {page}"),
        sdk::ImageRef::Encoded(bytes) => format!("{} bytes", bytes.len()),
    });
    let images: Vec<String> = images.collect();
    format!("{:?} {images:?} {turns:?}", sample.id)
}

fn of_host(sample: &Sample) -> String {
    let turns = sample.turns.iter().map(|turn| {
        let role = match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let parts = turn.content.iter().map(|part| match part {
            Part::Text(text) => format!("{text:?}"),
            Part::Image(index) => format!("[{index}]"),
        });
        format!("{role} {}", parts.collect::<String>())
    });
    let turns: Vec<String> = turns.collect();
    let images = sample.images.iter().map(|image| match image {
        ImageRef::Path(path) => format!("{path:?}"),
        ImageRef::Bytes(bytes) => format!("{} bytes", bytes.len()),
    });
    let images: Vec<String> = images.collect();
    format!("{:?} {images:?} {turns:?}", sample.id)
}

fn in_sandbox(name: &'static str, export: &[u8], beside: &[u8]) -> Outcome {
    static LOADED: LazyLock<Mutex<HashMap<&str, WasmConverter>>> = LazyLock::new(Mutex::default);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let converter = loaded.entry(name).or_insert_with(|| {
        let host = Host::new(Limits::default(), None).expect("an engine");
        let bytes = shipped::plugin(name).expect("a shipped plugin");
        let plugin = host.load_bytes(name, bytes, &Grants::default());
        let plugin = plugin.expect("a shipped plugin loads");
        plugin.into_converter().expect("a converter")
    });
    let desk = Desk {
        beside: beside.to_vec(),
        remarks: RefCell::default(),
    };
    let mut samples = Vec::new();
    let mut source = super::Memory::named("export", export);
    let end = converter.convert(&mut source, &mut samples, "{}", &desk);
    Outcome {
        end: match end {
            Ok(summary) => Ok((summary.records, summary.samples, summary.skipped)),
            Err(ConvertError::InvalidInput(_)) => Err("invalid input"),
            Err(ConvertError::InvalidOptions(_)) => Err("invalid options"),
            Err(ConvertError::Unsupported(_)) => Err("unsupported"),
            Err(ConvertError::NotFound(_)) => Err("not found"),
            Err(error) => panic!("{name}: {error:?}"),
        },
        samples: samples.iter().map(of_host).collect(),
        remarks: desk.remarks.into_inner(),
    }
}

/// As the host has it, a name that leads elsewhere is no file's.
fn is_missing(name: &str) -> bool {
    name.contains("missing") || check_name(name).is_err()
}

/// A folder in which every image is there unless its name has `missing` in it, and every other file
/// holds the same bytes.
struct Desk {
    beside: Vec<u8>,
    remarks: RefCell<Vec<String>>,
}

impl sdk::Host for Desk {
    fn log(&self, _: sdk::Level, _: &str) {}
    fn report(&self, diagnostic: sdk::Diagnostic) -> Result<(), sdk::Error> {
        assert!(diagnostic.at.is_some(), "{} has no place", diagnostic.code);
        self.remarks.borrow_mut().push(format!("{diagnostic:?}"));
        Ok(())
    }
    fn checkpoint(&self, _: u64, _: Option<u64>) -> Result<(), sdk::Error> {
        Ok(())
    }
    fn open_asset(&self, name: &str) -> Result<Box<dyn sdk::Source>, sdk::Error> {
        match self.beside.is_empty() {
            true => Err(sdk::Error::NotFound(name.to_owned())),
            false => Ok(Box::new(Memory::new(name, &self.beside, 1000))),
        }
    }
    fn probe_image(&self, name: &str) -> Result<sdk::ImageInfo, sdk::Error> {
        match is_missing(name) {
            true => Err(sdk::Error::NotFound(name.to_owned())),
            false => Ok(sdk::ImageInfo {
                width: 200,
                height: 100,
                format: sdk::ImageFormat::Png,
                size: 100,
            }),
        }
    }
    fn list_assets(&self, _: &str, _: Option<&str>, _: u32) -> Result<Vec<String>, sdk::Error> {
        Ok(Vec::new())
    }
}

impl ConvertHost for Desk {
    fn cancel(&self) -> Cancel {
        Cancel::new()
    }
    fn checkpoint(&self, _: u64, _: Option<u64>) -> Result<(), ConvertError> {
        Ok(())
    }
    fn report(&self, diagnostic: graft::dataset::Diagnostic) {
        self.remarks.borrow_mut().push(diagnostic.code);
    }
    fn log(&self, _: LogLevel, _: &str) {}
    fn open_asset(&self, name: &str) -> Result<Box<dyn Source + Send>, ConvertError> {
        match self.beside.is_empty() {
            true => Err(ConvertError::NotFound(name.to_owned())),
            false => Ok(Box::new(super::Memory::named(name, self.beside.as_slice()))),
        }
    }
    fn probe_image(&self, name: &str) -> Result<ImageHeader, ConvertError> {
        match is_missing(name) {
            true => Err(ConvertError::NotFound(name.to_owned())),
            false => Ok(ImageHeader {
                width: 200,
                height: 100,
                format: "png".into(),
                bytes: 100,
            }),
        }
    }
    fn list_assets(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<String>, ConvertError> {
        Ok(Vec::new())
    }
}
