//! One project: built plainly, then through a fresh grid, twice with the cache off and,
//! where that was asked for, twice with it on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use hg_tests::event;
use hg_tests::grid::Grid;
use hg_tests::programs::Programs;
use tempfile::TempDir;

use super::archive::unpack;
use super::objects::{self, Objects};
use super::project::Project;
use super::step::{self, BUILD_TIME_MAX, STEP_TIME_MAX};
use super::tally::Tally;
use crate::cpu::Meter;

/// Jobs of the plain build: as many as the grid has slots.
const PLAIN_JOBS: usize = 2;
/// Jobs of a build through the grid: more, so that its slots are always busy.
const GRID_JOBS: usize = 8;
const WORKERS: usize = 2;
const SLOTS: u32 = 1;
/// How large the cache may grow where it is on.
const CACHE_MAX_SIZE: &str = "4GiB";

/// What one build took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Seconds from start to end.
    pub wall_s: f64,
    /// Seconds of user and system time, of every process that took part.
    pub cpu_s: f64,
}

/// A build through the grid.
pub struct GridBuild {
    /// What it took.
    pub cost: Cost,
    /// Where its compiles ran.
    pub tally: Tally,
    /// Objects that are not as the plain build's.
    pub different: Vec<PathBuf>,
}

/// All builds of a project.
pub struct Builds {
    /// What the plain one took.
    pub plain: Cost,
    /// How many objects it made.
    pub objects: usize,
    /// Through the grid, with the cache off: the workers know nothing yet.
    pub first: GridBuild,
    /// The same again.
    pub second: GridBuild,
    /// Out of the cache, which a build before it has filled.
    pub warm: Option<GridBuild>,
}

/// Measures `project`, whose sources are in `tarball`; `warm`: with the cache, too.
///
/// # Errors
/// Words: a step failed.
pub fn measure(
    project: &Project,
    tarball: &Path,
    programs: &Programs,
    warm: bool,
) -> Result<Builds, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("a folder: {error}"))?;
    let bench = Bench {
        project,
        programs,
        folder,
    };
    bench.configure(tarball, false)?;
    let (plain, objects) = bench.plain()?;
    bench.configure(tarball, true)?;
    let grid = Grid::start(programs, WORKERS, SLOTS);
    let first = bench.through(&grid, &objects, None)?;
    bench.clean()?;
    let second = bench.through(&grid, &objects, None)?;
    Ok(Builds {
        plain,
        objects: objects.len(),
        first,
        second,
        warm: match warm {
            true => Some(bench.warm(&grid, &objects)?),
            false => None,
        },
    })
}

struct Bench<'a> {
    project: &'a Project,
    programs: &'a Programs,
    folder: TempDir,
}

impl Bench<'_> {
    /// Where all builds are, one after the other: their paths are in the objects.
    fn tree(&self) -> PathBuf {
        self.folder.path().join(self.project.name)
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let home = self.folder.path().join("home");
        step::command(program, &self.tree(), &home, self.project.compiler)
    }

    /// Makes the tree anew and configures it. CMake writes the compiler's path into what
    /// it makes, past PATH: `launched` puts the client before it, by CMake's own means.
    fn configure(&self, tarball: &Path, launched: bool) -> Result<(), String> {
        let tree = self.tree();
        if tree.exists() {
            fs::remove_dir_all(&tree).map_err(|error| format!("{}: {error}", tree.display()))?;
        }
        unpack(tarball, &tree)?;
        for line in self.project.configure {
            let mut shell = self.command("sh");
            shell.args(["-c", line]);
            if launched {
                shell
                    .env("CMAKE_C_COMPILER_LAUNCHER", &self.programs.client)
                    .env("CMAKE_CXX_COMPILER_LAUNCHER", &self.programs.client);
            }
            step::run(&mut shell, STEP_TIME_MAX)?;
        }
        Ok(())
    }

    fn plain(&self) -> Result<(Cost, Objects), String> {
        let mut make = self.command("make");
        let cost = timed(self.make(&mut make, PLAIN_JOBS), &[])?;
        Ok((cost, self.objects()?))
    }

    fn make<'c>(&self, command: &'c mut Command, jobs: usize) -> &'c mut Command {
        let words = self.project.build.split_whitespace();
        command.arg(format!("-j{jobs}")).args(words)
    }

    fn clean(&self) -> Result<(), String> {
        let mut shell = self.command("sh");
        shell.args(["-c", self.project.clean]);
        step::run(&mut shell, STEP_TIME_MAX).map(drop)
    }

    /// Fills the cache by one build; the next one is the answer.
    fn warm(&self, grid: &Grid, plain: &Objects) -> Result<GridBuild, String> {
        let cache = self.folder.path().join("cache");
        self.clean()?;
        self.through(grid, plain, Some(&cache))?;
        self.clean()?;
        self.through(grid, plain, Some(&cache))
    }

    fn through(
        &self,
        grid: &Grid,
        plain: &Objects,
        cache: Option<&Path>,
    ) -> Result<GridBuild, String> {
        let log = self.folder.path().join("events.jsonl");
        // There is none before the first build.
        let _ = fs::remove_file(&log);
        let mut make = self.command(&self.programs.client);
        make.env("HG_LOCAL_SLOTS", "0").env("HG_EVENT_LOG", &log);
        if let Some(cache) = cache {
            make.env("HG_CACHE_DIR", cache)
                .env("HG_CACHE_MAX_SIZE", CACHE_MAX_SIZE);
        }
        self.make(grid.lead(&mut make).arg("make"), GRID_JOBS);
        let cost = timed(&mut make, &daemons(grid))?;
        Ok(GridBuild {
            cost,
            tally: Tally::of(&event::read(&log)),
            different: objects::differences(plain, &self.objects()?),
        })
    }

    fn objects(&self) -> Result<Objects, String> {
        objects::find(&self.tree()).map_err(|error| format!("objects: {error}"))
    }
}

fn daemons(grid: &Grid) -> Vec<u32> {
    let all = grid.workers.iter().chain([&grid.coordinator]);
    all.map(|daemon| daemon.pid().as_raw().unsigned_abs())
        .collect()
}

fn timed(command: &mut Command, daemons: &[u32]) -> Result<Cost, String> {
    let meter = Meter::start(daemons);
    let began = Instant::now();
    step::run(command, BUILD_TIME_MAX)?;
    Ok(Cost {
        wall_s: began.elapsed().as_secs_f64(),
        cpu_s: meter.used().as_secs_f64(),
    })
}
