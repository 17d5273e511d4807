//! Tells the coordinator of hits: beside other work, or when a build has ended.
//! A hit itself never waits for it.

use hg_proto::v1::{ReportCacheHitRequest, ReportCacheHitResponse};

use crate::cache::disk::tally::{self, Unreported};
use crate::cache::keeper;
use crate::config::Config;
use crate::grid::attempt;
use crate::grid::grpc::{Connection, Tasks};
use crate::grid::memo::{Known, Memos};
use crate::inputs::task;

/// Milliseconds that the coordinator may take to hear of it.
const REPORT_MS_MAX: u64 = 500;

/// Reports all hits that were not yet, over a connection that is there.
pub async fn report_hits_over(config: &Config, connection: Connection) {
    if let Some(hits) = unreported(config) {
        tell(hits, connection).await;
    }
}

/// Connects and reports all hits that were not yet; gives up soon.
pub fn report_hits(config: &Config) {
    let Some(address) = &config.coordinator else {
        return;
    };
    let memos = Memos::new(config.run_folder().as_deref());
    let known = memos.recall(&config.grid_key(address), attempt::grid_backoff);
    if matches!(known, Known::Bad(_) | Known::Retry) {
        return;
    }
    let Some(hits) = unreported(config) else {
        return;
    };
    let tasks = Tasks::new();
    if let Ok(connection) = Connection::to_grid(config, &tasks) {
        tasks.run(tell(hits, connection));
    }
}

fn unreported(config: &Config) -> Option<Unreported> {
    let cache = keeper::open(config.cache.as_ref()?).ok()?;
    tally::unreported(&cache)
}

async fn tell(hits: Unreported, mut connection: Connection) {
    let question = ReportCacheHitRequest {
        client: task::client_name(),
        hits: hits.hits,
        saved_ms: hits.saved_ms,
    };
    let heard: Result<ReportCacheHitResponse, _> = connection
        .call("ReportCacheHit", &question, REPORT_MS_MAX)
        .await;
    // Otherwise the next one reports them.
    if heard.is_ok() {
        hits.mark_reported();
    }
}
