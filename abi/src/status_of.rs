//! Which status each error of the engine is, and what it is about.

use std::path::Path;

use graft::adapter::AdapterError;
use graft::convert_hf::ConvertHfError;
use graft::dataset::{ConvertError, DatasetError, Diagnostic};
use graft::device::DeviceError;
use graft::evaluate::EvaluateError;
use graft::gguf::GgufError;
use graft::image::ImageError;
use graft::memory::ArenaError;
use graft::model::ModelError;
use graft::quantize::QuantizeError;
use graft::session::SessionError;
use graft::tokenizer::TokenizerError;
use graft::train::TrainError;

use crate::fault::Fault;
use crate::status::{self, graft_status};

impl From<graft::Error> for Fault {
    fn from(error: graft::Error) -> Self {
        let (status, details) = sort(&error);
        let fault = Self::new(status, error.to_string());
        details
            .into_iter()
            .fold(fault, |fault, (key, value)| fault.with(key, value))
    }
}

/// Errors of a part of the engine are sorted as the whole engine's.
macro_rules! through_the_engine {
    ($($part:ty),*) => { $(
        impl From<$part> for Fault {
            fn from(error: $part) -> Self {
                graft::Error::from(error).into()
            }
        }
    )* };
}
through_the_engine!(
    AdapterError,
    ArenaError,
    ConvertError,
    DatasetError,
    EvaluateError,
    GgufError,
    ImageError,
    ModelError,
    QuantizeError,
    SessionError,
    TokenizerError,
    TrainError
);

impl From<graft::memory::BudgetError> for Fault {
    fn from(error: graft::memory::BudgetError) -> Self {
        graft::Error::from(error).into()
    }
}

type Sorted = (graft_status, Vec<(&'static str, String)>);

fn device(error: &DeviceError) -> graft_status {
    match error {
        DeviceError::Unknown { .. } => status::GRAFT_E_ARGUMENT,
        DeviceError::NotBuilt => status::GRAFT_E_UNSUPPORTED,
        DeviceError::NoMemory(_) => status::GRAFT_E_DEVICE_MEMORY,
        DeviceError::NoRoom { .. } => status::GRAFT_E_BUDGET,
        _ => status::GRAFT_E_DEVICE,
    }
}

/// The status of an error, and what it is about.
fn sort(error: &graft::Error) -> Sorted {
    use graft::Error;
    match error {
        Error::Io { path, source, .. } => at(status::of_io(source), path),
        Error::Threads { .. } => plain(status::GRAFT_E_MEMORY),
        Error::Gguf(error) => gguf(error),
        Error::Convert(error) => convert(error),
        Error::ConvertHf(error) => import(error),
        Error::Evaluate(error) => evaluate(error),
        Error::Tokenizer(error) => tokenizer(error),
        Error::Model(error) => model(error),
        Error::Dataset(error) => dataset(error),
        Error::Adapter(error) => adapter(error),
        Error::Image(error) => image(error),
        Error::Session(error) => session(error),
        Error::Train(error) => train(error),
        Error::Quantize(error) => quantize(error),
        Error::Device(error) => plain(device(error)),
        Error::Budget(_) => plain(status::GRAFT_E_BUDGET),
        Error::Arena(ArenaError::Refused { .. }) => plain(status::GRAFT_E_MEMORY),
        Error::Arena(_) => plain(status::GRAFT_E_INTERNAL),
        Error::Cancelled => plain(status::GRAFT_E_CANCELLED),
        Error::TimedOut => plain(status::GRAFT_E_TIMEOUT),
        _ => plain(status::GRAFT_E_INTERNAL),
    }
}

fn plain(status: graft_status) -> Sorted {
    (status, Vec::new())
}

fn at(status: graft_status, path: &Path) -> Sorted {
    (status, vec![("path", path.display().to_string())])
}

fn about(status: graft_status, key: &'static str, value: impl ToString) -> Sorted {
    (status, vec![(key, value.to_string())])
}

fn gguf(error: &GgufError) -> Sorted {
    use GgufError as E;
    const FORMAT: graft_status = status::GRAFT_E_FORMAT;
    match error {
        E::Io { path, source, .. } => at(status::of_io(source), path),
        E::Folder { path } | E::SplitPart { path, .. } => at(FORMAT, path),
        E::InFile { path, source } => {
            let (status, mut details) = gguf(source);
            details.push(("path", path.display().to_string()));
            (status, details)
        }
        E::Version { .. } | E::BigEndian => plain(status::GRAFT_E_VERSION),
        E::Truncated { offset, .. } | E::Count { offset, .. } => {
            about(status::GRAFT_E_CORRUPT, "offset", offset)
        }
        E::Utf8 { offset, .. }
        | E::ValueType { offset, .. }
        | E::Boolean { offset, .. }
        | E::Depth { offset, .. }
        | E::DuplicateKey { offset, .. } => about(FORMAT, "offset", offset),
        E::TensorBeyondEnd { tensor, start, .. } => {
            let place = [("tensor", tensor.clone()), ("offset", start.to_string())];
            (status::GRAFT_E_CORRUPT, place.into())
        }
        E::DuplicateTensor { tensor, offset }
        | E::Axes { tensor, offset, .. }
        | E::Shape { tensor, offset, .. }
        | E::TensorType { tensor, offset, .. } => {
            let place = [("tensor", tensor.clone()), ("offset", offset.to_string())];
            (FORMAT, place.into())
        }
        E::PartialBlock { tensor, .. } | E::Misaligned { tensor, .. } => {
            about(FORMAT, "tensor", tensor)
        }
        E::MissingKey { key } | E::KeyType { key, .. } => about(FORMAT, "field", key),
        E::WrittenBytes { .. } | E::Unfinished { .. } => plain(status::GRAFT_E_INTERNAL),
        _ => plain(FORMAT),
    }
}

fn model(error: &ModelError) -> Sorted {
    use ModelError as E;
    match error {
        E::Gguf(error) => gguf(error),
        E::Architecture(_) => plain(status::GRAFT_E_UNSUPPORTED),
        E::Unsupported { key, .. } => about(status::GRAFT_E_UNSUPPORTED, "field", key),
        E::NoTokenizer => plain(status::GRAFT_E_UNSUPPORTED),
        E::MissingTensor(tensor) | E::UnknownTensor(tensor) => {
            about(status::GRAFT_E_FORMAT, "tensor", tensor)
        }
        E::TensorShape { tensor, .. } | E::TensorType { tensor, .. } => {
            about(status::GRAFT_E_FORMAT, "tensor", tensor)
        }
        E::Token { .. } => plain(status::GRAFT_E_ARGUMENT),
        E::OtherWidth { .. } => plain(status::GRAFT_E_INCOMPATIBLE),
        _ => plain(status::GRAFT_E_FORMAT),
    }
}

fn adapter(error: &AdapterError) -> Sorted {
    use AdapterError as E;
    match error {
        E::Gguf(error) => gguf(error),
        E::NotAnAdapter { path, .. } | E::InFolder { path, .. } | E::IsCompanion { path } => {
            at(status::GRAFT_E_FORMAT, path)
        }
        E::NoCompanion { companion, .. } => at(status::GRAFT_E_NOT_FOUND, companion),
        E::OtherCompanion { companion, .. } | E::DamagedCompanion { companion } => {
            at(status::GRAFT_E_CORRUPT, companion)
        }
        E::FileChanged { path, .. } => at(status::GRAFT_E_STATE, path),
        E::Half { tensor, .. }
        | E::UnknownTensor { tensor }
        | E::OtherHalf { tensor }
        | E::Shape { tensor, .. } => about(status::GRAFT_E_FORMAT, "tensor", tensor),
        E::NotFinite { tensor, .. } => about(status::GRAFT_E_NUMERIC, "tensor", tensor),
        E::WeightNotFinite { path, tensor, .. } => {
            let place = [
                ("tensor", tensor.clone()),
                ("path", path.display().to_string()),
            ];
            (status::GRAFT_E_NUMERIC, place.into())
        }
        E::OtherBase { .. } | E::DoesNotFit { .. } | E::Bases { .. } | E::Widths { .. } => {
            plain(status::GRAFT_E_INCOMPATIBLE)
        }
        E::OtherShape { tuned, .. } => at(status::GRAFT_E_INCOMPATIBLE, tuned),
        E::NoAlias { .. } => plain(status::GRAFT_E_NOT_FOUND),
        E::AliasTaken { .. } | E::AliasMoved { .. } => plain(status::GRAFT_E_STATE),
        E::TooMany { .. } => plain(status::GRAFT_E_BUDGET),
        E::Weight { .. }
        | E::NoParts
        | E::RankZero
        | E::RankTooLarge { .. }
        | E::Energy { .. }
        | E::Factor { .. }
        | E::Name { .. } => plain(status::GRAFT_E_ARGUMENT),
        E::Unsupported { .. } => plain(status::GRAFT_E_UNSUPPORTED),
        _ => plain(status::GRAFT_E_FORMAT),
    }
}

fn tokenizer(error: &TokenizerError) -> Sorted {
    use TokenizerError as E;
    match error {
        E::Metadata(error) => gguf(error),
        E::Family { .. } | E::PreTokenizer { .. } => plain(status::GRAFT_E_UNSUPPORTED),
        E::TemplateName { .. } => plain(status::GRAFT_E_NOT_FOUND),
        E::Roles { .. } | E::Unspellable { .. } => plain(status::GRAFT_E_ARGUMENT),
        E::Library(_) => plain(status::GRAFT_E_INTERNAL),
        _ => plain(status::GRAFT_E_FORMAT),
    }
}

fn dataset(error: &DatasetError) -> Sorted {
    use DatasetError as E;
    match error {
        E::Io { path, source, .. } => at(status::of_io(source), path),
        E::Json {
            path, line, column, ..
        }
        | E::Form {
            path, line, column, ..
        } => (
            status::GRAFT_E_FORMAT,
            vec![
                ("path", path.display().to_string()),
                ("line", line.to_string()),
                ("column", column.to_string()),
            ],
        ),
        E::Record {
            path, index, id, ..
        } => (
            status::GRAFT_E_FORMAT,
            vec![
                ("path", path.display().to_string()),
                ("record", index.to_string()),
                ("sample", id.clone()),
            ],
        ),
        E::Empty { path } => at(status::GRAFT_E_FORMAT, path),
        E::Image { id, image, .. } => (
            status::GRAFT_E_FORMAT,
            vec![
                ("sample", id.clone()),
                ("path", image.display().to_string()),
            ],
        ),
        _ => plain(status::GRAFT_E_FORMAT),
    }
}

fn image(error: &ImageError) -> Sorted {
    use ImageError as E;
    match error {
        E::Io { path, source } => at(status::of_io(source), path),
        E::Damaged { name, .. } => about(status::GRAFT_E_CORRUPT, "path", name),
        E::Empty { name } | E::Format { name } => about(status::GRAFT_E_FORMAT, "path", name),
        E::TooLarge { name, .. } => about(status::GRAFT_E_BUDGET, "path", name),
        E::Pixels { .. } => plain(status::GRAFT_E_ARGUMENT),
        _ => plain(status::GRAFT_E_FORMAT),
    }
}

fn session(error: &SessionError) -> Sorted {
    use SessionError as E;
    plain(match error {
        E::ContextFull { .. } => status::GRAFT_E_CONTEXT_FULL,
        E::NothingFed => status::GRAFT_E_STATE,
        E::OtherModel { .. } | E::OtherModelsImage { .. } => status::GRAFT_E_INCOMPATIBLE,
        E::NoVision => status::GRAFT_E_UNSUPPORTED,
        _ => status::GRAFT_E_ARGUMENT,
    })
}

fn train(error: &TrainError) -> Sorted {
    use TrainError as E;
    match error {
        E::Io { path, source, .. } => at(status::of_io(source), path),
        E::Budget {
            needed, smallest, ..
        } => (
            status::GRAFT_E_BUDGET,
            vec![
                ("needed", needed.to_string()),
                ("smallest", smallest.to_string()),
            ],
        ),
        E::SystemMemory { needed, .. } => about(status::GRAFT_E_MEMORY, "needed", needed),
        E::NotFinite { step, tensor } => (
            status::GRAFT_E_NUMERIC,
            vec![("step", step.to_string()), ("tensor", tensor.clone())],
        ),
        E::Torn { step } => about(status::GRAFT_E_STATE, "step", step),
        E::RunExists { path } => at(status::GRAFT_E_STATE, path),
        E::RunBusy { path } => at(status::GRAFT_E_BUSY, path),
        E::Checkpoint { path, .. } | E::Features { path } => at(status::GRAFT_E_FORMAT, path),
        E::Option { option, .. } => {
            // Named as on the command line.
            let field = option.trim_start_matches('-').replace('-', "_");
            about(status::GRAFT_E_ARGUMENT, "field", field)
        }
        E::OptionsJson { .. } => about(status::GRAFT_E_ARGUMENT, "field", "extra_json"),
        E::NoVision { id } | E::Images { id, .. } => about(status::GRAFT_E_ARGUMENT, "sample", id),
        _ => plain(status::GRAFT_E_ARGUMENT),
    }
}

fn quantize(error: &QuantizeError) -> Sorted {
    use QuantizeError as E;
    match error {
        E::UnknownMix { .. } => plain(status::GRAFT_E_ARGUMENT),
        E::NotFinite { tensor, .. } => about(status::GRAFT_E_NUMERIC, "tensor", tensor),
        E::AlreadyQuantized { tensor, .. }
        | E::OutOfRange { tensor, .. }
        | E::Unwritten { tensor, .. } => about(status::GRAFT_E_UNSUPPORTED, "tensor", tensor),
        _ => plain(status::GRAFT_E_UNSUPPORTED),
    }
}

fn import(error: &ConvertHfError) -> Sorted {
    use ConvertHfError as E;
    match error {
        E::NoFolder { path } => at(status::GRAFT_E_NOT_FOUND, path),
        E::MissingFile { folder, .. } => at(status::GRAFT_E_NOT_FOUND, folder),
        E::TowerElsewhere { .. } => plain(status::GRAFT_E_NOT_FOUND),
        E::Io { path, source } => at(status::of_io(source), path),
        E::Architecture { .. } | E::Pickled { .. } => plain(status::GRAFT_E_UNSUPPORTED),
        E::Unsupported { key, .. } => about(status::GRAFT_E_UNSUPPORTED, "field", key),
        E::NoVision { path } | E::SameFile { path } => at(status::GRAFT_E_ARGUMENT, path),
        E::NotAFolder { path } => at(status::GRAFT_E_ARGUMENT, path),
        E::QuantType { .. } => plain(status::GRAFT_E_ARGUMENT),
        E::NotFinite { tensor, .. } | E::TooLarge { tensor, .. } => {
            about(status::GRAFT_E_NUMERIC, "tensor", tensor)
        }
        E::MissingTensor { tensor }
        | E::UnknownTensor { tensor }
        | E::Bias { tensor }
        | E::TensorShape { tensor, .. }
        | E::TensorType { tensor, .. } => about(status::GRAFT_E_FORMAT, "tensor", tensor),
        E::File { path, .. } | E::Vocabulary { path, .. } => at(status::GRAFT_E_FORMAT, path),
        _ => plain(status::GRAFT_E_FORMAT),
    }
}

fn convert(error: &ConvertError) -> Sorted {
    use ConvertError as E;
    match error {
        E::Cancelled => plain(status::GRAFT_E_CANCELLED),
        E::Io { source, .. } => plain(status::of_io(source)),
        E::NotFound(_) => plain(status::GRAFT_E_NOT_FOUND),
        E::Denied(_) => plain(status::GRAFT_E_DENIED),
        E::Unsupported(_) => plain(status::GRAFT_E_UNSUPPORTED),
        E::InvalidOptions(_) => about(status::GRAFT_E_ARGUMENT, "field", "options"),
        E::LimitExceeded(_) => plain(status::GRAFT_E_PLUGIN_LIMIT),
        E::InvalidInput(diagnostic) => place(diagnostic),
        E::NoSamples { .. } => plain(status::GRAFT_E_FORMAT),
        E::Plugin(error) => plain(plugin(&**error)),
        _ => plain(status::GRAFT_E_PLUGIN),
    }
}

fn evaluate(error: &EvaluateError) -> Sorted {
    use EvaluateError as E;
    match error {
        E::Cancelled => plain(status::GRAFT_E_CANCELLED),
        E::Denied(_) => plain(status::GRAFT_E_DENIED),
        E::Unsupported(_) => plain(status::GRAFT_E_UNSUPPORTED),
        E::InvalidOptions(_) => about(status::GRAFT_E_ARGUMENT, "field", "options"),
        E::LimitExceeded(_) => plain(status::GRAFT_E_PLUGIN_LIMIT),
        E::InvalidInput(diagnostic) => place(diagnostic),
        E::Plugin(error) => plain(plugin(&**error)),
        _ => plain(status::GRAFT_E_PLUGIN),
    }
}

/// What a remark that ended the work is about.
fn place(diagnostic: &Diagnostic) -> Sorted {
    let mut details = vec![("code", diagnostic.code.clone())];
    if let Some(at) = &diagnostic.at {
        details.push(("path", at.source.clone()));
        let numbers = [
            ("line", at.line),
            ("column", at.column),
            ("offset", at.byte_offset),
            ("record", at.record_index),
        ];
        let known = numbers.into_iter().filter_map(|(key, n)| Some((key, n?)));
        details.extend(known.map(|(key, n)| (key, n.to_string())));
        details.extend(at.field.clone().map(|field| ("field", field)));
    }
    (status::GRAFT_E_FORMAT, details)
}

/// The status of what a sandbox says, which the engine knows only as an error.
fn plugin(error: &(dyn std::error::Error + Send + Sync + 'static)) -> graft_status {
    #[cfg(feature = "plugins")]
    if let Some(error) = error.downcast_ref() {
        return of_plugin(error);
    }
    let _ = error;
    status::GRAFT_E_PLUGIN
}

#[cfg(feature = "plugins")]
impl From<graft_plugins::PluginError> for Fault {
    fn from(error: graft_plugins::PluginError) -> Self {
        let fault = Self::new(of_plugin(&error), error.to_string());
        match error {
            graft_plugins::PluginError::Read { path, .. } => fault.with_path(&path),
            _ => fault,
        }
    }
}

#[cfg(feature = "plugins")]
fn of_plugin(error: &graft_plugins::PluginError) -> graft_status {
    use graft_plugins::PluginError as E;
    match error {
        E::Cancelled { .. } => status::GRAFT_E_CANCELLED,
        E::Read { source, .. } => status::of_io(source),
        E::Unknown { .. } => status::GRAFT_E_NOT_FOUND,
        E::BadPin { .. } | E::BadKey { .. } => status::GRAFT_E_ARGUMENT,
        E::OtherPlugin { .. } => status::GRAFT_E_CORRUPT,
        E::Signature { .. } | E::ModelNotGranted { .. } => status::GRAFT_E_DENIED,
        E::TooLarge { .. } | E::Limit { .. } => status::GRAFT_E_PLUGIN_LIMIT,
        E::Version { .. } => status::GRAFT_E_VERSION,
        E::Invalid { .. } | E::CoreModule { .. } | E::Manifest { .. } => status::GRAFT_E_FORMAT,
        E::Wasi { .. } | E::Import { .. } | E::NoWorld { .. } | E::WrongWorld { .. } => {
            status::GRAFT_E_INCOMPATIBLE
        }
        _ => status::GRAFT_E_PLUGIN,
    }
}
