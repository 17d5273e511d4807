//! What runs now, for those who look by gRPC (`hgbuild top`): a part of what the pages show,
//! from the same place.

use hg_proto::v1;

use crate::bounds::{ACTIVITY_BUILDS_MAX, ACTIVITY_NAME_BYTES_MAX, ACTIVITY_TASKS_MAX};
use crate::dispatch::hub::Hub;
use crate::monitor::builds::Build;
use crate::monitor::tasks::{OpenTask, Stage};

/// Milliseconds without a task after which a build that has none open is not listed.
const QUIET_MS_MAX: u64 = 60_000;

/// All workers, without their toolchains.
pub fn workers(hub: &Hub) -> Vec<v1::Worker> {
    let brief = hub.workers_in_brief().into_iter();
    brief.map(|(_, worker)| worker).collect()
}

/// Tasks that workers have, and builds.
pub fn activity(hub: &Hub) -> v1::GetActivityResponse {
    let seen = hub.seen();
    let now_unix_ms = seen.unix_ms(hub.now_ms());
    let mut running: Vec<&OpenTask> = seen.running_tasks().collect();
    running.sort_unstable_by_key(|task| task.task_id);
    let running = running.into_iter().take(ACTIVITY_TASKS_MAX);
    let is_listed =
        |build: &&Build| build.open > 0 || build.seen_unix_ms + QUIET_MS_MAX > now_unix_ms;
    let builds = seen.builds().list().filter(is_listed);
    let builds = builds.take(ACTIVITY_BUILDS_MAX);
    v1::GetActivityResponse {
        running: running
            .map(|task| running_task(task, now_unix_ms))
            .collect(),
        builds: builds
            .map(|build| listed_build(build, now_unix_ms))
            .collect(),
    }
}

fn running_task(task: &OpenTask, now_unix_ms: u64) -> v1::RunningTask {
    let since_unix_ms = task.compiling_unix_ms.max(task.started_unix_ms);
    v1::RunningTask {
        task_id: task.task_id,
        source: ending(&task.source),
        worker: task.worker.to_string(),
        client: ending(&task.client),
        compiling: task.stage == Stage::Compile,
        since_ms: now_unix_ms.saturating_sub(since_unix_ms),
    }
}

fn listed_build(build: &Build, now_unix_ms: u64) -> v1::Build {
    v1::Build {
        build_id: build.build_id,
        client: ending(&build.client),
        holder: ending(&build.holder),
        open: build.open,
        finished: build.finished,
        failed: build.failed,
        began_ms: now_unix_ms.saturating_sub(build.began_unix_ms),
        quiet_ms: now_unix_ms.saturating_sub(build.seen_unix_ms),
        end: build.report.as_ref().map(|report| v1::BuildEnd {
            wall_ms: report.wall_ms,
            exit_code: report.exit_code,
            remote: report.remote,
            local: report.local,
            cached: report.cached,
        }),
    }
}

/// The end of `name`, by which a path is told from others.
fn ending(name: &str) -> String {
    let from = name.len().saturating_sub(ACTIVITY_NAME_BYTES_MAX);
    let from = (from..=name.len()).find(|at| name.is_char_boundary(*at));
    name[from.unwrap_or(name.len())..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_name_the_end_is_kept() {
        assert_eq!(ending("src/a.c"), "src/a.c");
        let long = format!("{}/a.c", "ü".repeat(ACTIVITY_NAME_BYTES_MAX));
        let kept = ending(&long);
        assert!(kept.len() <= ACTIVITY_NAME_BYTES_MAX && kept.ends_with("ü/a.c"));
    }
}
