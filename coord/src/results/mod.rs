//! What workers made of tasks, kept for whoever asks for the same again.

pub mod store;
pub mod draft;
pub mod kept;
pub mod sharing;
pub mod upkeep;
