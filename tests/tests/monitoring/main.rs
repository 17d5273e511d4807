//! What is seen of a grid: the REST API, live pages, the dashboard in a browser, metrics
//! and what Prometheus makes of them.

mod api;
mod browser;
mod live;
mod prometheus;
mod shared;
mod terminal;
mod top;
mod tracing;
