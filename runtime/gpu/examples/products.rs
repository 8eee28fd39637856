//! Compiles the kernels of products on a device, each after a line on stderr that names it, and runs none: what
//! a driver prints of its code can be told apart by these lines. `benches/isa/table.py` makes a table of that.
//!
//! `products <device> <f32|dot4> <quant type> [...]`

use graft_gpu::{Choice, Device, DeviceOptions, KernelChoice, Part, Recorder, Result, Rounding};
use graft_kernels::QuantType;

/// So many that groups of any size are enough for a device.
const ROWS: usize = 8192;
const INPUTS: usize = 1024;
/// Tokens of each product, one for each variant of a kernel.
const THIN: [usize; 4] = [1, 2, 4, 8];
const MANY: [usize; 4] = [16, 32, 64, 128];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().unwrap_or_default();
    let (name, kernels) = (next(), next());
    let device = Device::open(&DeviceOptions {
        choice: Choice::Name(name),
        kernels: kernels.parse::<KernelChoice>()?,
        budget: Some(64 << 20),
        checked: false,
        ..DeviceOptions::default()
    })?;
    let types = QuantType::ALL.into_iter();
    let asked: Vec<String> = arguments.collect();
    for ty in types.filter(|ty| asked.iter().any(|name| name == ty.name())) {
        let arena = device.arena(
            Part::Weights,
            device.matrix_bytes(ty, ROWS, INPUTS).unwrap_or(0),
        )?;
        let w = arena.matrix(ty, ROWS, INPUTS)?;
        for tokens in THIN.into_iter().chain(MANY) {
            let floats = device.tensor_bytes(tokens, INPUTS) + device.tensor_bytes(tokens, ROWS);
            let arena = device.arena(Part::LayerBuffers, floats)?;
            let (x, y) = (arena.tensor(tokens, INPUTS)?, arena.tensor(tokens, ROWS)?);
            let mut recorder = Recorder::new(&device)?;
            recorder.round(Rounding::Bytes);
            eprintln!("\n## forward {kernels} {} {tokens}", ty.name());
            recorder.linear(&y, &x, &w)?;
            if !THIN.contains(&tokens) && kernels == "f32" {
                eprintln!("\n## backward {kernels} {} {tokens}", ty.name());
                recorder.mm_q_backward(&x, &y, &w)?;
            }
        }
    }
    Ok(())
}
