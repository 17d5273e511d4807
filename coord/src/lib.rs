//! The coordinator. Modules in the order in which data flows through them: the
//! pure ones first, then those that do I/O.

pub mod bounds;
pub mod id;
pub mod predictor;
pub mod breaker;
pub mod holder_breakers;
pub mod queue;
pub mod pool;
pub mod worker;
pub mod registry;
pub mod scheduler;
pub mod timers;
pub mod slots;
pub mod jobs;
pub mod coordinator;
pub mod validate;
pub mod auth;
pub mod token_list;
pub mod bucket;
pub mod rates;
pub mod nuisances;
pub mod arrivals;
pub mod transfer;
pub mod h2_frames;
pub mod config;

pub mod log;
pub mod metrics;
pub mod mailbox;
pub mod channel;
pub mod dispatch;
pub mod crowd;
pub mod state_folder;
pub mod trust;
pub mod command_socket;
pub mod doorkeeper;
pub mod link;
pub mod submit;
pub mod grpc;
pub mod api;
pub mod accept;
pub mod learned;
pub mod dial;
pub mod drain;
pub mod tokens;
pub mod server;
