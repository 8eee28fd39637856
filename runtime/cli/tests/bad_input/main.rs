//! Bad input at the command line: for every command the right exit status, one clear sentence that
//! names the file, and nothing left half-written.

mod arguments;
mod datasets;
mod disk;
mod images;
mod interrupts;
mod models;
mod outputs;
mod plugins;
mod workplace;
