//! A plugin of the worlds `evaluator-plugin` and `judge-plugin` as an [`Evaluator`].

use std::sync::Arc;

use graft::cancel::Cancel;
use graft::dataset::{ImageRef, Sample};
use graft::evaluate::{
    EvaluateError, EvaluateHost, Evaluator, EvaluatorDescription, EvaluatorRun, Metric, Prediction,
    Score,
};
use wasmtime::component::ResourceAny;
use wasmtime::{Engine, Store};

use crate::bindings::judge::exports::graft::plugin::evaluator as export;
use crate::bindings::judge::{JudgePlugin, JudgePluginPre};
use crate::bindings::types;
use crate::caller::EvaluateCaller;
use crate::error::PluginError;
use crate::guest::CallerLine;
use crate::host::{check_options, explain, fuel_up, store};
use crate::imports::State;
use crate::inspect::PluginInfo;
use crate::limits::Limits;
use crate::translate::{self, readable};

/// An evaluator in a sandbox. Each run has its own, for all its samples.
pub struct WasmEvaluator {
    pub(crate) info: PluginInfo,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) plugin: JudgePluginPre<State>,
}

/// A sandbox, and the limits of a call into it.
struct Sandbox {
    name: String,
    fuel: u64,
    store: Store<State>,
    line: CallerLine,
    host: Arc<dyn EvaluateHost>,
    /// A plugin that was stopped is never entered again.
    stopped: bool,
}

/// A started run of a plugin.
struct WasmRun {
    sandbox: Sandbox,
    instance: JudgePlugin,
    run: ResourceAny,
}

impl WasmEvaluator {
    /// What it is.
    pub fn info(&self) -> &PluginInfo {
        &self.info
    }

    /// A fresh sandbox with an instance of the plugin.
    fn enter(&self, host: Arc<dyn EvaluateHost>) -> Result<(Sandbox, JudgePlugin), EvaluateError> {
        let line = CallerLine::default();
        let state = State::new(self.limits.clone(), host.cancel(), line.clone());
        let mut sandbox = Sandbox {
            name: self.info.name.clone(),
            fuel: self.limits.fuel,
            store: store(&self.engine, state),
            line,
            host,
            stopped: false,
        };
        let instance = sandbox.call(&[], async |store| {
            self.plugin.instantiate_async(store).await
        })?;
        Ok((sandbox, instance))
    }
}

impl Sandbox {
    /// Does `work`; `images` are those that a model may be shown meanwhile.
    fn call<R>(
        &mut self,
        images: &[ImageRef],
        work: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, EvaluateError> {
        if self.stopped {
            let plugin = self.name.clone();
            return Err(failed(PluginError::Stopped { plugin }));
        }
        let mut caller = EvaluateCaller {
            host: &*self.host,
            images,
        };
        let clock = self.store.data().clock.clone();
        clock.start();
        let store = &mut self.store;
        let result = self.line.serve(&mut caller, &clock, async {
            fuel_up(store, self.fuel)?;
            work(store).await
        });
        self.stopped = result.is_err();
        result.map_err(|error| {
            let state = self.store.data();
            failed(explain(&self.name, error, state, self.fuel))
        })
    }
}

impl Evaluator for WasmEvaluator {
    fn describe(&self) -> Result<EvaluatorDescription, EvaluateError> {
        let (mut sandbox, instance) = self.enter(Arc::new(Nobody))?;
        let described = sandbox.call(&[], async |store| {
            instance.graft_plugin_evaluator().call_describe(store).await
        })?;
        let metric = |metric: export::Metric| Metric {
            name: metric.name,
            unit: metric.unit,
            higher_is_better: metric.higher_is_better,
        };
        Ok(EvaluatorDescription {
            metrics: described.metrics.into_iter().map(metric).collect(),
            options_schema: described.options_schema,
        })
    }

    fn start(
        &self,
        options: &str,
        seed: u64,
        host: Arc<dyn EvaluateHost>,
    ) -> Result<Box<dyn EvaluatorRun>, EvaluateError> {
        check_options(options).map_err(EvaluateError::InvalidOptions)?;
        let (mut sandbox, instance) = self.enter(host)?;
        let run = sandbox.call(&[], async |store| {
            let evaluator = instance.graft_plugin_evaluator();
            evaluator.call_start(store, options, seed).await
        })?;
        let run = run.map_err(|error| told(error, &sandbox.host.cancel()))?;
        Ok(Box::new(WasmRun {
            sandbox,
            instance,
            run,
        }))
    }
}

impl WasmRun {
    fn scores(
        &mut self,
        images: &[ImageRef],
        work: impl AsyncFnOnce(
            &JudgePlugin,
            &mut Store<State>,
            ResourceAny,
        ) -> wasmtime::Result<Result<Vec<export::Score>, types::Error>>,
    ) -> Result<Vec<Score>, EvaluateError> {
        let scores = self.sandbox.call(images, async |store| {
            work(&self.instance, store, self.run).await
        })?;
        let scores = scores.map_err(|error| told(error, &self.sandbox.host.cancel()))?;
        let score = |score: export::Score| Score {
            metric: score.metric,
            value: score.value,
            weight: score.weight,
        };
        Ok(scores.into_iter().map(score).collect())
    }
}

impl EvaluatorRun for WasmRun {
    fn score(
        &mut self,
        reference: &Sample,
        predicted: &Prediction,
    ) -> Result<Vec<Score>, EvaluateError> {
        let sample = translate::to_sample(reference);
        let predicted = export::Prediction {
            text: predicted.text.clone(),
            finish_reason: predicted.finish_reason.clone(),
            millis: u64::try_from(predicted.duration.as_millis()).unwrap_or(u64::MAX),
            extra: translate::to_extra(&predicted.extra),
        };
        self.scores(&reference.images, async |plugin, store, run| {
            let run_of = plugin.graft_plugin_evaluator().run();
            run_of.call_score(store, run, &sample, &predicted).await
        })
    }

    fn finish(&mut self) -> Result<Vec<Score>, EvaluateError> {
        self.scores(&[], async |plugin, store, run| {
            let run_of = plugin.graft_plugin_evaluator().run();
            run_of.call_finish(store, run).await
        })
    }
}

/// Nobody to talk to: for asking a plugin about itself.
struct Nobody;

impl EvaluateHost for Nobody {
    fn cancel(&self) -> Cancel {
        Cancel::new()
    }
    fn report(&self, _: graft::dataset::Diagnostic) {}
    fn log(&self, _: graft::dataset::converter::LogLevel, _: &str) {}
}

fn failed(error: PluginError) -> EvaluateError {
    match error {
        PluginError::Cancelled { .. } => EvaluateError::Cancelled,
        other => EvaluateError::Plugin(Box::new(other)),
    }
}

/// An error that the plugin itself returned.
fn told(error: types::Error, cancel: &Cancel) -> EvaluateError {
    match error {
        types::Error::Cancelled if cancel.is_raised() => EvaluateError::Cancelled,
        types::Error::Cancelled => {
            EvaluateError::Internal("it stopped although nobody asked it to".into())
        }
        types::Error::LimitExceeded(reason) => EvaluateError::LimitExceeded(readable(&reason)),
        types::Error::InvalidInput(diagnostic) => {
            EvaluateError::InvalidInput(Box::new(translate::diagnostic(diagnostic)))
        }
        types::Error::InvalidOptions(reason) => EvaluateError::InvalidOptions(readable(&reason)),
        types::Error::Denied(reason) => EvaluateError::Denied(readable(&reason)),
        types::Error::Unsupported(reason) => EvaluateError::Unsupported(readable(&reason)),
        types::Error::Io(reason)
        | types::Error::NotFound(reason)
        | types::Error::Internal(reason) => EvaluateError::Internal(readable(&reason)),
    }
}
