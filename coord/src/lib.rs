//! The coordinator. Rooms and files from the top floor down: each uses only what stands
//! below it (`tests/floors.txt`).

pub mod server;
pub mod commands;
pub mod serve;
pub mod config;
pub mod trust;
pub mod dispatch;
pub mod results;
pub mod backend;
pub mod scheduling;
pub mod door;
pub mod monitor;
pub mod state_folder;
pub mod metrics;
pub mod log;
pub mod bounds;
