//! What runs, what ran and what it cost, kept for people: the one place that the REST
//! API, the dashboard's live messages and the metrics read. Pure.

pub mod aggregator;
pub mod builds;
pub mod fallbacks;
pub mod holders;
pub mod series;
pub mod tasks;
pub mod task_span;
pub mod ring;
