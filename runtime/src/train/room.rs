//! Waiting for room on the disk: what cannot be written now is written when it can, and nothing is lost.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Time between two tries, unless somebody chooses.
pub const BETWEEN_TRIES: Duration = Duration::from_secs(3);
/// How long somebody who has asked for the end waits for it.
const LAST_WAIT: Duration = Duration::from_secs(60);
/// How often a raised flag is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Why there is no room, where more may come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lack {
    /// The disk is full.
    Space,
    /// The user's quota is used up.
    Quota,
    /// A file may not grow longer: a limit of the process, or of the file system.
    Length,
}

impl Lack {
    /// Whether a failure is one of room; others do not pass by waiting.
    pub fn of(error: &Error) -> Option<Self> {
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return match error.kind() {
                    ErrorKind::StorageFull => Some(Self::Space),
                    ErrorKind::QuotaExceeded => Some(Self::Quota),
                    ErrorKind::FileTooLarge => Some(Self::Length),
                    _ => None,
                };
            }
            cause = error.source();
        }
        None
    }
}

/// What somebody who waits for room hears.
#[derive(Clone, Copy, Debug)]
pub enum Room<'a> {
    /// There is none: a first try has failed, others follow.
    Lacking(&'a Error, Lack),
    /// What was tried is done.
    Found,
}

/// Calls `attempt` until it does not fail for want of room, with a pause `between` two tries that grows
/// with the time they take. `None` if `stop` begins to say so meanwhile; if it did before, after a
/// minute of trying.
///
/// `attempt` must leave nothing behind when it fails, and do what is left to do when it is called again.
///
/// # Errors
/// Those of `attempt` that are not about room.
pub fn when_there_is_room<T>(
    between: Duration,
    stop: impl Fn() -> bool,
    mut tell: impl FnMut(Room<'_>),
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<Option<T>> {
    let last_wait = stop().then_some(LAST_WAIT);
    let begun = Instant::now();
    let mut told = false;
    loop {
        let tried = Instant::now();
        match attempt() {
            Ok(done) => {
                if told {
                    tell(Room::Found);
                }
                return Ok(Some(done));
            }
            Err(error) => match Lack::of(&error) {
                Some(lack) if !told => tell(Room::Lacking(&error, lack)),
                Some(_) => {}
                None => return Err(error),
            },
        }
        told = true;
        // Large files that do not fit shall not keep the disk busy.
        let pause = between.max(2 * tried.elapsed());
        let paused = Instant::now();
        while paused.elapsed() < pause {
            let enough = match last_wait {
                Some(most) => begun.elapsed() > most,
                None => stop(),
            };
            if enough {
                return Ok(None);
            }
            std::thread::sleep(LOOK.min(pause));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::train::TrainError;

    fn failure(kind: ErrorKind) -> Error {
        TrainError::Io {
            action: "write",
            path: "here".into(),
            source: kind.into(),
        }
        .into()
    }

    #[test]
    fn only_want_of_room_is_waited_for_and_it_is_told_once() {
        let mut left = 3;
        let mut told = Vec::new();
        let done = when_there_is_room(
            Duration::from_millis(1),
            || false,
            |room| told.push(format!("{room:?}")),
            || match left {
                0 => Ok(7),
                _ => {
                    left -= 1;
                    Err(failure(ErrorKind::StorageFull))
                }
            },
        );
        assert_eq!(done.unwrap(), Some(7));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("Space") && told[1] == "Found", "{told:?}");
        let refused = when_there_is_room(
            Duration::from_secs(9),
            || false,
            |room| panic!("{room:?}"),
            || Err::<(), _>(failure(ErrorKind::PermissionDenied)),
        );
        assert!(refused.is_err());
    }

    #[test]
    fn a_raised_flag_ends_the_wait() {
        let cancel = Cancel::new();
        let ended = when_there_is_room(
            Duration::from_secs(3600),
            || cancel.is_raised(),
            |_| cancel.raise(),
            || Err::<(), _>(failure(ErrorKind::QuotaExceeded)),
        );
        assert_eq!(ended.unwrap(), None);
    }
}
