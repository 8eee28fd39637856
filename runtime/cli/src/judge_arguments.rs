//! Which model a metric may ask, if any.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use graft::adapter::Attached;
use graft::dataset::ImageFolder;
use graft::evaluate::{AnswerOptions, Answerer, Judge};
use graft::model::ModelOptions;
use graft_plugins::{Grants, PluginError, PluginInfo, World};

use crate::failure::Failure;
use crate::model_arguments::{
    AdapterArgument, Opened, adapter_argument, check_context, open_model,
};

/// Arguments of commands whose metric may ask a model.
#[derive(Args)]
#[command(next_help_heading = "Judging")]
pub struct JudgeArguments {
    /// Let the metric ask the model under test, without its adapters
    #[arg(long, value_enum, value_name = "WHO")]
    judge: Option<WhoJudges>,
    /// Let the metric ask this model instead, a GGUF file
    #[arg(long, value_name = "FILE", conflicts_with = "judge")]
    judge_model: Option<PathBuf>,
    /// The vision half of --judge-model, for judges that see
    #[arg(long, value_name = "FILE")]
    judge_mmproj: Option<PathBuf>,
    /// An adapter of the judge and how strongly it counts [default: 1]; may be repeated
    #[arg(long = "judge-adapter", value_name = "FILE[:SCALE]", value_parser = adapter_argument)]
    judge_adapters: Vec<AdapterArgument>,
    /// Conversation template of --judge-model [default: the model's]
    #[arg(long, value_name = "NAME")]
    judge_template: Option<String>,
}

/// The models that have a name of their own here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WhoJudges {
    /// The model under test.
    #[value(name = "self")]
    Itself,
}

/// What the judge shares with the model under test.
pub struct Shared<'a> {
    pub opened: &'a Opened,
    /// Name of its template, if the user gave one.
    pub template: Option<&'a str>,
    pub images: ImageFolder,
    /// Positions of its context; 0 for the model's own.
    pub context: usize,
    pub threads: usize,
}

impl JudgeArguments {
    /// What the metric is granted.
    pub fn grants(&self) -> Grants {
        Grants {
            model: self.is_given(),
        }
    }

    fn is_given(&self) -> bool {
        self.judge.is_some() || self.judge_model.is_some()
    }

    /// A failure to load the metric `name`, in the words of the command line.
    pub fn refusal(&self, name: &Path, error: PluginError) -> Failure {
        match error {
            PluginError::ModelNotGranted { .. } => Failure::Usage(format!(
                "the metric {} asks a model: grant it one with --judge self or --judge-model FILE",
                name.display()
            )),
            other => other.into(),
        }
    }

    /// Refuses a judge that nobody asks, and what is said of a judge that there is not.
    pub fn check(&self, metric: &PluginInfo) -> Result<(), Failure> {
        let reason = if self.is_given() && metric.world != World::JudgePlugin {
            format!(
                "the metric {} asks no model: leave --judge and --judge-model out",
                metric.name
            )
        } else if !self.is_given() && !self.judge_adapters.is_empty() {
            "--judge-adapter needs --judge self or --judge-model FILE".into()
        } else if self.judge_model.is_none() && self.judge_mmproj.is_some() {
            "--judge-mmproj needs --judge-model FILE; --judge self sees with --mmproj".into()
        } else if self.judge_model.is_none() && self.judge_template.is_some() {
            "--judge-template needs --judge-model FILE; --judge self takes --template".into()
        } else {
            return Ok(());
        };
        Err(Failure::Usage(reason))
    }

    /// The judge, if one is granted.
    pub fn open(&self, shared: Shared<'_>) -> Result<Option<Judge>, Failure> {
        if !self.is_given() {
            return Ok(None);
        }
        let (model, template) = match &self.judge_model {
            None => (Arc::clone(&shared.opened.model), shared.template),
            Some(path) => {
                let options = ModelOptions {
                    mmproj: self.judge_mmproj.clone(),
                    threads: shared.threads,
                    ..ModelOptions::default()
                };
                (open_model(path, &options)?, self.judge_template.as_deref())
            }
        };
        check_context(&model, shared.context)?;
        let adapters = self.judge_adapters.iter();
        let adapters = adapters.map(|adapter| Ok((adapter.open(&model)?, adapter.scale)));
        let adapters = adapters.collect::<Result<Vec<_>, Failure>>()?;
        let options = AnswerOptions {
            // The metric says how much it wants to hear.
            max_tokens: 0,
            context_length: shared.context,
            ..AnswerOptions::default()
        };
        let template = model.chat_template(template)?;
        let mut answerer = Answerer::new(&model, template, shared.images, options)?;
        answerer.set_adapters(Attached::new(adapters))?;
        Ok(Some(Judge::new(answerer)))
    }
}
