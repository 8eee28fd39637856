//! What the demo of the command line has, for programs of the tests.
#![allow(dead_code)] // each test uses some of it

use std::path::{Path, PathBuf};

use graft::cancel::Cancel;
use graft::dataset::assets::FileSource;
use graft::dataset::conversion::{Conversion, ConversionWatch, convert};
use graft_plugins::{Grants, Host, Limits};

use crate::program;

/// A file of the demo.
pub fn file(name: &str) -> PathBuf {
    program::root().join("runtime/cli/demo").join(name)
}

struct Nobody;
impl ConversionWatch for Nobody {}

/// The held-out export as a data set in `folder`; its images stay where they are, `digits/held-out/images`.
pub fn data(folder: &Path) -> PathBuf {
    let output = folder.join("held-out.json");
    let host = Host::new(Limits::default(), None).unwrap();
    let ubiai = host.load(Path::new("ubiai"), &Grants::default()).unwrap();
    let mut export = FileSource::open(&file("digits/held-out/export.json")).unwrap();
    let conversion = Conversion {
        assets: &file("digits/held-out/images"),
        output: &output,
        options: "{}",
        cancel: Cancel::new(),
    };
    let ubiai = ubiai.into_converter().unwrap();
    convert(&ubiai, &mut export, &conversion, &mut Nobody).unwrap();
    output
}
