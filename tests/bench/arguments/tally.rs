//! What the lines come to.

use std::collections::BTreeMap;

use crate::arguments::lines::Line;
use crate::arguments::trial::Finding;

/// Counts of lines.
#[derive(Default)]
pub struct Tally {
    lines: usize,
    unsteady: usize,
    different: usize,
    objects: usize,
    remote: usize,
    hits: usize,
    kept_here: BTreeMap<String, usize>,
}

impl Tally {
    /// Counts one, and prints what is to be said of it.
    pub fn add(&mut self, line: &Line, finding: &Finding, verbose: bool) {
        let (is_remote, is_hit) = (finding.first == "remote", finding.second == "cache");
        self.lines += 1;
        self.unsteady += usize::from(!finding.is_steady);
        self.different += usize::from(!finding.differences.is_empty());
        if finding.makes_object {
            self.objects += 1;
            self.remote += usize::from(is_remote);
            self.hits += usize::from(is_hit);
            if !is_remote {
                let words = finding.first.trim_start_matches("local: ");
                let code = words.split([':', ' ']).next().unwrap_or_default();
                *self.kept_here.entry(code.to_owned()).or_default() += 1;
            }
        }
        let good = is_remote && is_hit && finding.differences.is_empty();
        if !verbose && (good || !finding.makes_object && finding.differences.is_empty()) {
            return;
        }
        let object = if finding.makes_object {
            ""
        } else {
            "  (no object)"
        };
        println!("{} {}{object}", line.compiler, line.command);
        println!("    {} | {}", finding.first, finding.second);
        if !finding.unequal.is_empty() || !finding.is_steady {
            println!("    two plain runs differ: {:?}", finding.unequal);
        }
        for difference in &finding.differences {
            println!("    DIFFERS {difference}");
        }
    }

    /// A line differed.
    pub fn is_wrong(&self) -> bool {
        self.different > 0
    }

    /// The shares.
    pub fn print(&self) {
        let share = |count: usize| 100.0 * count as f64 / self.objects.max(1) as f64;
        println!(
            "{} lines, {} of them unsteady; {} differ",
            self.lines, self.unsteady, self.different
        );
        println!(
            "{} make an object: {} ({:.1} %) remote, {} ({:.1} %) hits the second time",
            self.objects,
            self.remote,
            share(self.remote),
            self.hits,
            share(self.hits)
        );
        for (code, count) in &self.kept_here {
            println!("  {count:>4} {code}");
        }
    }
}
