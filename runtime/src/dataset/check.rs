//! What a run would find out in the middle of a data set, before it begins: every sample and every image is looked at.

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;

use super::prompt::{self, PromptWarning};
use super::{DataSet, Diagnostic, ImageRef, Location, Sample, Severity};
use crate::Result;
use crate::cancel::Cancel;
use crate::model::Model;
use crate::model::llava::{self, Sequence};
use crate::tokenizer::{ChatTemplate, Prompt, Tokenizer};

/// Who is to learn from the samples.
#[derive(Clone, Copy, Debug)]
pub struct Learner<'a> {
    /// The base model.
    pub model: &'a Model,
    /// Turns conversations into text.
    pub template: &'a ChatTemplate,
    /// Most positions of a sample.
    pub max_len: usize,
}

/// What of a sample will not be learned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lost {
    /// All of it: LLaVA's rule for labels cannot tell its rounds apart.
    RoleName,
    /// All of it: no answer begins within so many positions.
    NoAnswer {
        /// Most positions of a sample.
        max_len: usize,
    },
    /// Its end.
    Cut {
        /// Its positions.
        full: usize,
        /// Most positions of a sample.
        max_len: usize,
    },
}

impl Lost {
    /// What of a sample will not be learned, from its prompt and the sequence of `patches` positions per image that
    /// the model gets of it.
    pub fn of(
        prompt: &Prompt,
        warning: Option<PromptWarning>,
        sequence: &Sequence,
        patches: usize,
        max_len: usize,
    ) -> Option<Self> {
        let full = prompt.ids.len() + prompt.images() * patches.saturating_sub(1);
        if warning.is_some() {
            Some(Self::RoleName)
        } else if sequence.targets().next().is_none() {
            Some(Self::NoAnswer { max_len })
        } else {
            (sequence.len() < full).then_some(Self::Cut { full, max_len })
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::RoleName => "role-name",
            Self::NoAnswer { .. } => "no-answer",
            Self::Cut { .. } => "cut",
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoleName => write!(f, "a text holds a role's name, so nothing of it is learned"),
            Self::NoAnswer { max_len } => write!(
                f,
                "no answer within {max_len} tokens, so nothing of it is learned"
            ),
            Self::Cut { full, max_len } => {
                write!(f, "cut from {full} to {max_len} tokens (--max-len)")
            }
        }
    }
}

/// Looks at every sample and decodes every image, and tells `report` what is wrong; it goes on until `report` breaks
/// off. Without a `learner`, conversations are looked at as far as the format goes.
///
/// # Errors
/// If the model has no vocabulary, or `cancel` is raised.
pub fn check(
    data: &DataSet,
    learner: Option<&Learner<'_>>,
    cancel: &Cancel,
    report: &mut dyn FnMut(Diagnostic) -> ControlFlow<()>,
) -> Result<()> {
    let tokenizer = learner.map(|l| l.model.tokenizer()).transpose()?;
    let learner = learner.zip(tokenizer);
    let (mut ids, mut images) = (HashSet::new(), HashSet::new());
    for sample in &data.samples {
        cancel.check()?;
        let mut remarks = Remarks {
            sample,
            found: Vec::new(),
        };
        if !ids.insert(sample.id.as_str()) {
            let message = "another sample has the same id";
            remarks.add(Severity::Warning, "duplicate-id", message);
        }
        for image in &sample.images {
            let new = match image {
                ImageRef::Path(path) => images.insert(path.as_path()),
                ImageRef::Bytes(_) => true,
            };
            if new {
                remarks.image(data, image);
            }
        }
        if let Some((learner, tokenizer)) = learner {
            remarks.conversation(learner, tokenizer);
        }
        for remark in remarks.found {
            if report(remark).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What is wrong with a sample.
struct Remarks<'a> {
    sample: &'a Sample,
    found: Vec<Diagnostic>,
}

impl Remarks<'_> {
    fn add(&mut self, severity: Severity, code: &str, message: impl fmt::Display) {
        self.found.push(Diagnostic {
            severity,
            code: code.to_owned(),
            message: format!("sample {}: {message}", self.sample.id),
            at: self.sample.origin.clone(),
        });
    }

    fn image(&mut self, data: &DataSet, image: &ImageRef) {
        let read = data.images.read(image, &self.sample.id);
        let (code, error) = match read.map(|file| file.decode()) {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => ("image-unusable", error),
            Err(error) => ("image-missing", error),
        };
        self.found.push(Diagnostic {
            severity: Severity::Error,
            code: code.to_owned(),
            // It names the sample itself.
            message: error.to_string(),
            at: self.place("/image"),
        });
    }

    fn place(&self, field: &str) -> Option<Location> {
        let at = self.sample.origin.clone();
        at.map(|at| Location {
            field: Some(field.to_owned()),
            ..at
        })
    }

    fn conversation(&mut self, learner: &Learner<'_>, tokenizer: &Tokenizer) {
        let vision = learner.model.vision();
        if vision.is_none() && !self.sample.images.is_empty() {
            let message = "it has an image, and the model has no vision part";
            self.add(Severity::Error, "no-vision", message);
        }
        let (prompt, warning) = match prompt::training(self.sample, learner.template, tokenizer) {
            Ok(made) => made,
            Err(error) => return self.add(Severity::Error, "conversation", error),
        };
        let (shown, listed) = (prompt.images(), self.sample.images.len());
        if shown != listed {
            let message = format!("it lists {listed} images and shows {shown}");
            self.add(Severity::Error, "image-count", message);
        }
        let patches = vision.map_or(0, |v| v.tower().shape().patches());
        let sequence = llava::splice(&prompt.ids, &prompt.labels, patches, learner.max_len);
        if let Some(lost) = Lost::of(&prompt, warning, &sequence, patches, learner.max_len) {
            self.add(Severity::Warning, lost.code(), lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Role, Turn};
    use super::*;

    fn sample(id: &str, image: &str) -> Sample {
        Sample {
            id: id.into(),
            images: vec![ImageRef::Path(image.into())],
            turns: vec![Turn::text(Role::Assistant, "a bus")],
            ..Sample::default()
        }
    }

    #[test]
    fn images_that_are_not_there_or_are_none_are_reported_once_each() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text.png"), "no pixels").unwrap();
        let data = DataSet {
            path: "d.json".into(),
            samples: vec![
                sample("1", "gone.png"),
                sample("2", "text.png"),
                sample("2", "gone.png"),
            ],
            images: super::super::ImageFolder::new(folder.path()),
        };
        let codes = |most: usize| {
            let mut codes = Vec::new();
            let mut report = |remark: Diagnostic| {
                codes.push(remark.code);
                match codes.len() < most {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            };
            check(&data, None, &Cancel::new(), &mut report).unwrap();
            codes
        };
        assert_eq!(
            codes(9),
            ["image-missing", "image-unusable", "duplicate-id"]
        );
        assert_eq!(codes(1), ["image-missing"]);
        let cancel = Cancel::new();
        cancel.raise();
        assert!(check(&data, None, &cancel, &mut |_| ControlFlow::Continue(())).is_err());
    }
}
