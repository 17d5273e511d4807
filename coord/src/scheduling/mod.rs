//! All that the simulator drives: which worker gets which task, and when. Pure.

pub mod validate;
pub mod coordinator;
pub mod scheduler;
pub mod registry;
pub mod worker;
pub mod pool;
pub mod jobs;
pub mod seconds;
pub mod queue;
pub mod holder_breakers;
pub mod audits;
pub mod duplicates;
pub mod disputes;
pub mod breaker;
pub mod predictor;
pub mod timers;
pub mod slab;
pub mod id;
