//! What `hgbuild top` shows of a snapshot: lines of a screen, or a text. Names come from
//! anybody on the grid: nothing but plain characters of one column each gets into a line.
//! Pure.

use std::cmp::Ordering;
use std::collections::HashMap;

use hg_proto::table::table;
use hg_proto::v1::{Build, GetStatusResponse, RunningTask, Worker};

use super::keys::Key;
use super::snapshot::Snapshot;

/// Lines of builds at most.
const BUILDS_SHOWN_MAX: usize = 4;
/// Tasks of the chosen worker that are listed.
const TASKS_SHOWN_MAX: usize = 4;
/// Rows of a screen from which on the chosen worker is shown in detail.
const ROWS_OF_DETAIL: usize = 18;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As text does.
    Plain,
    /// The title, and heads of tables.
    Head,
    /// What counts most.
    Bold,
    /// Something is wrong.
    Bad,
    /// Something is unusual.
    Odd,
}

/// A line of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// One column for each character.
    pub text: String,
    /// How it looks.
    pub look: Look,
}

impl Line {
    fn new(look: Look, text: String) -> Self {
        Line { text, look }
    }

    fn plain(text: String) -> Self {
        Line::new(Look::Plain, text)
    }

    /// With escape sequences where `is_coloured`, `width` columns at most.
    pub fn drawn(&self, width: usize, is_coloured: bool) -> String {
        let text: String = clean(&self.text).chars().take(width).collect();
        let code = match self.look {
            Look::Plain => return text,
            Look::Head => "7",
            Look::Bold => "1",
            Look::Bad => "31",
            Look::Odd => "33",
        };
        match is_coloured {
            // To the end of the line.
            true if self.look == Look::Head => format!("\x1b[{code}m{text:<width$}\x1b[0m"),
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text,
        }
    }
}

/// A column of the table of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    Architecture,
    Busy,
    Load,
    Speed,
    State,
    Done,
    Failed,
}

const COLUMNS: [(Column, &str); 8] = [
    (Column::Name, "WORKER"),
    (Column::Architecture, "ARCH"),
    (Column::Busy, "BUSY"),
    (Column::Load, "LOAD"),
    (Column::Speed, "SPEED"),
    (Column::State, "STATE"),
    (Column::Done, "DONE"),
    (Column::Failed, "FAILED"),
];

impl Column {
    fn cell(self, worker: &Worker) -> String {
        let milli = |value: u32| format!("{:.2}", f64::from(value) / 1_000.0);
        match self {
            Column::Name => clean(&worker.id),
            Column::Architecture => clean(&worker.architecture),
            Column::Busy => format!("{}/{}", worker.running, worker.slots_now),
            Column::Load => milli(worker.load_milli),
            Column::Speed => milli(worker.speed_milli),
            Column::State => state(worker).to_owned(),
            Column::Done => worker.tasks_finished.to_string(),
            Column::Failed => worker.tasks_failed.to_string(),
        }
    }

    /// Names upward, numbers downward.
    fn order(self, a: &Worker, b: &Worker) -> Ordering {
        match self {
            Column::Name => a.id.cmp(&b.id),
            Column::Architecture => a.architecture.cmp(&b.architecture),
            Column::Busy => b.running.cmp(&a.running),
            Column::Load => b.load_milli.cmp(&a.load_milli),
            Column::Speed => b.speed_milli.cmp(&a.speed_milli),
            Column::State => state(a).cmp(state(b)),
            Column::Done => b.tasks_finished.cmp(&a.tasks_finished),
            Column::Failed => b.tasks_failed.cmp(&a.tasks_failed),
        }
    }
}

/// Whether tasks go there: its circuit breaker, audits, and whether it is to leave.
fn state(worker: &Worker) -> &'static str {
    match (worker.draining, worker.out, worker.circuit.as_str()) {
        (true, ..) => "draining",
        (_, true, _) if worker.paused => "paused",
        (_, true, _) => "out",
        (_, _, "open") => "open",
        (_, _, "half-open") => "half-open",
        _ => "closed",
    }
}

/// What the user has chosen to see.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// In [`COLUMNS`].
    sorted_by: usize,
    is_reversed: bool,
    /// The id of the chosen worker.
    chosen: Option<String>,
    /// Rows of the table that are above the screen.
    scrolled: usize,
    is_help: bool,
    /// Rows of the table on the screen, as drawn last.
    page: usize,
}

impl View {
    /// Does what `key` asks for. Gives whether that is to end.
    pub fn press(&mut self, key: Key, snapshot: &Snapshot) -> bool {
        let was_help = std::mem::take(&mut self.is_help);
        match key {
            Key::Char('q' | 'Q') if !was_help => return true,
            Key::Char('?' | 'h') => self.is_help = !was_help,
            Key::Char('s') => self.sorted_by = (self.sorted_by + 1) % COLUMNS.len(),
            Key::Char('S') => {
                self.sorted_by = (self.sorted_by + COLUMNS.len() - 1) % COLUMNS.len();
            }
            Key::Char('r') => self.is_reversed = !self.is_reversed,
            Key::Char('j') | Key::Down => self.step(1, snapshot),
            Key::Char('k') | Key::Up => self.step(-1, snapshot),
            Key::PageDown => self.step(self.page.cast_signed(), snapshot),
            Key::PageUp => self.step(-self.page.cast_signed(), snapshot),
            Key::Char('g') | Key::Home => self.step(isize::MIN / 2, snapshot),
            Key::Char('G') | Key::End => self.step(isize::MAX / 2, snapshot),
            _ => {}
        }
        false
    }

    fn sorted<'s>(&self, snapshot: &'s Snapshot) -> Vec<&'s Worker> {
        let mut workers: Vec<&Worker> = snapshot.workers.iter().collect();
        let column = COLUMNS[self.sorted_by].0;
        workers.sort_by(|a, b| {
            let order = column.order(a, b).then_with(|| a.id.cmp(&b.id));
            if self.is_reversed {
                order.reverse()
            } else {
                order
            }
        });
        workers
    }

    /// The row of the chosen worker; the first where that is gone.
    fn row(&self, workers: &[&Worker]) -> usize {
        let chosen = self.chosen.as_deref();
        let row = workers.iter().position(|it| Some(it.id.as_str()) == chosen);
        row.unwrap_or(0)
    }

    fn step(&mut self, by: isize, snapshot: &Snapshot) {
        let workers = self.sorted(snapshot);
        let row = self.row(&workers).saturating_add_signed(by);
        let row = row.min(workers.len().saturating_sub(1));
        self.chosen = workers.get(row).map(|worker| worker.id.clone());
    }

    /// The screen, of `size` columns and rows. `trouble`: why the snapshot is an old one.
    pub fn lines(
        &mut self,
        snapshot: &Snapshot,
        trouble: Option<&str>,
        (_, rows): (usize, usize),
    ) -> Vec<Line> {
        let mut lines = vec![
            Line::new(Look::Head, title(snapshot)),
            Line::new(Look::Bold, sums(&snapshot.status)),
        ];
        if let Some(why) = trouble {
            let why = format!("connection lost, dialling again: {why}");
            lines.push(Line::new(Look::Bad, why));
        }
        if self.is_help {
            lines.extend(help().map(|text| Line::plain(text.to_owned())));
            lines.truncate(rows);
            return lines;
        }
        let room = BUILDS_SHOWN_MAX.min(rows / 6);
        lines.extend(builds(&snapshot.builds, room).into_iter().map(Line::plain));
        lines.push(Line::plain(String::new()));
        let workers = self.sorted(snapshot);
        let chosen = self.row(&workers);
        let detail = match workers.get(chosen).filter(|_| rows >= ROWS_OF_DETAIL) {
            Some(worker) => detail(worker, &snapshot.running),
            None => Vec::new(),
        };
        let table = self.table(&workers, snapshot, chosen);
        // The head of the table, and the line of keys.
        let around = lines.len() + detail.len() + 2;
        self.page = rows.saturating_sub(around).max(1);
        let above_max = workers.len().saturating_sub(self.page);
        self.scrolled = self
            .scrolled
            .clamp((chosen + 1).saturating_sub(self.page), chosen)
            .min(above_max);
        let mut table = table.into_iter();
        lines.extend(table.next());
        let mut shown: Vec<Line> = table.skip(self.scrolled).take(self.page).collect();
        shown.resize(self.page, Line::plain(String::new()));
        lines.extend(shown);
        lines.extend(detail);
        lines.truncate(rows.saturating_sub(1));
        lines.push(Line::new(Look::Head, self.keys(workers.len())));
        lines
    }

    fn keys(&self, workers: usize) -> String {
        let order = COLUMNS[self.sorted_by].1;
        let reversed = if self.is_reversed { ", reversed" } else { "" };
        let hidden = match workers.saturating_sub(self.page) {
            0 => String::new(),
            more => format!("   {more} more above or below"),
        };
        format!(" q quit   s sort ({order}{reversed})   r reverse   j/k choose   ? help{hidden}")
    }

    /// A line for the head and one for each worker.
    fn table(&self, workers: &[&Worker], snapshot: &Snapshot, chosen: usize) -> Vec<Line> {
        let mut running: HashMap<&str, Vec<&RunningTask>> = HashMap::new();
        for task in &snapshot.running {
            running.entry(&task.worker).or_default().push(task);
        }
        let mut cells = vec![head(Some(self.sorted_by))];
        for worker in workers {
            let tasks = running.get(worker.id.as_str());
            let what = match tasks {
                Some(tasks) => brief(tasks),
                None if !worker.last_error.is_empty() && state(worker) != "closed" => {
                    format!("last error: {}", clean(&worker.last_error))
                }
                None => String::new(),
            };
            cells.push(row(worker, what));
        }
        let text = table(&cells);
        let lines = text.lines().enumerate().map(|(at, text)| {
            let worker = at.checked_sub(1).map(|row| (row, workers[row]));
            let look = match worker {
                None => Look::Head,
                Some((_, worker)) if matches!(state(worker), "open" | "out") => Look::Bad,
                Some((_, worker)) if state(worker) != "closed" => Look::Odd,
                Some((row, _)) if row == chosen => Look::Bold,
                Some(_) => Look::Plain,
            };
            let mark = if worker.is_some_and(|(row, _)| row == chosen) {
                ">"
            } else {
                " "
            };
            Line::new(look, format!("{mark}{text}"))
        });
        lines.collect()
    }
}

/// All of `snapshot`, as text without a terminal.
pub fn text(snapshot: &Snapshot) -> String {
    let mut text = format!("{}\n{}\n", title(snapshot), sums(&snapshot.status));
    for build in builds(&snapshot.builds, usize::MAX) {
        text.push_str(&build);
        text.push('\n');
    }
    let mut running: HashMap<&str, Vec<&RunningTask>> = HashMap::new();
    for task in &snapshot.running {
        running.entry(&task.worker).or_default().push(task);
    }
    let mut names = head(None).to_vec();
    names.insert(COLUMNS.len(), "LAST ERROR".to_owned());
    let mut cells: Vec<[String; COLUMNS.len() + 2]> = vec![fixed(names)];
    let workers = View::default();
    for worker in workers.sorted(snapshot) {
        let tasks = running.get(worker.id.as_str());
        let mut cell = row(worker, tasks.map_or_else(String::new, |tasks| brief(tasks))).to_vec();
        let error = clean(&worker.last_error);
        cell.insert(
            COLUMNS.len(),
            if error.is_empty() {
                "-".to_owned()
            } else {
                error
            },
        );
        cells.push(fixed(cell));
    }
    text.push_str(&table(&cells));
    text
}

fn fixed<const N: usize>(cells: Vec<String>) -> [String; N] {
    cells
        .try_into()
        .unwrap_or_else(|_| std::array::from_fn(|_| String::new()))
}

fn head(sorted_by: Option<usize>) -> [String; COLUMNS.len() + 1] {
    std::array::from_fn(|at| match COLUMNS.get(at) {
        Some((_, name)) if sorted_by == Some(at) => format!("{name}*"),
        Some((_, name)) => (*name).to_owned(),
        None => "RUNS".to_owned(),
    })
}

fn row(worker: &Worker, runs: String) -> [String; COLUMNS.len() + 1] {
    std::array::from_fn(|at| match COLUMNS.get(at) {
        Some((column, _)) => column.cell(worker),
        None => runs.clone(),
    })
}

/// The sources of `tasks` by their names alone, and how long each is there.
fn brief(tasks: &[&RunningTask]) -> String {
    let one = |task: &&RunningTask| {
        let name = task.source.rsplit('/').next().unwrap_or_default();
        format!("{} {}", clean(name), seconds(task.since_ms))
    };
    tasks.iter().map(one).collect::<Vec<String>>().join(", ")
}

fn title(snapshot: &Snapshot) -> String {
    let status = &snapshot.status;
    let insecure = if status.insecure { "   INSECURE" } else { "" };
    format!(
        " hgbuild top   {}   version {}   up {}{insecure}",
        clean(&snapshot.address),
        clean(&status.version),
        duration(status.uptime_ms)
    )
}

fn sums(status: &GetStatusResponse) -> String {
    let now = status.slots_now.unwrap_or(status.slots);
    let (hits, misses) = (status.cache_hits_reported, status.cache_misses_reported);
    let asked = hits.saturating_add(misses);
    let share = match (u128::from(hits) * 100).checked_div(u128::from(asked)) {
        Some(percent) => format!("{percent}% of {asked}"),
        None => "none asked for".to_owned(),
    };
    format!(
        " workers {}   slots {}/{now} busy   queue {}   {:.1} compiles/s   cache hits {share}   \
         spared today {}",
        status.workers,
        status.slots_busy,
        status.queued,
        status.compiles_per_second_milli as f64 / 1_000.0,
        duration(status.saved_today_ms)
    )
}

/// A line for each build, those that go on first; what does not fit is counted.
fn builds(builds: &[Build], room: usize) -> Vec<String> {
    let mut sorted: Vec<&Build> = builds.iter().collect();
    sorted.sort_by_key(|build| (build.end.is_some(), build.open == 0));
    let mut lines: Vec<String> = sorted
        .iter()
        .take(room)
        .map(|build| line_of(build))
        .collect();
    let hidden = sorted.len().saturating_sub(room);
    if let Some(last) = lines.last_mut().filter(|_| hidden > 0) {
        last.push_str(&format!("   and {hidden} more"));
    }
    lines
}

fn line_of(build: &Build) -> String {
    let who = match build.holder.as_str() {
        "" => clean(&build.client),
        holder => format!("{} ({})", clean(&build.client), clean(holder)),
    };
    match &build.end {
        Some(end) => format!(
            " build {who}: ended, exit {}, {} remote, {} local, {} cached, in {}",
            end.exit_code,
            end.remote,
            end.local,
            end.cached,
            duration(end.wall_ms)
        ),
        None => format!(
            " build {who}: {} done, {} open, {} failed, for {}",
            build.finished,
            build.open,
            build.failed,
            duration(build.began_ms.saturating_sub(build.quiet_ms))
        ),
    }
}

/// All that is known of one worker, a line for each subject.
fn detail(worker: &Worker, running: &[RunningTask]) -> Vec<Line> {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let heat = match worker.temperature_milli_c {
        0 => String::new(),
        milli => format!(", {:.0} C", f64::from(milli) / 1_000.0),
    };
    let sandbox = match worker.sandbox.as_str() {
        "" => "?".to_owned(),
        level => clean(level),
    };
    let mut lines = vec![
        Line::plain(String::new()),
        Line::new(
            Look::Bold,
            format!(
                " {}: {} {}, {} cores, {:.1} of {:.1} GiB free{heat}",
                clean(&worker.id),
                clean(&worker.os),
                clean(&worker.architecture),
                worker.cores,
                gib(worker.memory_available_bytes),
                gib(worker.memory_bytes)
            ),
        ),
        Line::plain(format!(
            "   sandbox {sandbox}, {:.1} ms away, version {}, here for {}",
            f64::from(worker.round_trip_us) / 1_000.0,
            clean(&worker.version),
            duration(worker.connected_ms)
        )),
    ];
    if worker.slots_now < worker.slots {
        let why = clean(&worker.slots_why);
        let (now, all) = (worker.slots_now, worker.slots);
        lines.push(Line::new(
            Look::Odd,
            format!("   offers {now} of {all} slots: {why}"),
        ));
    }
    let tasks: Vec<&RunningTask> = running.iter().filter(|it| it.worker == worker.id).collect();
    for task in tasks.iter().take(TASKS_SHOWN_MAX) {
        let stage = if task.compiling {
            "compiles"
        } else {
            "gets inputs of"
        };
        let (source, client) = (clean(&task.source), clean(&task.client));
        let since = seconds(task.since_ms);
        lines.push(Line::plain(format!(
            "   {stage} {source} for {since} ({client})"
        )));
    }
    if tasks.len() > TASKS_SHOWN_MAX {
        let more = tasks.len() - TASKS_SHOWN_MAX;
        lines.push(Line::plain(format!("   and {more} more")));
    }
    if !worker.last_error.is_empty() {
        let error = clean(&worker.last_error);
        lines.push(Line::new(Look::Bad, format!("   last error: {error}")));
    }
    lines
}

fn help() -> [&'static str; 16] {
    [
        "",
        " q            quit (so does ^C)",
        " s  S         sort by the next column, by the one before; the head marks it with a *",
        " r            reverse the order",
        " j k, arrows  choose a worker: what is known of it stands below the table",
        " page up/down, g G (home, end)",
        " ?            this help; any key closes it",
        "",
        " BUSY    slots that compile, of those that the worker offers now",
        " LOAD    one-minute load average of its machine",
        " SPEED   of one core, against the reference core, as learned from compiles",
        " STATE   its circuit breaker: closed (it gets tasks), open, half-open; out: put out by",
        "         an audit; draining: it finishes what it has, and leaves",
        " RUNS    sources, and how long each has been there",
        " The hit rate is that of clients' own caches, as they report it; the rate of compiles",
        " is that of the last ten seconds.",
    ]
}

/// `ms` with a tenth of a second where it is short.
fn seconds(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{:.1}s", ms as f64 / 1_000.0),
        _ => format!("{}s", ms / 1_000),
    }
}

fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..100 => format!("{s} s"),
        100..6_000 => format!("{} min", s / 60),
        6_000..172_800 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        _ => format!("{} days", s / 86_400),
    }
}

/// `text` with one column for each character: what could move a terminal's cursor, change
/// the direction of writing, join others or be two columns wide is replaced.
pub fn clean(text: &str) -> String {
    let is_one_column = |c: char| {
        matches!(c,
            ' '..='~'
            | '\u{a1}'..='\u{ac}'
            | '\u{ae}'..='\u{2ff}'
            | '\u{370}'..='\u{377}'
            | '\u{37b}'..='\u{37f}'
            | '\u{384}'..='\u{3ff}'
            | '\u{400}'..='\u{482}'
            | '\u{48a}'..='\u{52f}')
    };
    text.chars()
        .map(|c| if is_one_column(c) { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(count: u32) -> Snapshot {
        let worker = |number: u32| Worker {
            id: format!("w{number:02}"),
            architecture: "x86_64".into(),
            slots: 4,
            slots_now: 4,
            running: number % 4,
            load_milli: number * 100,
            circuit: "closed".into(),
            ..Worker::default()
        };
        Snapshot {
            address: "grid.lan:9000".into(),
            workers: (0..count).map(worker).collect(),
            ..Snapshot::default()
        }
    }

    fn shown(view: &mut View, snapshot: &Snapshot, size: (usize, usize)) -> Vec<String> {
        let lines = view.lines(snapshot, None, size);
        lines.iter().map(|line| line.drawn(size.0, false)).collect()
    }

    #[test]
    fn every_screen_is_filled_and_never_overfull() {
        for rows in [1, 2, 3, 5, 10, 18, 24, 60] {
            for columns in [1, 10, 80, 300] {
                for count in [0, 1, 50] {
                    let mut view = View::default();
                    let lines = shown(&mut view, &snapshot(count), (columns, rows));
                    assert!(lines.len() <= rows.max(1), "{rows} rows: {lines:#?}");
                    assert!(lines.iter().all(|line| line.chars().count() <= columns));
                }
            }
        }
    }

    #[test]
    fn the_chosen_worker_stays_on_the_screen() {
        let snapshot = snapshot(50);
        let mut view = View::default();
        let size = (80, 24);
        shown(&mut view, &snapshot, size);
        for (key, chosen) in [
            (Key::Down, ">w01"),
            (Key::Char('j'), ">w02"),
            (Key::End, ">w49"),
            (Key::Up, ">w48"),
            (Key::Char('g'), ">w00"),
            (Key::Char('k'), ">w00"),
        ] {
            assert!(!view.press(key, &snapshot));
            let lines = shown(&mut view, &snapshot, size);
            assert!(
                lines.iter().any(|line| line.starts_with(chosen)),
                "{chosen}: {lines:#?}"
            );
        }
        assert!(view.press(Key::Char('q'), &snapshot));
    }

    #[test]
    fn the_order_is_that_of_the_column_and_may_be_reversed() {
        let snapshot = snapshot(4);
        let mut view = View::default();
        let mut firsts = Vec::new();
        for key in "sssr?".chars() {
            view.press(Key::Char(key), &snapshot);
            let workers = view.sorted(&snapshot);
            firsts.push(format!("{} {}", COLUMNS[view.sorted_by].1, workers[0].id));
        }
        assert_eq!(firsts[1..4], ["BUSY w03", "LOAD w03", "LOAD w00"]);
        assert!(
            shown(&mut view, &snapshot, (80, 24))
                .iter()
                .any(|line| line.contains("quit (so"))
        );
        // Any key closes the help, and does no more where that would end all.
        assert!(!view.press(Key::Char('q'), &snapshot));
        assert!(!view.is_help);
    }

    #[test]
    fn names_of_others_are_plain_text() {
        let evil = "pi\u{1b}[2J\u{9b}31m\u{202e}\n\u{200b}漢é";
        let mut snapshot = snapshot(1);
        let worker = &mut snapshot.workers[0];
        for field in [
            &mut worker.id,
            &mut worker.architecture,
            &mut worker.last_error,
            &mut worker.os,
            &mut worker.version,
            &mut worker.sandbox,
        ] {
            *field = evil.to_owned();
        }
        worker.circuit = "open".into();
        snapshot.running.push(RunningTask {
            source: evil.into(),
            worker: evil.into(),
            client: evil.into(),
            ..RunningTask::default()
        });
        snapshot.builds.push(Build {
            client: evil.into(),
            holder: evil.into(),
            ..Build::default()
        });
        snapshot.status.version = evil.into();
        let lines = View::default().lines(&snapshot, Some(evil), (200, 40));
        for line in lines {
            let drawn = line.drawn(200, false);
            assert_eq!(drawn, clean(&drawn));
        }
        let text = text(&snapshot);
        assert!(text.lines().all(|line| line == clean(line)), "{text}");
        assert!(text.contains("pi?[2J?31m????é"), "{text}");
    }

    #[test]
    fn without_colours_there_is_no_escape() {
        let line = Line::new(Look::Bad, "x".into());
        assert_eq!(line.drawn(5, true), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(line.drawn(5, false), "x");
    }
}
