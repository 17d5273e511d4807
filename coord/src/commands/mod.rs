//! Commands beside the coordinator itself: drain a worker, give and revoke tokens.

pub mod drain;
pub mod dial;
pub mod tokens;
