//! How a command fails: one sentence, and an exit status.

use std::io;
use std::process::ExitCode;

use graft::tokenizer::TokenizerError;
use graft::train::TrainError;

/// Why a command ended without doing its work.
#[derive(Debug)]
pub enum Failure {
    /// The work failed; the sentence says what, where and what to do.
    Work(String),
    /// The arguments cannot be meant.
    Usage(String),
    /// Ctrl-C; the sentence says where to go on, if there is anything to say.
    Interrupted(Option<String>),
    /// Whoever read our output has seen enough.
    ReaderGone,
}

impl Failure {
    /// The exit status of an interrupted command.
    pub const INTERRUPTED: u8 = 130;

    /// Says it on stderr and gives the exit status.
    pub fn report(self) -> ExitCode {
        let (sentence, status) = match self {
            Self::Work(sentence) => (Some(sentence), 1),
            Self::Usage(sentence) => (Some(sentence), 2),
            Self::Interrupted(sentence) => (
                Some(sentence.unwrap_or_else(|| "interrupted".into())),
                Self::INTERRUPTED,
            ),
            Self::ReaderGone => (None, 0),
        };
        if let Some(sentence) = sentence {
            eprintln!("graft: {sentence}");
        }
        ExitCode::from(status)
    }
}

/// Keeps the words of one panic from people: wgpu panics where a driver loses its device while it is waited for. That
/// is caught, and said as an error.
pub fn leave_out_lost_devices() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if !said.starts_with("Error in Device::poll") {
            usual(panic);
        }
    }));
}

impl From<graft::Error> for Failure {
    fn from(error: graft::Error) -> Self {
        match error {
            graft::Error::Cancelled => Self::Interrupted(None),
            graft::Error::Train(
                TrainError::NoVision { .. }
                | TrainError::NoProjector
                | TrainError::Option { .. }
                | TrainError::NoTargets { .. }
                | TrainError::Pattern { .. },
            )
            | graft::Error::Tokenizer(TokenizerError::TemplateName { .. }) => {
                Self::Usage(error.to_string())
            }
            error => Self::Work(error.to_string()),
        }
    }
}

impl From<graft_plugins::PluginError> for Failure {
    fn from(error: graft_plugins::PluginError) -> Self {
        Self::Work(error.to_string())
    }
}

/// Writing results to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Work(format!("cannot write the result: {error}")),
        }
    }
}
