//! The worker's own folders: state, task folders, and contents that came once.

pub mod store;
pub mod shipments;
pub mod state;
pub mod scratch;
pub mod removal;
