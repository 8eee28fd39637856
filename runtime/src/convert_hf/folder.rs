//! The files of a checkpoint folder other than weights: JSON and vocabularies, read with care.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ConvertHfError;

/// Most bytes of a file that is read whole; real vocabularies stay below a tenth of it.
const MOST_BYTES: u64 = 256 << 20;

/// A checkpoint folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, ConvertHfError> {
        let path = path.to_owned();
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Self { path }),
            Ok(_) => Err(ConvertHfError::NotAFolder { path }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(ConvertHfError::NoFolder { path })
            }
            Err(source) => Err(ConvertHfError::Io { path, source }),
        }
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.path.join(file).is_file()
    }

    /// The whole content of a file, or `None` where there is none.
    pub(super) fn bytes(&self, file: &str) -> Result<Option<Vec<u8>>, ConvertHfError> {
        let path = self.path.join(file);
        let found = match std::fs::metadata(&path) {
            Ok(found) => found,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ConvertHfError::Io { path, source }),
        };
        if !found.is_file() || found.len() > MOST_BYTES {
            let reason = format!("it is no file of at most {MOST_BYTES} bytes");
            return Err(ConvertHfError::File { path, reason });
        }
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(source) => Err(ConvertHfError::Io { path, source }),
        }
    }

    /// The text of a file, or `None` where there is none.
    pub(super) fn text(&self, file: &str) -> Result<Option<String>, ConvertHfError> {
        let Some(bytes) = self.bytes(file)? else {
            return Ok(None);
        };
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|e| self.broken(file, e.to_string()))
    }

    /// The JSON object in a file, or `None` where there is none.
    pub(super) fn json(&self, file: &'static str) -> Result<Option<Keys>, ConvertHfError> {
        let Some(bytes) = self.bytes(file)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(Some(Keys {
                path: self.path.join(file),
                under: String::new(),
                map,
            })),
            Ok(_) => Err(self.broken(file, "a JSON object is expected".into())),
            Err(e) => Err(self.broken(file, e.to_string())),
        }
    }

    pub(super) fn broken(&self, file: &str, reason: String) -> ConvertHfError {
        ConvertHfError::File {
            path: self.path.join(file),
            reason,
        }
    }
}

/// A JSON object; null counts as absent everywhere, as transformers reads it.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    path: PathBuf,
    under: String,
    map: Map<String, Value>,
}

/// Sizes above this belong to no model; products of two stay far from overflow.
const MOST: u64 = 1 << 24;

impl Keys {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// A nested object.
    pub(super) fn object(&self, key: &str) -> Result<Option<Self>, ConvertHfError> {
        self.typed(key, "an object", |v| {
            Some(Self {
                path: self.path.clone(),
                under: format!("{}{key}.", self.under),
                map: v.as_object()?.clone(),
            })
        })
    }

    /// A size: a whole number from 1 to 2^24.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, ConvertHfError> {
        self.typed(key, "a size from 1 to 16777216", |v| {
            let size = v.as_u64().filter(|n| (1..=MOST).contains(n))?;
            usize::try_from(size).ok()
        })
    }

    pub(super) fn integer(&self, key: &str) -> Result<Option<i64>, ConvertHfError> {
        self.typed(key, "a whole number", Value::as_i64)
    }

    /// A finite number.
    pub(super) fn float(&self, key: &str) -> Result<Option<f64>, ConvertHfError> {
        self.typed(key, "a finite number", |v| {
            v.as_f64().filter(|x| x.is_finite())
        })
    }

    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>, ConvertHfError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(super) fn str(&self, key: &str) -> Result<Option<String>, ConvertHfError> {
        self.typed(key, "a string", |v| v.as_str().map(str::to_owned))
    }

    pub(super) fn array(&self, key: &str) -> Result<Option<&[Value]>, ConvertHfError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(self.wrong(key, "a list", other)),
        }
    }

    /// Refuses a value of `key` other than the ones that change nothing.
    pub(super) fn only(&self, key: &str, allowed: &[Value]) -> Result<(), ConvertHfError> {
        match self.get(key) {
            Some(value) if !allowed.contains(value) => Err(self.unsupported(key, "")),
            _ => Ok(()),
        }
    }

    pub(super) fn unsupported(&self, key: &str, hint: &'static str) -> ConvertHfError {
        let value = self.get(key).map_or_else(|| "absent".into(), short);
        ConvertHfError::Unsupported {
            key: format!("{}{key}", self.under),
            value,
            hint,
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.map.iter()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConvertHfError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(self.wrong(key, expected, value)),
            },
        }
    }

    fn wrong(&self, key: &str, expected: &str, value: &Value) -> ConvertHfError {
        ConvertHfError::File {
            path: self.path.clone(),
            reason: format!(
                "{}{key} is {} instead of {expected}",
                self.under,
                short(value)
            ),
        }
    }
}

/// A value in a few words.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
