//! One compile, from what was typed to the files that lie there afterwards.

pub mod wrap;
pub mod remote;
pub mod context;
pub mod audit;
pub mod report;
pub mod events;
pub mod timeline;
