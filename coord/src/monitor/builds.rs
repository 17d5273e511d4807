//! Builds: the compiles of one client that follow each other, and what `hgbuild make` said
//! of them at its end.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use crate::monitor::fallbacks::{Fallback, Fallbacks, Lost};

/// Builds that are listed; the oldest makes room.
const BUILDS_MAX: usize = 64;
/// Compiles of a build that are named as its slowest.
const SLOWEST_MAX: usize = 5;
/// Milliseconds without a task after which a client's next one begins another build.
const IDLE_MS: u64 = 60_000;

/// A compile that took long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slow {
    /// The source as its user typed it.
    pub source: Arc<str>,
    /// The worker whose result it is.
    pub worker: Arc<str>,
    /// Milliseconds from its submission to its result.
    pub wall_ms: u64,
}

/// What `hgbuild make` says at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildReport {
    /// Milliseconds from its start to its end.
    pub wall_ms: u64,
    /// Exit code of the build command, as shells count it.
    pub exit_code: i32,
    /// Compiles that workers did.
    pub remote: u64,
    /// Compiles that its machine did.
    pub local: u64,
    /// Compiles that its cache answered.
    pub cached: u64,
}

/// A build, for listings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Build {
    /// Its number, which never comes again.
    pub build_id: u64,
    /// The client, as it names itself: user and machine, and for `hgbuild make` a number.
    pub client: Arc<str>,
    /// The holder of that client's token.
    pub holder: Arc<str>,
    /// When its first task came.
    pub began_unix_ms: u64,
    /// When something of it came or ended last.
    pub seen_unix_ms: u64,
    /// Tasks that have not ended.
    pub open: u64,
    /// Tasks that ended with a compiler's answer.
    pub finished: u64,
    /// Tasks that ended without one.
    pub failed: u64,
    /// Milliseconds that its tasks had workers.
    pub compile_ms_total: u64,
    /// Its slowest tasks, the slowest first.
    pub slowest: Vec<Slow>,
    /// What it said at its end; `None`: it goes on, or says nothing.
    pub report: Option<BuildReport>,
    /// Why compiles of it stayed on its machine, the dearest first.
    pub reasons: Vec<Fallback>,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Builds {
    builds: VecDeque<Build>,
    count: u64,
}

impl Builds {
    /// The build of a client's task that comes now.
    fn current(&mut self, holder: &Arc<str>, client: &Arc<str>, now_unix_ms: u64) -> &mut Build {
        let is_current = |build: &Build| {
            let is_idle = build.open == 0 && build.seen_unix_ms + IDLE_MS < now_unix_ms;
            build.client == *client && build.holder == *holder && build.report.is_none() && !is_idle
        };
        let at = match self.builds.iter().rposition(is_current) {
            Some(at) => at,
            None => {
                self.count += 1;
                if self.builds.len() >= BUILDS_MAX {
                    self.builds.pop_front();
                }
                self.builds.push_back(Build {
                    build_id: self.count,
                    client: client.clone(),
                    holder: holder.clone(),
                    began_unix_ms: now_unix_ms,
                    seen_unix_ms: now_unix_ms,
                    open: 0,
                    finished: 0,
                    failed: 0,
                    compile_ms_total: 0,
                    slowest: Vec::new(),
                    report: None,
                    reasons: Vec::new(),
                });
                self.builds.len() - 1
            }
        };
        &mut self.builds[at]
    }

    /// A task was submitted. Gives the number of its build.
    pub fn submitted(&mut self, holder: &Arc<str>, client: &Arc<str>, now_unix_ms: u64) -> u64 {
        let build = self.current(holder, client, now_unix_ms);
        build.open += 1;
        build.seen_unix_ms = now_unix_ms;
        build.build_id
    }

    /// A task of the build with the number `build_id` ended, with or without a compiler's
    /// answer, after `compile_ms` on a worker.
    pub fn ended(
        &mut self,
        build_id: u64,
        has_answer: bool,
        slow: Slow,
        compile_ms: u64,
        now_unix_ms: u64,
    ) {
        let build = self.builds.iter_mut().rev();
        let Some(build) = build.into_iter().find(|build| build.build_id == build_id) else {
            return;
        };
        build.open = build.open.saturating_sub(1);
        build.seen_unix_ms = now_unix_ms;
        build.compile_ms_total += compile_ms;
        match has_answer {
            false => build.failed += 1,
            true => {
                build.finished += 1;
                let at = build
                    .slowest
                    .partition_point(|it| it.wall_ms >= slow.wall_ms);
                if at < SLOWEST_MAX {
                    build.slowest.insert(at, slow);
                    build.slowest.truncate(SLOWEST_MAX);
                }
            }
        }
    }

    /// A build of `client` has ended, and says this of itself.
    pub fn reported(
        &mut self,
        holder: &Arc<str>,
        client: &Arc<str>,
        report: BuildReport,
        reasons: &[(String, Lost)],
        now_unix_ms: u64,
    ) {
        let mut sums = Fallbacks::default();
        for (reason, lost) in reasons {
            sums.add(reason, *lost);
        }
        // One of which nothing came here began when it says.
        let began_unix_ms = now_unix_ms.saturating_sub(report.wall_ms);
        let build = self.current(holder, client, now_unix_ms);
        build.began_unix_ms = build.began_unix_ms.min(began_unix_ms);
        build.seen_unix_ms = now_unix_ms;
        build.report = Some(report);
        build.reasons = sums.list();
    }

    /// All that are remembered, the newest first.
    pub fn list(&self) -> impl Iterator<Item = &Build> {
        self.builds.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(wall_ms: u64) -> Slow {
        Slow {
            source: "a.c".into(),
            worker: "w".into(),
            wall_ms,
        }
    }

    fn report() -> BuildReport {
        BuildReport {
            wall_ms: 10,
            exit_code: 0,
            remote: 1,
            local: 2,
            cached: 3,
        }
    }

    #[test]
    fn a_build_ends_with_its_report_or_with_silence() {
        let mut builds = Builds::default();
        let (holder, client): (Arc<str>, Arc<str>) = ("me".into(), "1@laptop/7".into());
        let first = builds.submitted(&holder, &client, 100);
        assert_eq!(builds.submitted(&holder, &client, 200), first);
        for (number, ms) in [5, 50, 10, 20, 30, 40].into_iter().enumerate() {
            builds.ended(first, number != 0, slow(ms), ms, 300);
        }
        let lost = Lost {
            compiles: 2,
            ms: 900,
        };
        builds.reported(&holder, &client, report(), &[("queue".into(), lost)], 400);
        let build = builds.list().next().unwrap();
        assert_eq!((build.finished, build.failed, build.open), (5, 1, 0));
        let slowest: Vec<u64> = build.slowest.iter().map(|it| it.wall_ms).collect();
        assert_eq!(slowest, [50, 40, 30, 20, 10]);
        assert_eq!(
            (&*build.reasons[0].reason, build.reasons[0].lost_ms),
            ("queue", 900)
        );
        let second = builds.submitted(&holder, &client, 500);
        assert_ne!(second, first);
        builds.ended(second, true, slow(1), 1, 500);
        assert_eq!(builds.submitted(&holder, &client, 500 + IDLE_MS), second);
        builds.ended(second, true, slow(1), 1, 501 + IDLE_MS);
        assert_ne!(
            builds.submitted(&holder, &client, 502 + 2 * IDLE_MS),
            second
        );
    }

    #[test]
    fn builds_have_a_bound() {
        let mut builds = Builds::default();
        for number in 0..2 * BUILDS_MAX {
            let client: Arc<str> = format!("c{number}").into();
            builds.reported(&"me".into(), &client, report(), &[], 1_000);
        }
        assert_eq!(builds.list().count(), BUILDS_MAX);
        // One that is not listed any more may still end.
        builds.ended(1, true, slow(1), 1, 1);
    }
}
