//! Tells the coordinator of hits and misses: beside other work, or when a build has ended,
//! and then of the build itself. A compile never waits for it.

use hg_proto::v1::{
    ReportBuildRequest, ReportBuildResponse, ReportCacheHitRequest, ReportCacheHitResponse,
};

use crate::cache::disk::tally::{self, Unreported};
use crate::cache::keeper;
use crate::config::Config;
use crate::grid::attempt;
use crate::grid::grpc::{Connection, Tasks};
use crate::grid::memo::{Known, Memos};
use crate::inputs::task;

/// Milliseconds that the coordinator may take to hear of it.
const REPORT_MS_MAX: u64 = 500;

/// Reports all hits and misses that were not yet, over a connection that is there.
pub async fn report_hits_over(config: &Config, mut connection: Connection) {
    if let Some(hits) = unreported(config) {
        tell(hits, &mut connection).await;
    }
}

/// Connects and reports all hits and misses that were not yet; gives up soon.
pub fn report_hits(config: &Config) {
    report(config, None);
}

/// The same, and what a build's compiles did.
pub fn report_build(config: &Config, build: &ReportBuildRequest) {
    report(config, Some(build));
}

fn report(config: &Config, build: Option<&ReportBuildRequest>) {
    let Some(address) = &config.coordinator else {
        return;
    };
    let memos = Memos::new(config.run_folder().as_deref());
    let known = memos.recall(&config.grid_key(address), attempt::grid_backoff);
    if matches!(known, Known::Bad(_) | Known::Retry) {
        return;
    }
    let hits = unreported(config);
    if hits.is_none() && build.is_none() {
        return;
    }
    let tasks = Tasks::new();
    let Ok(mut connection) = Connection::to_grid(config, &tasks) else {
        return;
    };
    tasks.run(async {
        if let Some(hits) = hits {
            tell(hits, &mut connection).await;
        }
        if let Some(build) = build {
            // An older coordinator does not know the question.
            let _: Result<ReportBuildResponse, _> =
                connection.call("ReportBuild", build, REPORT_MS_MAX).await;
        }
    });
}

fn unreported(config: &Config) -> Option<Unreported> {
    let cache = keeper::open(config.cache.as_ref()?).ok()?;
    tally::unreported(&cache)
}

async fn tell(hits: Unreported, connection: &mut Connection) {
    let question = ReportCacheHitRequest {
        client: task::client_name(),
        hits: hits.hits,
        saved_ms: hits.saved_ms,
        misses: hits.misses,
    };
    let heard: Result<ReportCacheHitResponse, _> = connection
        .call("ReportCacheHit", &question, REPORT_MS_MAX)
        .await;
    // Otherwise the next one reports them.
    if heard.is_ok() {
        hits.mark_reported();
    }
}
