//! Between the values of the interface and those of the runtime.

use std::path::PathBuf;

use graft::dataset::assets::{ImageHeader, check_name};
use graft::dataset::converter::LogLevel;
use graft::dataset::{
    ConvertError, Diagnostic, ImageRef, Location, Part, Role, Sample, Severity, Turn,
};
use serde_json::{Map, Value};

use crate::bindings::{dataset, host, input, types};

/// A sample of a plugin; `Err` says what is wrong with it.
pub fn sample(from: dataset::Sample) -> Result<Sample, String> {
    let id = from.id;
    let turns: Vec<Turn> = from.turns.into_iter().map(turn).collect();
    let shown = turns.iter().flat_map(|turn| &turn.content);
    for part in shown {
        if let Part::Image(index) = part
            && *index >= from.images.len()
        {
            let images = from.images.len();
            return Err(format!(
                "sample {id:?} shows image {index} but has {images} images"
            ));
        }
    }
    let images = from.images.into_iter().map(image).collect::<Result<_, _>>();
    Ok(Sample {
        images: images.map_err(|reason| format!("sample {id:?}: {reason}"))?,
        turns,
        origin: from.origin.map(location),
        extra: extra(from.extra).map_err(|reason| format!("sample {id:?}: {reason}"))?,
        id,
    })
}

/// A sample for a plugin.
pub fn to_sample(from: &Sample) -> dataset::Sample {
    let image = |image: &ImageRef| match image {
        ImageRef::Path(path) => dataset::ImageRef::Asset(path.to_string_lossy().into_owned()),
        ImageRef::Bytes(bytes) => dataset::ImageRef::Encoded(bytes.clone()),
    };
    dataset::Sample {
        id: from.id.clone(),
        images: from.images.iter().map(image).collect(),
        turns: from.turns.iter().map(to_turn).collect(),
        origin: from.origin.as_ref().map(to_location),
        extra: to_extra(&from.extra),
    }
}

pub fn turn(from: dataset::Turn) -> Turn {
    let role = match from.role {
        dataset::Role::System => Role::System,
        dataset::Role::User => Role::User,
        dataset::Role::Assistant => Role::Assistant,
    };
    let part = |part| match part {
        dataset::Part::Text(text) => Part::Text(text),
        dataset::Part::Image(index) => Part::Image(index as usize),
    };
    let content = from.content.into_iter().map(part).collect();
    Turn { role, content }
}

fn to_turn(from: &Turn) -> dataset::Turn {
    let role = match from.role {
        Role::System => dataset::Role::System,
        Role::User => dataset::Role::User,
        Role::Assistant => dataset::Role::Assistant,
    };
    let part = |part: &Part| match part {
        Part::Text(text) => dataset::Part::Text(text.clone()),
        // An index beyond u32 cannot name an image that exists.
        Part::Image(index) => dataset::Part::Image(u32::try_from(*index).unwrap_or(u32::MAX)),
    };
    let content = from.content.iter().map(part).collect();
    dataset::Turn { role, content }
}

pub fn image(from: dataset::ImageRef) -> Result<ImageRef, String> {
    match from {
        dataset::ImageRef::Asset(name) => match check_name(&name) {
            Ok(()) => Ok(ImageRef::Path(PathBuf::from(name))),
            Err(error) => Err(error.to_string()),
        },
        dataset::ImageRef::AssetPage((name, page)) => Err(format!(
            "page {page} of {name:?}: pages of documents are not supported yet; export them as images"
        )),
        dataset::ImageRef::Encoded(bytes) => Ok(ImageRef::Bytes(bytes)),
    }
}

fn extra(from: types::Attributes) -> Result<Map<String, Value>, String> {
    let value = |name: &str, value| -> Result<Value, String> {
        Ok(match value {
            types::Value::Null => Value::Null,
            types::Value::Boolean(flag) => flag.into(),
            types::Value::Integer(integer) => integer.into(),
            types::Value::Number(number) => number.into(),
            types::Value::Text(text) => text.into(),
            types::Value::Json(json) => serde_json::from_str(&json)
                .map_err(|error| format!("its extra value {name:?} is not JSON: {error}"))?,
        })
    };
    let pairs = from.into_iter();
    pairs
        .map(|(name, attribute)| Ok((name.clone(), value(&name, attribute)?)))
        .collect()
}

pub fn to_extra(from: &Map<String, Value>) -> types::Attributes {
    let value = |value: &Value| match value {
        Value::Null => types::Value::Null,
        Value::Bool(flag) => types::Value::Boolean(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => types::Value::Integer(integer),
            (None, Some(number)) => types::Value::Number(number),
            (None, None) => types::Value::Json(number.to_string()),
        },
        Value::String(text) => types::Value::Text(text.clone()),
        nested @ (Value::Array(_) | Value::Object(_)) => types::Value::Json(nested.to_string()),
    };
    from.iter().map(|(k, v)| (k.clone(), value(v))).collect()
}

pub fn diagnostic(from: types::Diagnostic) -> Diagnostic {
    Diagnostic {
        severity: match from.severity {
            types::Severity::Note => Severity::Note,
            types::Severity::Warning => Severity::Warning,
            types::Severity::Error => Severity::Error,
        },
        code: readable(&from.code),
        message: readable(&from.message),
        at: from.at.map(location),
    }
}

/// What a plugin says to people: no longer than they read, and without characters that steer a
/// terminal.
pub fn readable(text: &str) -> String {
    const LONGEST: usize = 2000;
    let mut characters = text.chars();
    let plain = |c: char| {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            '\u{fffd}'
        } else {
            c
        }
    };
    let mut out: String = characters.by_ref().take(LONGEST).map(plain).collect();
    if characters.next().is_some() {
        out.push('…');
    }
    out
}

fn location(from: types::Location) -> Location {
    Location {
        source: readable(&from.source),
        byte_offset: from.byte_offset,
        line: from.line,
        column: from.column,
        record_index: from.record_index,
        field: from.field.as_deref().map(readable),
    }
}

fn to_location(from: &Location) -> types::Location {
    types::Location {
        source: from.source.clone(),
        byte_offset: from.byte_offset,
        line: from.line,
        column: from.column,
        record_index: from.record_index,
        field: from.field.clone(),
    }
}

pub fn log_level(from: host::Level) -> LogLevel {
    match from {
        host::Level::Trace => LogLevel::Trace,
        host::Level::Debug => LogLevel::Debug,
        host::Level::Info => LogLevel::Info,
        host::Level::Warn => LogLevel::Warn,
        host::Level::Error => LogLevel::Error,
    }
}

pub fn to_image_info(from: ImageHeader) -> input::ImageInfo {
    input::ImageInfo {
        width: from.width,
        height: from.height,
        format: match from.format.as_str() {
            "png" => input::ImageFormat::Png,
            "jpeg" => input::ImageFormat::Jpeg,
            "webp" => input::ImageFormat::Webp,
            "gif" => input::ImageFormat::Gif,
            "bmp" => input::ImageFormat::Bmp,
            "tiff" => input::ImageFormat::Tiff,
            _ => input::ImageFormat::Other,
        },
        size: from.bytes,
    }
}

/// What a plugin is told of an error that it may handle.
pub fn to_error(from: ConvertError) -> types::Error {
    match from {
        ConvertError::Cancelled => types::Error::Cancelled,
        ConvertError::NotFound(name) => types::Error::NotFound(name),
        ConvertError::Denied(reason) => types::Error::Denied(reason),
        ConvertError::Unsupported(reason) => types::Error::Unsupported(reason),
        other => types::Error::Io(other.to_string()),
    }
}
