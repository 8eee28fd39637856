//! A failure on its way to the caller: a status, a sentence, and what it is about.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::status::{self, graft_status};

/// Why a call failed.
#[derive(Clone, Debug)]
pub struct Fault {
    status: graft_status,
    message: String,
    details: Vec<(&'static str, String)>,
}

impl Fault {
    /// A failure with a sentence for people.
    pub fn new(status: graft_status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// An argument that cannot be meant.
    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(status::GRAFT_E_ARGUMENT, message)
    }

    /// A bug of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(status::GRAFT_E_INTERNAL, message)
    }

    /// Adds what it is about; keys are those of `graft_error_detail` in graft.h.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.details.push((key, value.to_string()));
        self
    }

    /// The same for the file that it is about.
    #[must_use]
    pub fn with_path(self, path: &Path) -> Self {
        self.with("path", path.display())
    }

    /// The status.
    pub fn status(&self) -> graft_status {
        self.status
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What it is about, by key.
    pub fn details(&self) -> &[(&'static str, String)] {
        &self.details
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        let details = self
            .details
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::from(value.as_str())));
        json!({
            "status": self.status,
            "name": status::name(self.status),
            "message": self.message,
            "details": details.collect::<Map<_, _>>(),
        })
    }
}
