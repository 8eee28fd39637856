//! What else than the processor can run layers of a model.
//!
//! A device holds the layers from one on, up to the last, and perhaps the output matrix; the processor runs those
//! below. Rows of the model's width go from one to the other; in training those of the last layer need not, if the
//! device computes the loss. How a device computes is its own affair; what it
//! must give is what [`Layer`](super::Layer) gives, but for rounding.

use std::fmt::Debug;
use std::sync::Arc;

use super::{ActivationPlan, AdapterView, DeviceEncoder, GradientView, Llama, Vision};
use crate::Result;
use crate::device::TrainingRoom;
use crate::memory::Arena;

/// The upper layers of a model, on a device; shared by any number of sessions and trainers.
pub trait DeviceLayers: Debug + Send + Sync {
    /// The first layer that it holds; it holds all from there on.
    fn first(&self) -> usize;

    /// Whether it holds the output matrix too.
    fn has_output(&self) -> bool;

    /// Whether training can leave the loss to it ([`ActivationPlan::loss_on_device`]).
    fn has_loss(&self) -> bool;

    /// Room for the keys and values of one sequence, up to `capacity` positions, of the layers that it holds.
    ///
    /// # Errors
    /// If its memory or its budget has no room, or it is lost.
    fn open_kv(self: Arc<Self>, capacity: usize) -> Result<Box<dyn DeviceKv>>;

    /// Writes the logits `[n, V]` of `n` normalised rows `[n, W]`, with what adapters add to the output.
    ///
    /// # Errors
    /// If it does not hold the output, or is lost.
    fn logits(&self, logits: &mut [f32], normed: &[f32], adapters: &dyn AdapterView) -> Result<()>;

    /// The same device with room for training: what it holds stays there, and layers that it has no room for beside
    /// that are written to it for each pass.
    ///
    /// # Errors
    /// If its memory or its budget has no room, or it is lost.
    fn for_training(
        &self,
        llama: &Llama,
        vision: Option<&Vision>,
        room: TrainingRoom,
    ) -> Result<Arc<dyn DeviceLayers>>;

    /// What training would keep on the device with the memory that is free now, with no regard to the plan's `kept`,
    /// `offloaded` and `host_inputs`.
    fn kept(&self, plan: &ActivationPlan) -> DeviceKept;

    /// Room for what training keeps of the layers that it holds; what lies in the system's memory is `arena`'s.
    ///
    /// # Errors
    /// If its memory, its budget or the arena has no room, or it is lost.
    fn open_training(
        self: Arc<Self>,
        plan: &ActivationPlan,
        arena: &Arena,
    ) -> Result<Box<dyn DeviceTraining>>;

    /// Room for encoding images of the model's vision half.
    ///
    /// # Errors
    /// If its memory or its budget has no room, or it is lost.
    fn open_encoder(&self, vision: &Vision) -> Result<Box<dyn DeviceEncoder>>;

    /// Leaves the device at once, as if it were unplugged, for a program that another needs it more than: calls under
    /// way end, and they and all later ones are errors ([`DeviceError::Lost`](crate::device::DeviceError::Lost)). The
    /// memory there is free again when everything that had some is dropped.
    fn give_up(&self);

    /// What it is and what its memory holds, for people.
    fn report(&self) -> DeviceReport;
}

/// The device half of one sequence: its keys and values of the layers that the device holds.
pub trait DeviceKv: Debug + Send + Sync {
    /// Runs rows `[T, W]` through the device's layers, in place, as the positions from `start` on, and keeps their
    /// keys and values. `check` is asked now and then whether to go on; the rows are meaningless if not.
    ///
    /// # Errors
    /// What `check` says; if the device is lost, or its memory has no room for the adapters.
    fn forward(
        &mut self,
        rows: &mut [f32],
        start: usize,
        adapters: &dyn AdapterView,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()>;

    /// The same of another sequence with room for `capacity` positions, the first `positions` of which are this one's.
    ///
    /// # Errors
    /// As [`DeviceLayers::open_kv`].
    fn fork(&self, positions: usize, capacity: usize) -> Result<Box<dyn DeviceKv>>;
}

/// The device half of training: what its layers keep of one pass between forward and backward.
pub trait DeviceTraining: Debug + Send {
    /// Runs rows `[T, W]` through the device's layers, in place, and keeps what backward needs. They are the whole
    /// sequences that end at `ends`, one behind the other; one sequence if there are none. Where the loss is planned
    /// on the device the result stays there, and `rows` are as they were.
    ///
    /// # Errors
    /// What `check` says; if the device is lost.
    fn forward(
        &mut self,
        rows: &mut [f32],
        ends: &[usize],
        adapters: &dyn AdapterView,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()>;

    /// The summed loss over `targets` (position, label; no position twice) of the last forward's result. With a
    /// `scale`, its gradient times that stays on the device for the backward of the highest layer.
    ///
    /// # Errors
    /// If the loss is not planned on the device, a position or a label is none, or the device is lost.
    fn loss(&mut self, targets: &[(usize, i32)], scale: Option<f32>) -> Result<f64>;

    /// One layer's part of the backward of the last forward, for the pairs of adapter 0 that `gradients` has; what it
    /// adds to them, [`DeviceTraining::complete`] adds. The layers come from the top; the first takes the gradient of
    /// forward's result from `drows` `[T, W]` unless the loss left it on the device, and the lowest that is visited, if
    /// `needs_input`, leaves the gradient of its input there.
    ///
    /// # Errors
    /// If the device is lost.
    fn backward_layer(
        &mut self,
        layer: usize,
        drows: &mut [f32],
        ends: &[usize],
        adapters: &dyn AdapterView,
        gradients: &mut dyn GradientView,
        needs_input: bool,
    ) -> Result<()>;

    /// Adds the gradients of the highest layer whose gradients are under way, and says which it is. After the backward
    /// of `layer` those of one layer may stay under way, so that the device is at work meanwhile; after that of the
    /// lowest, `None` means that none are.
    ///
    /// # Errors
    /// If the device is lost.
    fn complete(&mut self, layer: usize, gradients: &mut dyn GradientView)
    -> Result<Option<usize>>;
}

/// What a device has room for between forward and backward.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DeviceKept {
    /// Whether the inputs of all visited layers stay there.
    pub inputs: bool,
    /// Of how many of the top layers all that lies inside does.
    pub layers: usize,
    /// Whether what lies inside the others is computed again sooner than it goes to the system's memory and comes
    /// back.
    pub computes_again: bool,
}

/// What a device holds of a model.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeviceReport {
    /// The device's name.
    pub device: String,
    /// How many of the model's layers it holds.
    pub layers: usize,
    /// Whether it holds the output matrix.
    pub output: bool,
    /// Whether it computes the loss of training.
    pub loss: bool,
    /// Most bytes it may use.
    pub budget: u64,
    /// Bytes of each part of its memory, for a table.
    pub parts: Vec<(&'static str, u64)>,
}
