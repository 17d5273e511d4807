//! `hgbuild explain FILE`: where the last compile of a source went, why, how long it took,
//! and what helps where it stayed here.

use std::path::Path;
use std::time::SystemTime;

use hg_proto::reasons::{self, Meaning};
use serde_json::{Value, json};

use crate::commands::history;
use crate::compile::events::{Event, GRID_HAD_IT, Origin, printable};
use crate::config::Config;
use crate::say;

/// Explains the last compile of `file`. Returns the exit code.
pub fn explain(config: &Config, file: &Path, as_json: bool) -> i32 {
    let Some((event, path)) = history::last_compile(config, file) else {
        say::warn(format_args!(
            "{}: no compile of it is known. Those of 'hgbuild make' (or ninja, --) are, and what \
             HG_EVENT_LOG has; 'hgbuild explain -- COMPILER ARGS' asks the cache.",
            printable(&file.to_string_lossy())
        ));
        return 1;
    };
    match as_json {
        true => say::answer(format_args!("{}\n", object(&event, &path))),
        false => say::answer(text(&event, &path)),
    }
}

/// What is known of the code of `reason`.
fn meaning(reason: &str) -> Option<&'static Meaning> {
    reasons::find(reasons::code_of(reason))
}

fn object(event: &Event<'_>, path: &Path) -> Value {
    let mut all = serde_json::to_value(event).unwrap_or_default();
    let of = |reason: &str| meaning(reason).map(|its| (its.meaning, its.advice)).unzip();
    let (means, helps) = of(&event.reason);
    all["path"] = json!(path.to_string_lossy());
    all["meaning"] = json!(means);
    all["advice"] = json!(helps);
    if let Some(why) = &event.not_kept {
        let (means, helps) = of(why);
        all["not_kept_meaning"] = json!(means);
        all["not_kept_advice"] = json!(helps);
    }
    all
}

fn text(event: &Event<'_>, path: &Path) -> String {
    let mut rows = vec![
        ("compiled", when(&event.time)),
        ("by", event.compiler.clone()),
        ("where", whereabouts(event)),
        ("took", times(event)),
    ];
    if event.exit != 0 {
        rows.push(("exit code", event.exit.to_string()));
    }
    reason_rows(&mut rows, ["reason", "means", "helps"], &event.reason);
    if let Some(why) = &event.not_kept {
        reason_rows(&mut rows, ["not kept", "means", "helps"], why);
    }
    let mut text = printable(&path.to_string_lossy()) + "\n";
    for (name, value) in rows {
        text.push_str(&format!("  {name:<10} {}\n", printable(&value)));
    }
    text
}

fn reason_rows(rows: &mut Vec<(&'static str, String)>, names: [&'static str; 3], reason: &str) {
    rows.push((names[0], reason.to_owned()));
    if let Some(its) = meaning(reason) {
        rows.push((names[1], its.meaning.to_owned()));
        rows.push((names[2], its.advice.to_owned()));
    }
}

fn whereabouts(event: &Event<'_>) -> String {
    match (event.origin, &event.worker) {
        (Origin::Remote, Some(worker)) if event.reason == GRID_HAD_IT => {
            format!("remote, kept by the coordinator since {worker} compiled it")
        }
        (Origin::Remote, Some(worker)) => {
            let form = event.form.as_deref().unwrap_or("?");
            format!("remote, on {worker} (form: {form})")
        }
        (Origin::Remote, None) => "remote".to_owned(),
        (Origin::Cache, _) => "cache".to_owned(),
        (Origin::Local, Some(worker)) => format!("local, after it was with {worker}"),
        (Origin::Local, None) => "local".to_owned(),
    }
}

fn times(event: &Event<'_>) -> String {
    let wall = format!("{} ms", event.wall_ms);
    match event.remote_ms {
        0 => wall,
        remote => format!(
            "{wall}, {remote} ms of it with the grid ({} ms queued), {} bytes up, {} down",
            event.queue_ms, event.bytes_up, event.bytes_down
        ),
    }
}

/// The time as it is written, and how long ago that is.
fn when(time: &str) -> String {
    let then = humantime::parse_rfc3339_weak(time).ok();
    let ago = then.and_then(|then| SystemTime::now().duration_since(then).ok());
    match ago {
        Some(ago) => format!("{time}, {} ago", rough(ago.as_secs())),
        None => time.to_owned(),
    }
}

/// `seconds` in one unit.
fn rough(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
