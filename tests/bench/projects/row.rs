//! What is printed of a project.

use super::measure::{Builds, Cost, GridBuild};
use super::project::Project;
use super::tally::percent;

/// Reasons for local compiles that are named.
const REASONS_MAX: usize = 4;
/// Objects that differ that are named.
const DIFFERENT_MAX: usize = 4;

/// The heads of the columns.
pub fn print_head() {
    println!(
        "{:<13}{:>8}{:>9}{:>8}{:>12}  {:>17}  {:>15}  {:>15}  warm",
        "project", "compiles", "remote", "tree", "equal", "plain wall/CPU", "first", "second"
    );
}

/// A line of figures, and more where there is more to say.
pub fn print(project: &Project, builds: &Builds) {
    let tally = &builds.first.tally;
    let equal = |build: &GridBuild| builds.objects.saturating_sub(build.different.len());
    println!(
        "{:<13}{:>8}{:>8.1}%{:>7.1}%{:>12}  {:>17}  {:>15}  {:>15}  {}",
        project.name,
        tally.compiles,
        percent(tally.remote, tally.compiles),
        percent(tally.tree, tally.compiles),
        format!("{}/{}", equal(&builds.first), builds.objects),
        format!("{:.1} s/{:.1} s", builds.plain.wall_s, builds.plain.cpu_s),
        ratios(builds.first.cost, builds.plain),
        ratios(builds.second.cost, builds.plain),
        builds.warm.as_ref().map_or_else(String::new, |warm| {
            let direct = percent(warm.tally.direct, warm.tally.compiles);
            format!("{} direct {direct:.1}%", ratios(warm.cost, builds.plain))
        }),
    );
    for (count, code, example) in tally.reasons().into_iter().take(REASONS_MAX) {
        println!("    local: {count} {code} ({example})");
    }
    let named = [
        ("first", Some(&builds.first)),
        ("second", Some(&builds.second)),
        ("warm", builds.warm.as_ref()),
    ];
    for (name, build) in named {
        print_different(name, build);
    }
}

fn print_different(name: &str, build: Option<&GridBuild>) {
    let different = build.map_or(&[][..], |build| &build.different);
    if different.is_empty() {
        return;
    }
    let some = different.iter().take(DIFFERENT_MAX);
    let some: Vec<_> = some.map(|path| path.display().to_string()).collect();
    println!(
        "    not equal in the {name} build: {}, {}",
        different.len(),
        some.join(" ")
    );
}

/// Wall and CPU time against the plain build's.
fn ratios(cost: Cost, plain: Cost) -> String {
    format!(
        "x{:.2}/x{:.2}",
        cost.wall_s / plain.wall_s,
        cost.cpu_s / plain.cpu_s
    )
}
