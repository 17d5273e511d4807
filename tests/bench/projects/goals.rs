//! What a project must come to, whatever else the machine does: shares and objects.

use super::measure::{Builds, GridBuild};
use super::project::Project;
use super::tally::percent;

/// Percent of the compiles that leave the machine.
const REMOTE_MIN: f64 = 97.0;
/// Percent of the compiles that are answered by command and files once all are kept.
const DIRECT_MIN: f64 = 98.0;

/// Whether one is missed, which is said on stderr.
pub fn missed(project: &Project, builds: &Builds) -> bool {
    let mut missed = false;
    let mut miss = |what: String| {
        eprintln!("{}: {what}", project.name);
        missed = true;
    };
    for (name, build) in [("first", &builds.first), ("second", &builds.second)] {
        let remote = percent(build.tally.remote, build.tally.compiles);
        if remote < REMOTE_MIN {
            miss(format!(
                "{remote:.1}% remote in the {name} build, not {REMOTE_MIN}%"
            ));
        }
    }
    if let Some(warm) = &builds.warm {
        let direct = percent(warm.tally.direct, warm.tally.compiles);
        if direct < DIRECT_MIN {
            miss(format!("{direct:.1}% direct hits, not {DIRECT_MIN}%"));
        }
    }
    let all: [Option<&GridBuild>; 3] = [
        Some(&builds.first),
        Some(&builds.second),
        builds.warm.as_ref(),
    ];
    for build in all.into_iter().flatten() {
        for path in &build.different {
            miss(format!("{} is not the plain build's", path.display()));
        }
    }
    missed
}
