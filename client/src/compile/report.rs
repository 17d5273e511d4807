//! Tells the coordinator of hits: beside other work, or when a build has ended.
//! A hit itself never waits for it.

use hg_proto::v1::{ReportCacheHitRequest, ReportCacheHitResponse};

use crate::cache::disk::tally::{self, Unreported};
use crate::cache::keeper;
use crate::config::Config;
use crate::grid::access::Access;
use crate::grid::attempt::{self, CONNECT_MS_MAX};
use crate::grid::grpc::{Connection, Tasks};
use crate::grid::memo::{Known, Memos};
use crate::inputs::task;

/// Milliseconds that the coordinator may take to hear of it.
const REPORT_MS_MAX: u64 = 500;

/// Reports all hits that were not, over a connection that is there.
pub async fn report(config: &Config, connection: Connection) {
    if let Some(hits) = unreported(config) {
        tell(hits, connection).await;
    }
}

/// Connects and reports; gives up soon.
pub fn report_alone(config: &Config) {
    let Some(address) = &config.coordinator else {
        return;
    };
    let memos = Memos::new(config.run_folder().as_deref());
    if memos.recall(&config.grid_subject(address), attempt::down_memo) != Known::Nothing {
        return;
    }
    let Some(hits) = unreported(config) else {
        return;
    };
    let tasks = Tasks::new();
    tasks.run(async {
        let Ok(access) = Access::find(config) else {
            return;
        };
        if let Ok(connection) = Connection::open(&tasks, access, CONNECT_MS_MAX).await {
            tell(hits, connection).await;
        }
    });
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
