//! Commands beside the coordinator itself: drain a worker, give and revoke tokens.

pub mod drain;
pub mod readmit;
pub mod running;
pub mod dial;
pub mod tokens;
