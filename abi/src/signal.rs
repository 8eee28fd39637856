//! A descriptor that is readable while something waits, for programs that sleep in `poll`.

use std::io::{PipeReader, PipeWriter, Read, Write};

use crate::fault::Fault;

/// A pipe with one byte in it, or none.
pub struct Signal {
    read: PipeReader,
    write: PipeWriter,
    raised: bool,
}

impl Signal {
    /// One that is not raised.
    ///
    /// # Errors
    /// If the system has no pipes, or none left.
    #[cfg(unix)]
    pub fn new() -> Result<Self, Fault> {
        let failed = |e: std::io::Error| {
            let message = format!("cannot make a descriptor for events: {e}");
            Fault::new(crate::status::of_io(&e), message)
        };
        let (read, write) = std::io::pipe().map_err(failed)?;
        // Should the program read what is ours to read, nobody waits for it.
        rustix::io::ioctl_fionbio(&read, true).map_err(|e| failed(e.into()))?;
        Ok(Self {
            read,
            write,
            raised: false,
        })
    }

    /// As above.
    #[cfg(not(unix))]
    pub fn new() -> Result<Self, Fault> {
        let message = "this system has no descriptors to wait for; use graft_job_next_event";
        Err(Fault::new(crate::status::GRAFT_E_UNSUPPORTED, message))
    }

    /// The end that becomes readable; it closes with this value.
    #[cfg(unix)]
    pub fn fd(&self) -> isize {
        use std::os::fd::AsRawFd;
        self.read.as_raw_fd() as isize
    }

    /// As above.
    #[cfg(not(unix))]
    pub fn fd(&self) -> isize {
        -1
    }

    /// Makes it readable, or not. There is never more than one byte in the pipe, so writing does not wait.
    pub fn set(&mut self, raised: bool) {
        if raised == self.raised {
            return;
        }
        // What fails here is a pipe that its program has emptied or closed.
        let _ = match raised {
            true => self.write.write_all(&[0]),
            false => self.read.read_exact(&mut [0]),
        };
        self.raised = raised;
    }
}
