//! What the coordinator's port carries: worker links, gRPC and pages.

pub mod accept;
pub mod grpc;
pub mod activity;
pub mod request_body;
pub mod submit;
pub mod kept;
pub mod void_lists;
pub mod worker_link;
pub mod pages;
pub mod dashboard;
pub mod live;
pub mod api;
pub mod announce;
pub mod spans;
