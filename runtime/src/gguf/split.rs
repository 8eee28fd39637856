//! Models split over files named `-00001-of-0000N.gguf`, each a GGUF of its own, as one.

use std::path::Path;

use super::mapping::Bytes;
use super::{Gguf, GgufError};

/// Metadata keys of a part.
const COUNT: &str = "split.count";
const NUMBER: &str = "split.no";

/// A file as it is, or with the other parts of the split model that it belongs to.
///
/// # Errors
/// If a part cannot be read, is of another model, or repeats a tensor.
pub(super) fn join(opened: Gguf, path: &Path) -> Result<Gguf, GgufError> {
    let count = opened.metadata.opt_u64(COUNT)?.unwrap_or(1);
    if count <= 1 {
        return Ok(opened);
    }
    let number = opened.metadata.opt_u64(NUMBER)?.unwrap_or(0);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let ending = format!("-{:05}-of-{count:05}.gguf", number + 1);
    let stem = name.strip_suffix(&ending).ok_or(GgufError::SplitName {
        found: number + 1,
        count,
    })?;
    let part_path = |i: u64| path.with_file_name(format!("{stem}-{:05}-of-{count:05}.gguf", i + 1));
    let mut first: Option<Gguf> = None;
    let mut opened = Some(opened);
    for i in 0..count {
        let path = part_path(i);
        let part = match opened.take_if(|_| i == number) {
            Some(part) => part,
            None => Bytes::map(&path)
                .and_then(Gguf::parse)
                .map_err(|e| e.in_file(&path))?,
        };
        let says = (
            part.metadata.opt_u64(NUMBER)?.unwrap_or(0),
            part.metadata.opt_u64(COUNT)?.unwrap_or(1),
        );
        if says != (i, count) {
            return Err(GgufError::SplitPart {
                path,
                reason: format!("it says it is part {} of {}", says.0 + 1, says.1),
            });
        }
        match &mut first {
            None => {
                first = Some(Gguf {
                    path: Some(path),
                    ..part
                })
            }
            Some(first) => append(first, part, &path)?,
        }
    }
    first.ok_or(GgufError::Empty)
}

fn append(first: &mut Gguf, part: Gguf, path: &Path) -> Result<(), GgufError> {
    for (info, (_, range)) in part.tensors.into_iter().zip(part.places) {
        let at = first.tensors.len();
        if first.index.insert(info.name.clone(), at).is_some() {
            return Err(GgufError::SplitPart {
                path: path.to_owned(),
                reason: format!("an earlier part has tensor `{}` already", info.name),
            });
        }
        first.tensors.push(info);
        first.places.push((first.parts.len(), range));
    }
    first.parts.extend(part.parts);
    Ok(())
}
