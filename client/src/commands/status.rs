//! `hgbuild status` and `hgbuild workers`: the coordinator's answers as tables
//! or JSON.

use hg_proto::v1::{
    GetStatusRequest, GetStatusResponse, ListWorkersRequest, ListWorkersResponse, Machine,
    Toolchain, Worker,
};
use prost::Message;
use serde_json::{Value, json};

use crate::compile::events::printable;
use crate::compile::report;
use crate::config::Config;
use crate::grid::find;
use crate::grid::grpc::Tasks;
use crate::say;

/// Milliseconds that an answer may take.
const ANSWER_MS_MAX: u64 = 3_000;

/// Prints what the grid is and does. Gives an exit code.
pub fn status(config: &Config, as_json: bool) -> i32 {
    // So that its count is of now.
    report::report_hits(config);
    let answer: Result<(String, GetStatusResponse), String> =
        ask(config, "GetStatus", &GetStatusRequest {});
    if as_json {
        let written = say::answer(format_args!("{}\n", status_json(config, &answer)));
        return i32::from(answer.is_err()).max(written);
    }
    match answer {
        Ok((address, status)) => say::answer(status_text(&address, &status)),
        Err(why) => {
            say::warn(why);
            1
        }
    }
}

/// Prints the workers. Gives an exit code.
pub fn workers(config: &Config, as_json: bool) -> i32 {
    let answer: Result<(String, ListWorkersResponse), String> =
        ask(config, "ListWorkers", &ListWorkersRequest::default());
    match answer.map(|(_, list)| list) {
        Ok(list) if as_json => {
            let all: Vec<Value> = list.workers.iter().map(hg_proto::json::worker).collect();
            say::answer(format_args!("{}\n", Value::Array(all)))
        }
        Ok(list) => say::answer(workers_text(&list.workers)),
        Err(why) => {
            say::warn(why);
            1
        }
    }
}

/// The coordinator's answer, and where it is.
fn ask<Q: Message, A: Message + Default>(
    config: &Config,
    method: &str,
    question: &Q,
) -> Result<(String, A), String> {
    let tasks = Tasks::new();
    let mut connection = find::to_grid(config, &tasks)?;
    let answer = tasks.run(connection.call(method, question, ANSWER_MS_MAX));
    let answer = answer.map_err(|error| error.to_string())?;
    Ok((connection.address().to_owned(), answer))
}

fn status_json(config: &Config, answer: &Result<(String, GetStatusResponse), String>) -> Value {
    match answer {
        Err(why) => json!({ "coordinator": config.coordinator, "error": why }),
        Ok((address, status)) => {
            let mut listed = hg_proto::json::status(status);
            listed["coordinator"] = json!(address);
            listed
        }
    }
}

fn status_text(address: &str, status: &GetStatusResponse) -> String {
    let rows = [
        ("coordinator", address.to_owned()),
        ("version", printable(&status.version)),
        ("up", format!("{} s", status.uptime_ms / 1000)),
        ("workers", status.workers.to_string()),
        ("slots", slots(status)),
        ("queued", status.queued.to_string()),
        ("tasks", ended(status)),
        ("cache hits", status.cache_hits_reported.to_string()),
        ("links", links(status.insecure).to_owned()),
    ];
    rows.iter()
        .map(|(name, value)| format!("{name:<12} {value}\n"))
        .collect()
}

/// The sums of the table of workers, whose machines may bear fewer than they have.
fn slots(status: &GetStatusResponse) -> String {
    let now = status.slots_now.unwrap_or(status.slots);
    let busy = format!("{} of {now} busy", status.slots_busy);
    match status.slots.saturating_sub(now) {
        0 => busy,
        fewer => format!("{busy}, {fewer} fewer than there are"),
    }
}

fn ended(status: &GetStatusResponse) -> String {
    let ended = format!(
        "{} finished, {} failed",
        status.tasks_finished, status.tasks_failed
    );
    match status.tasks_cancelled {
        0 => ended,
        cancelled => format!("{ended}, {cancelled} cancelled"),
    }
}

fn links(insecure: bool) -> &'static str {
    match insecure {
        true => "INSECURE: not encrypted, and nobody is asked who they are",
        false => "encrypted, by invitation only",
    }
}

fn workers_text(workers: &[Worker]) -> String {
    let mut table = vec![
        [
            "NAME",
            "ARCH",
            "CORES",
            "SLOTS",
            "SPEED",
            "LOAD",
            "MEMORY FREE",
            "TASKS",
            "FAILED",
            "SANDBOX",
            "TOOLCHAINS",
            "STATE",
        ]
        .map(str::to_owned),
    ];
    for worker in workers {
        table.push([
            printable(&worker.id),
            printable(&architecture(worker)),
            worker.cores.to_string(),
            format!("{}/{}", worker.running, worker.slots_now),
            format!("{:.2}", f64::from(worker.speed_milli) / 1000.0),
            format!("{:.2}", f64::from(worker.load_milli) / 1000.0),
            format!("{} MiB", worker.memory_available_bytes >> 20),
            worker.tasks_finished.to_string(),
            worker.tasks_failed.to_string(),
            sandbox(worker),
            toolchains(worker),
            state(worker),
        ]);
    }
    hg_proto::table::table(&table)
}

/// What its programs run on, and what that runs on where it is something else.
fn architecture(worker: &Worker) -> String {
    let machine = worker.machine.as_ref();
    let said = |text: fn(&Machine) -> &String| machine.map_or("", |machine| text(machine));
    let own = &worker.architecture;
    match (said(|m| &m.kernel_architecture), said(|m| &m.emulator)) {
        ("", "") => own.clone(),
        (kernel, "") => format!("{own} on {kernel}"),
        (_, emulator) => format!("{own} by {emulator}"),
    }
}

/// How many it has of its own, and how many clients gave it.
fn toolchains(worker: &Worker) -> String {
    let all = worker.toolchains.len();
    let is_given = |toolchain: &&Toolchain| !toolchain.shipment.is_empty();
    match worker.toolchains.iter().filter(is_given).count() {
        0 => all.to_string(),
        given => format!("{}, {given} given", all - given),
    }
}

/// What holds compiles there; a worker of an older version does not say.
fn sandbox(worker: &Worker) -> String {
    match worker.sandbox.as_str() {
        "" => "?".to_owned(),
        level => printable(level),
    }
}

/// Whether tasks go there, and why fewer than there are slots.
fn state(worker: &Worker) -> String {
    let mut state = match (worker.draining, worker.circuit.as_str()) {
        (true, _) => "draining".to_owned(),
        (false, "open") => "failing".to_owned(),
        (false, "half-open") => "on probation".to_owned(),
        (false, _) => "ready".to_owned(),
    };
    if worker.shut_for_holders > 0 {
        let count = worker.shut_for_holders;
        state.push_str(&format!(", failing for {count} holder(s) of tokens alone"));
    }
    if worker.slots_now < worker.slots && !worker.draining {
        let why = printable(&worker.slots_why);
        state.push_str(&format!(
            ", {} slots fewer",
            worker.slots - worker.slots_now
        ));
        if !why.is_empty() {
            state.push_str(&format!(": {why}"));
        }
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_and_no_escapes() {
        let worker = Worker {
            id: "pi\u{1b}[31m".into(),
            slots: 4,
            slots_now: 3,
            slots_why: "heat".into(),
            circuit: "open".into(),
            sandbox: "full\n".into(),
            architecture: "arm".into(),
            machine: Some(Machine {
                kernel_architecture: "aarch64\u{1b}".into(),
                ..Machine::default()
            }),
            ..Worker::default()
        };
        let text = workers_text(&[worker]);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\u{1b}'));
        assert!(text.contains("0/3") && text.contains("full\u{fffd}"));
        assert!(text.contains("arm on aarch64\u{fffd}"), "{text}");
        assert!(text.contains("failing, 1 slots fewer: heat"));
    }
}
