//! Text that a user names: a file, or stdin.

use std::io::Read;
use std::path::Path;

use crate::failure::Failure;

/// The whole text of a file; `-` is stdin.
pub fn read(path: &Path) -> Result<String, Failure> {
    let failed = |reason: &dyn std::fmt::Display| {
        Failure::Work(format!("cannot read {}: {reason}", path.display()))
    };
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|e| failed(&e))?;
        bytes
    } else {
        std::fs::read(path).map_err(|e| failed(&e))?
    };
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        failed(&format!(
            "it is not UTF-8 text (byte {at}); convert it first"
        ))
    })
}
