//! Which device runs the model.

use clap::Args;
use graft::device::{DeviceChoice, DeviceOptions};
use graft::model::Model;

use crate::progress::short_bytes;
use crate::run_config::bytes;

/// What every command that runs a model may be told.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Device")]
pub struct DeviceArguments {
    /// cpu, gpu, gpu:N or gpu:NAME as `graft devices` lists them, or auto: a graphics card if there is one
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceChoice,
    /// How many of the upper layers the graphics device runs [default: as many as fit]
    #[arg(long, value_name = "N")]
    pub gpu_layers: Option<usize>,
    /// Most of its memory to use, such as 3.3GiB [default: four fifths of it]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub gpu_memory: Option<u64>,
}

impl DeviceArguments {
    /// The library's words for it; room is left for this many positions of a session, 0 for its own choice.
    pub fn options(&self, context_length: usize) -> DeviceOptions {
        DeviceOptions {
            device: self.device.clone(),
            layers: self.gpu_layers,
            memory: self.gpu_memory,
            context_length,
            training: None,
        }
    }

    /// Says once, on stderr, what runs a model that was not left to the processor.
    pub fn tell(&self, model: &Model) {
        let layers = model.llama().layers().len();
        match (&self.device, model.llama().device()) {
            (DeviceChoice::Cpu, _) => {}
            (_, None) => match model.passed_over() {
                Some(reason) => eprintln!("the processor runs the model: {reason}"),
                None => eprintln!("the processor runs the model"),
            },
            (_, Some(device)) => {
                let report = device.report();
                let held: u64 = report.parts.iter().map(|(_, bytes)| bytes).sum();
                let output = if report.output { " and the output" } else { "" };
                eprintln!(
                    "{} runs {} of {layers} layers{output}, {} of {}",
                    report.device,
                    report.layers,
                    short_bytes(held),
                    short_bytes(report.budget)
                );
            }
        }
    }
}
