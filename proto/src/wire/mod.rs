//! What both ends of a link agree on: frames, digests, paths, and every bound. Pure.

pub mod http_head;
pub mod frame;
#[cfg(feature = "blobs")]
pub mod blob;
pub mod outcome;
pub mod limits;
pub mod digest;
pub mod taken_path;
pub mod task_key;
pub mod trace_id;
pub mod plain_path;
