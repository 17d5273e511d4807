//! Against floods: who is greeted, how fast, and who is shut out for a while.

pub mod crowd;
pub mod http2_frames;
pub mod arrivals;
pub mod nuisances;
pub mod submit_rate;
pub mod bucket;
pub mod shares;
