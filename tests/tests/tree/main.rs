//! The tree form of a task: source and headers travel, each at the client's own path.

mod builds;
mod equivalent;
mod shipped;
mod tasks;
