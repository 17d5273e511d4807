//! The worker's own folders: its state, task folders, and the store of contents.

pub mod store;
pub mod shipments;
pub mod state;
pub mod scratch;
pub mod removal;
