//! Metadata: typed values under string keys, in the order of the file.

use std::collections::HashMap;

use super::GgufError;

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are the format's own
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Values of one type; arrays may hold arrays.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are the format's own
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::String(v) => v.len(),
            Self::Array(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as integers, or `None` if they are of another kind.
    fn integers(&self) -> Option<Vec<i128>> {
        Some(match self {
            Self::U8(v) => v.iter().map(|&x| x.into()).collect(),
            Self::I8(v) => v.iter().map(|&x| x.into()).collect(),
            Self::U16(v) => v.iter().map(|&x| x.into()).collect(),
            Self::I16(v) => v.iter().map(|&x| x.into()).collect(),
            Self::U32(v) => v.iter().map(|&x| x.into()).collect(),
            Self::I32(v) => v.iter().map(|&x| x.into()).collect(),
            Self::U64(v) => v.iter().map(|&x| x.into()).collect(),
            Self::I64(v) => v.iter().map(|&x| x.into()).collect(),
            _ => return None,
        })
    }
}

impl Value {
    /// The value in a few words, for messages and listings: long arrays are shortened.
    pub fn summary(&self) -> String {
        fn items<T: std::fmt::Debug>(values: &[T]) -> String {
            const SHOWN: usize = 6;
            let shown: Vec<_> = values
                .iter()
                .take(SHOWN)
                .map(|v| format!("{v:?}"))
                .collect();
            let more = if values.len() > SHOWN { ", …" } else { "" };
            format!("[{}{more}] ({} entries)", shown.join(", "), values.len())
        }
        match self {
            Self::U8(v) => v.to_string(),
            Self::I8(v) => v.to_string(),
            Self::U16(v) => v.to_string(),
            Self::I16(v) => v.to_string(),
            Self::U32(v) => v.to_string(),
            Self::I32(v) => v.to_string(),
            Self::U64(v) => v.to_string(),
            Self::I64(v) => v.to_string(),
            Self::F32(v) => v.to_string(),
            Self::F64(v) => v.to_string(),
            Self::Bool(v) => v.to_string(),
            Self::String(v) => format!("{v:?}"),
            Self::Array(a) => match a {
                Array::U8(v) => items(v),
                Array::I8(v) => items(v),
                Array::U16(v) => items(v),
                Array::I16(v) => items(v),
                Array::U32(v) => items(v),
                Array::I32(v) => items(v),
                Array::U64(v) => items(v),
                Array::I64(v) => items(v),
                Array::F32(v) => items(v),
                Array::F64(v) => items(v),
                Array::Bool(v) => items(v),
                Array::String(v) => items(v),
                Array::Array(v) => format!("{} arrays", v.len()),
            },
        }
    }

    /// An integer of any width and sign.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }
}

/// The metadata of a file: keys are unique, order is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

macro_rules! typed {
    ($($(#[$doc:meta])* $opt:ident, $required:ident -> $type:ty, $expected:literal, $from:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// If the key holds something else. An absent key is `None`.
        #[allow(clippy::needless_lifetimes)] // needed where the value borrows from the metadata
        pub fn $opt<'a>(&'a self, key: &str) -> Result<Option<$type>, GgufError> {
            let from: fn(&'a Value) -> Option<$type> = $from;
            match self.get(key) {
                None => Ok(None),
                Some(value) => from(value).map(Some).ok_or_else(|| GgufError::KeyType {
                    key: key.to_owned(),
                    expected: $expected,
                    found: value.summary(),
                }),
            }
        }

        $(#[$doc])*
        ///
        /// # Errors
        /// If the key is absent or holds something else.
        #[allow(clippy::needless_lifetimes)] // needed where the value borrows from the metadata
        pub fn $required<'a>(&'a self, key: &str) -> Result<$type, GgufError> {
            self.$opt(key)?.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
        }
    )*};
}

impl Metadata {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    /// Entries in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets `key`, keeping its place if it exists; returns the value it had.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) -> Option<Value> {
        let key = key.into();
        if let Some(&i) = self.index.get(&key) {
            return Some(std::mem::replace(&mut self.entries[i].1, value));
        }
        self.index.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
        None
    }

    /// Removes `key`; returns the value it had.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.index.remove(key)?;
        let (_, value) = self.entries.remove(at);
        for i in self.index.values_mut() {
            *i -= usize::from(*i > at);
        }
        Some(value)
    }

    typed! {
        /// An integer of any width that fits 32 unsigned bits.
        opt_u32, u32 -> u32, "a non-negative 32-bit integer", |v| v.integer()?.try_into().ok();
        /// An integer of any width that fits 64 unsigned bits.
        opt_u64, u64 -> u64, "a non-negative integer", |v| v.integer()?.try_into().ok();
        /// An integer of any width that fits a `usize`.
        opt_usize, usize -> usize, "a non-negative integer", |v| v.integer()?.try_into().ok();
        /// A float of either width.
        opt_f32, f32 -> f32, "a float", |v| match *v {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        };
        /// A boolean.
        opt_bool, bool -> bool, "a boolean", |v| match *v {
            Value::Bool(x) => Some(x),
            _ => None,
        };
        /// A string.
        opt_str, str -> &'a str, "a string", |v| match v {
            Value::String(x) => Some(x),
            _ => None,
        };
        /// An array of strings.
        opt_str_array, str_array -> &'a [String], "an array of strings", |v| match v {
            Value::Array(Array::String(x)) => Some(x),
            _ => None,
        };
        /// An array of 32-bit floats.
        opt_f32_array, f32_array -> &'a [f32], "an array of floats", |v| match v {
            Value::Array(Array::F32(x)) => Some(x),
            _ => None,
        };
        /// An array of booleans.
        opt_bool_array, bool_array -> &'a [bool], "an array of booleans", |v| match v {
            Value::Array(Array::Bool(x)) => Some(x),
            _ => None,
        };
        /// An array of integers of any width whose elements fit 32 signed bits.
        opt_i32_array, i32_array -> Vec<i32>, "an array of 32-bit integers", |v| match v {
            Value::Array(a) => a.integers()?.into_iter().map(|x| x.try_into().ok()).collect(),
            _ => None,
        };
        /// An array of integers of any width whose elements fit 32 unsigned bits.
        opt_u32_array, u32_array -> Vec<u32>, "an array of non-negative 32-bit integers", |v| match v {
            Value::Array(a) => a.integers()?.into_iter().map(|x| x.try_into().ok()).collect(),
            _ => None,
        };
    }
}

impl<K: Into<String>> FromIterator<(K, Value)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(entries: I) -> Self {
        let mut metadata = Self::new();
        for (key, value) in entries {
            metadata.insert(key, value);
        }
        metadata
    }
}
