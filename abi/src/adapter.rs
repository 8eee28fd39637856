//! Adapters: low-rank changes that sessions attach.

use std::sync::Arc;

use graft::adapter::Adapter;

use crate::handle::shared_kind;
use crate::model::ModelObject;

/// An adapter, and the model that it is for.
pub struct AdapterObject {
    model: Arc<ModelObject>,
    adapter: Arc<Adapter>,
}

shared_kind!(
    AdapterObject,
    "adapter",
    graft_adapter_retain,
    graft_adapter_release
);

impl AdapterObject {
    /// An adapter that fits `model`.
    pub fn new(model: Arc<ModelObject>, adapter: Arc<Adapter>) -> Self {
        Self { model, adapter }
    }

    /// The adapter.
    pub fn adapter(&self) -> &Arc<Adapter> {
        &self.adapter
    }

    /// The model it is for.
    pub fn model(&self) -> &Arc<ModelObject> {
        &self.model
    }
}
