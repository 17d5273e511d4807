//! What a command line and an environment mean.

pub mod native;
pub mod plan;
pub mod presentation;
pub mod identity;
