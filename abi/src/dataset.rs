//! Data sets: samples that trainers learn from.

use std::sync::Arc;

use graft::cancel::Cancel;
use graft::dataset::check::{Learner, check};
use graft::dataset::{DataSet, Severity, llava_json};
use graft::train::TrainOptions;

use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::callback::{Diagnostics, UserData, graft_diagnostic_fn};
use crate::cancel::CancelToken;
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::{Handle, shared_kind};
use crate::model::ModelObject;
use crate::pointer::{In, Out, Text};
use crate::status::{GRAFT_E_CANCELLED, GRAFT_E_NOT_FOUND, graft_status};
use crate::structs::c_struct;

/// The samples of a file.
#[derive(Debug)]
pub struct DatasetObject(Arc<DataSet>);

shared_kind!(
    DatasetObject,
    "dataset",
    graft_dataset_retain,
    graft_dataset_release
);

impl DatasetObject {
    /// The samples, and where their images are.
    pub fn data(&self) -> &Arc<DataSet> {
        &self.0
    }
}

c_struct! {
    /// What a data set is looked at for.
    graft_dataset_check_options {
        /// Most positions of a sample; 0 for what training takes.
        max_length: u32,
        /// Who is to learn; NULL looks at the samples alone.
        model: Handle<ModelObject>,
        /// Its conversation template by name; NULL for its own.
        template_name: Text,
        /// Stops it; NULL for nothing.
        cancel: CancelToken,
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_dataset_open(
    path: Text,
    image_folder: Text,
    out: Out<Handle<DatasetObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_dataset_open", err, || {
        out.check("out")?;
        let images = image_folder.optional_path("image_folder")?;
        let data = DataSet::open(path.path("path")?, images)?;
        out.give(DatasetObject(Arc::new(data)))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_dataset_count(
    dataset: Handle<DatasetObject>,
    out: Out<u64>,
) -> graft_status {
    call::status("graft_dataset_count", || {
        let dataset = dataset.get()?;
        out.check("out")?;
        out.set(dataset.data().samples.len() as u64);
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_dataset_sample(
    dataset: Handle<DatasetObject>,
    index: u64,
    out: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_dataset_sample", err, || {
        let dataset = dataset.get()?;
        let samples = &dataset.data().samples;
        let sample = usize::try_from(index).ok().and_then(|i| samples.get(i));
        let sample = sample.ok_or_else(|| {
            let message = format!("there is no sample {index}; there are {}", samples.len());
            Fault::new(GRAFT_E_NOT_FOUND, message)
        })?;
        out.give(buffer::json(&llava_json::record(sample).into()))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_dataset_check(
    dataset: Handle<DatasetObject>,
    options: In<graft_dataset_check_options>,
    function: graft_diagnostic_fn,
    userdata: UserData,
    n_errors: Out<u64>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_dataset_check", err, || {
        let (dataset, options) = (dataset.get()?, options.read()?);
        let cancel = options.cancel.flag()?;
        let model = options.model.optional()?;
        let name = options.template_name.optional("template_name")?;
        let template = match &model {
            Some(model) => Some(model.model().chat_template(name)?),
            None => None,
        };
        let learner = model.as_ref().zip(template.as_ref());
        let learner = learner.map(|(model, template)| Learner {
            model: model.model(),
            template,
            max_len: match options.max_length {
                0 => TrainOptions::default().max_len,
                most => most as usize,
            },
        });
        let told = Diagnostics::new(function, userdata);
        let errors = told_all(dataset.data(), learner.as_ref(), &cancel, &told)?;
        n_errors.set(errors);
        DONE
    })
}

/// How many errors there are, all of which were told.
fn told_all(
    data: &DataSet,
    learner: Option<&Learner<'_>>,
    cancel: &Cancel,
    told: &Diagnostics,
) -> Result<u64, Fault> {
    let (mut errors, mut stopped) = (0, false);
    check(data, learner, cancel, &mut |diagnostic| {
        errors += u64::from(diagnostic.severity == Severity::Error);
        let answer = told.tell(&diagnostic);
        stopped = answer.is_break();
        answer
    })?;
    match stopped {
        true => Err(Fault::new(GRAFT_E_CANCELLED, "interrupted")),
        false => Ok(errors),
    }
}
