//! Evaluators: the trait a plugin implements, and how it becomes a component.

use crate::bindings::evaluator::exports::graft::plugin::evaluator as export;
use crate::{Diagnostic, Error, Sample, Severity};

pub use export::{Prediction, Score};

/// A rule of scoring.
pub trait Evaluator: Run + Sized + 'static {
    /// The measures it gives.
    const METRICS: &'static [Metric];
    /// JSON Schema (2020-12) of its options.
    const OPTIONS_SCHEMA: &'static str;

    /// Begins a run over one data set; all chance comes from `seed`.
    fn start(options: &str, seed: u64) -> Result<Self, Error>;
}

/// One pass over a data set.
pub trait Run {
    /// Scores one answer; the last assistant turn of `reference` is the answer hoped for.
    fn score(&mut self, reference: &Sample, predicted: &Prediction) -> Result<Vec<Score>, Error>;

    /// Scores of the whole data set; a metric left out becomes the weighted mean.
    fn finish(&mut self) -> Result<Vec<Score>, Error> {
        Ok(Vec::new())
    }

    /// What there was to remark about samples and answers since the last call.
    fn remarks(&mut self) -> Vec<Diagnostic> {
        Vec::new()
    }
}

/// A remark about how the answer to a sample was scored.
pub fn remark(sample: &Sample, code: &str, message: impl std::fmt::Display) -> Diagnostic {
    Diagnostic {
        severity: Severity::Note,
        code: code.to_owned(),
        message: format!("sample {:?}: {message}", sample.id),
        at: sample.origin.clone(),
    }
}

/// A measure.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Stable name: `accuracy`.
    pub name: &'static str,
    /// Unit for people; empty for a plain ratio.
    pub unit: &'static str,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// How the trait meets the component model; [`export_evaluator!`](crate::export_evaluator) uses it.
#[doc(hidden)]
pub mod component {
    use super::*;
    use crate::bindings::converter::graft::plugin::host::report;
    use std::cell::RefCell;

    pub struct Cell<R>(pub RefCell<R>);

    pub fn describe<E: Evaluator>() -> export::Description {
        let metric = |m: &Metric| export::Metric {
            name: m.name.to_owned(),
            unit: m.unit.to_owned(),
            higher_is_better: m.higher_is_better,
        };
        export::Description {
            metrics: E::METRICS.iter().map(metric).collect(),
            options_schema: E::OPTIONS_SCHEMA.to_owned(),
        }
    }

    impl<R: Run + 'static> export::GuestRun for Cell<R> {
        fn score(&self, reference: Sample, predicted: Prediction) -> Result<Vec<Score>, Error> {
            let mut run = self.0.borrow_mut();
            let scores = run.score(&reference, &predicted);
            pass_on(run.remarks())?;
            scores
        }
        fn finish(&self) -> Result<Vec<Score>, Error> {
            let mut run = self.0.borrow_mut();
            let scores = run.finish();
            pass_on(run.remarks())?;
            scores
        }
    }

    fn pass_on(remarks: Vec<Diagnostic>) -> Result<(), Error> {
        remarks.iter().try_for_each(report)
    }
}

/// Makes a type that implements [`Evaluator`] the evaluator of this component.
///
/// Compiled natively it expands to nothing.
#[macro_export]
macro_rules! export_evaluator {
    ($evaluator:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::evaluator::exports::graft::plugin::evaluator as export;

            struct Component;

            impl export::Guest for Component {
                type Run = $crate::evaluator_component::Cell<$evaluator>;

                fn describe() -> export::Description {
                    $crate::evaluator_component::describe::<$evaluator>()
                }
                fn start(options: String, seed: u64) -> Result<export::Run, export::Error> {
                    let run = <$evaluator as $crate::Evaluator>::start(&options, seed)?;
                    let cell = ::std::cell::RefCell::new(run);
                    Ok(export::Run::new($crate::evaluator_component::Cell(cell)))
                }
            }

            $crate::bindings::evaluator::export!(
                Component with_types_in $crate::bindings::evaluator
            );
        };
    };
}
