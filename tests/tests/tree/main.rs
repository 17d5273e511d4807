//! The tree form of a task: source and headers travel, each at the client's own path.

mod builds;
mod container;
mod equivalent;
mod shipped;
mod tasks;
