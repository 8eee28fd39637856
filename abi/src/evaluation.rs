//! Evaluations: every sample's last question is put to a model, and a plugin scores the answers.

use std::sync::Arc;

use graft::adapter::Attached;
use graft::evaluate::{
    AnswerOptions, Answerer, EvaluateOptions, EvaluateReport, Judge, Remarks, Scorer, run,
};
use graft::memory::PROGRAM_BYTES;
use graft::session::{Session, SessionOptions};

use crate::adapter::{bindings, graft_adapter_binding};
use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::callback::{Diagnostics, Progress, UserData, graft_diagnostic_fn, graft_progress_fn};
use crate::cancel::CancelToken;
use crate::dataset::DatasetObject;
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::Handle;
use crate::model::ModelObject;
use crate::plugin::PluginObject;
use crate::pointer::{In, Out, Text};
use crate::status::{GRAFT_E_UNSUPPORTED, graft_status};
use crate::structs::c_struct;

/// Most tokens of an answer where the request says none.
const USUAL_TOKENS: usize = 128;

c_struct! {
    /// An evaluation.
    graft_evaluation_request {
        /// Flags, of which there are none yet.
        flags: u32,
        /// Who is asked.
        model: Handle<ModelObject>,
        /// Its adapters.
        adapters: In<graft_adapter_binding>,
        /// Their number.
        n_adapters: usize,
        /// What is asked.
        dataset: Handle<DatasetObject>,
        /// Who scores.
        metric: Handle<PluginObject>,
        /// The metric's options, a JSON object; NULL for none.
        metric_options_json: Text,
        /// Of what the metric leaves to chance.
        seed: u64,
        /// Ask only this many samples, from the first on; 0 for all.
        limit: u64,
        /// Most tokens of an answer; 0 for 128.
        max_tokens: u32,
        /// Positions of the session that answers; 0 for the model's own number, at most 4096.
        n_context: u32,
        /// The conversation template by name; NULL for the model's.
        template_name: Text,
        /// Instructions in place of the template's own; NULL for those.
        system: Text,
        /// Who a judge asks; NULL for nobody.
        judge: Handle<ModelObject>,
        /// The adapters of that model.
        judge_adapters: In<graft_adapter_binding>,
        /// Their number.
        n_judge_adapters: usize,
        /// Where a line for every sample goes; NULL for nowhere.
        predictions_path: Text,
        /// Told samples that are done.
        on_progress: graft_progress_fn,
        /// Told what the metric remarks.
        on_diagnostic: graft_diagnostic_fn,
        /// First argument of both.
        userdata: UserData,
        /// Stops the work; NULL for nothing.
        cancel: CancelToken,
    }
}

impl graft_evaluation_request {
    fn evaluate(&self) -> Result<EvaluateReport, Fault> {
        if self.flags != 0 {
            let message = format!("flags is {:#x}; an evaluation knows none", self.flags);
            return Err(Fault::argument(message));
        }
        let (model, dataset, metric) = (self.model.get()?, self.dataset.get()?, self.metric.get()?);
        let adapters = bindings(&self.adapters, self.n_adapters)?;
        let data = dataset.data();
        let (cancel, evaluator) = (self.cancel.flag()?, metric.evaluator()?);
        if model.model().vision().is_none()
            && let Some(sample) = data.samples.iter().find(|s| !s.images.is_empty())
        {
            let message =
                "the data show images and the model sees none: open it with its projector";
            return Err(Fault::new(GRAFT_E_UNSUPPORTED, message).with("sample", &sample.id));
        }
        let remarks = Arc::new(Remarks::new(cancel.clone()));
        let options = self.metric_options_json.optional("metric_options_json")?;
        let told = Arc::clone(&remarks);
        let scorer = Scorer::start(evaluator, options.unwrap_or("{}"), self.seed, told)?;
        let asking = AnswerOptions {
            max_tokens: match self.max_tokens {
                0 => USUAL_TOKENS,
                tokens => tokens as usize,
            },
            context_length: self.n_context as usize,
            system: self.system.optional("system")?.map(Into::into),
            ..AnswerOptions::default()
        };
        let template = self.template_name.optional("template_name")?;
        let _memory = self.reserve(&model)?;
        let judge = self.judge.optional()?;
        let _judges = judge
            .as_deref()
            .map(|judge| self.reserve(judge))
            .transpose()?;
        let mut answerer = Answerer::new(
            model.model(),
            model.model().chat_template(template)?,
            data.images.clone(),
            asking,
        )?;
        answerer.set_adapters(attached(&adapters))?;
        if let Some(judge) = judge {
            let adapters = bindings(&self.judge_adapters, self.n_judge_adapters)?;
            let options = AnswerOptions {
                // The metric says how much it wants to hear.
                max_tokens: 0,
                context_length: self.n_context as usize,
                ..AnswerOptions::default()
            };
            let template = judge.model().chat_template(None)?;
            let mut asked = Answerer::new(judge.model(), template, data.images.clone(), options)?;
            asked.set_adapters(attached(&adapters))?;
            remarks.grant(Judge::new(asked));
        }
        let options = EvaluateOptions {
            evaluator: metric.name().to_owned(),
            limit: usize::try_from(self.limit).unwrap_or(usize::MAX),
            predictions: self
                .predictions_path
                .optional_path("predictions_path")?
                .map(Into::into),
            report: None,
        };
        let progress = Progress::new(self.on_progress, self.userdata);
        let report = run(
            &mut answerer,
            &data.samples,
            &options,
            scorer,
            &cancel,
            |done| {
                progress.tell(c"asking", done.done as u64, done.samples as u64, &cancel);
            },
        );
        let listener = Diagnostics::new(self.on_diagnostic, self.userdata);
        let heard = remarks.remarks();
        let _ = heard.iter().try_for_each(|remark| listener.tell(remark));
        Ok(report?)
    }

    /// Memory of a session that answers, for as long as it does.
    fn reserve(&self, model: &ModelObject) -> Result<graft::memory::Reservation, Fault> {
        let options = SessionOptions::with_context(self.n_context as usize);
        let bytes = Session::plan(model.model(), &options).anonymous_peak();
        let own = bytes.saturating_sub(PROGRAM_BYTES as u64);
        Ok(model.runtime().budget().reserve(own)?)
    }
}

fn attached(adapters: &[(Arc<crate::adapter::AdapterObject>, f32)]) -> Attached {
    Attached::new(adapters.iter().map(|(a, strength)| (a.shared(), *strength)))
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_evaluation_run(
    request: In<graft_evaluation_request>,
    report: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_evaluation_run", err, || {
        let request = request.required("request")?;
        report.check("report")?;
        let done = request.evaluate()?;
        let json = serde_json::to_value(&done).map_err(|e| Fault::internal(e.to_string()))?;
        report.give(buffer::json(&json))?;
        DONE
    })
}
